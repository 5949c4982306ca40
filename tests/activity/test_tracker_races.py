"""Recording while flushing, from many threads: no touch is lost and none is left behind."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Protocol

import pytest

from lastseen import ActivityTracker, ClientActivity, Outcome, StoreUnavailable, TrackerSettings
from lastseen.activity import buffer, tracker
from lastseen.clock import utc
from lastseen.testing import ManualClock
from tests.activity.recorders import Book

THREADS = 4
ROUNDS = 6_000
KEYS = [f"key-{number}" for number in range(5)]
YIELDING = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD", "FOR_ITER", "YIELD", "SEND", "IMPORT")


class Recording(Protocol):
    def record(self, key: str, at: float) -> object: ...
    def flush(self) -> object: ...


class NaiveTracker:
    """What everybody writes first: a dictionary that the flush swaps for a new one."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._waiting: dict[str, float] = {}

    def record(self, key: str, at: float) -> None:
        waiting = self._waiting
        if at > waiting.get(key, 0.0):
            waiting[key] = at

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._book.batch_record_activity({key: utc(at) for key, at in dict(waiting).items()})


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    yield
    sys.setswitchinterval(before)


def lost_touches(subject: Recording, book: Book) -> int:
    """Record from threads, flushing all the while; count the keys whose latest time was not written in the end."""
    running = threading.Event()
    start = threading.Barrier(THREADS + 1)

    def record(thread: int) -> None:
        start.wait()
        for number in range(ROUNDS):
            subject.record(KEYS[number % len(KEYS)], 1_000.0 + number * THREADS + thread)

    def flush() -> None:
        start.wait()
        while not running.is_set():
            subject.flush()

    threads = [threading.Thread(target=record, args=(number,)) for number in range(THREADS)]
    flusher = threading.Thread(target=flush)
    for thread in [*threads, flusher]:
        thread.start()
    for thread in threads:
        thread.join()
    running.set()
    flusher.join()
    subject.flush()
    last = {key: max(n for n in range(ROUNDS) if KEYS[n % len(KEYS)] == key) for key in KEYS}
    latest = {key: utc(1_000.0 + last[key] * THREADS + THREADS - 1) for key in KEYS}
    return sum(book.times.get(key) != latest[key] for key in KEYS)


def quiet_tracker(book: Book) -> ActivityTracker:
    return ActivityTracker(book, TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None))


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("atomic", [True, False], ids=["lock-free", "locked"])
def test_no_touch_is_lost_and_none_left_behind(atomic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key ends with the latest time of any thread, on both kinds of interpreter, in every round."""
    monkeypatch.setattr(tracker, "_READ_COMPARE_STORE_IS_ATOMIC", atomic)
    for _ in range(5):
        book = Book()
        subject = quiet_tracker(book)
        assert lost_touches(subject, book) == 0
        assert subject.health().buffer_size == 0
        subject.close()


@pytest.mark.usefixtures("switching_often")
def test_the_stress_finds_what_a_naive_tracker_loses() -> None:
    """The control: the same stress loses touches of a tracker that swaps its dictionary."""
    for _ in range(200):
        book = Book()
        if lost_touches(NaiveTracker(book), book):
            return
    pytest.fail("the stress did not lose a touch of the naive tracker; it proves nothing")


def instructions_between_read_and_store(function: Callable[..., object]) -> list[str]:
    """Return the names of the instructions from the look at what is pending to the store of the new time."""
    instructions = list(dis.get_instructions(function))
    store = max(position for position, one in enumerate(instructions) if one.opname == "STORE_SUBSCR")
    looks = [position for position, one in enumerate(instructions) if one.argval == "pending"]
    reads = [
        position
        for position, one in enumerate(instructions[:store])
        if one.opname == "BINARY_SUBSCR" or (one.opname == "BINARY_OP" and one.argrepr == "[]")
    ]
    return [one.opname for one in instructions[min(looks, default=max(reads)) + 1 : store]]


@pytest.mark.parametrize("function", [ActivityTracker.record, buffer.merge_newer])
def test_nothing_can_come_between_read_and_store(function: Callable[..., object]) -> None:
    """The lock-free path has no instruction at which CPython hands its lock to another thread."""
    between = instructions_between_read_and_store(function)
    assert "COMPARE_OP" in between
    assert not [name for name in between if name.startswith(YIELDING)]


def test_the_hour_cannot_turn_between_the_look_at_it_and_the_store() -> None:
    """Clients are recorded without a lock only within the current hour, and nothing comes between the two."""
    instructions = list(dis.get_instructions(ClientActivity.record))
    looked = min(position for position, one in enumerate(instructions) if one.argval == "_times")
    stored = max(position for position, one in enumerate(instructions) if one.opname == "STORE_SUBSCR")
    between = [one.opname for one in instructions[looked:stored]]
    assert "COMPARE_OP" in between
    assert not [name for name in between if name.startswith(YIELDING)]


@pytest.mark.parametrize("function", [ActivityTracker._record_first, ClientActivity._record_first])
def test_nothing_can_come_between_the_look_for_room_and_the_store(function: Callable[..., object]) -> None:
    """A new key is put in without the lock only while there is room, and nothing comes between the two."""
    instructions = list(dis.get_instructions(function))
    looked = min(position for position, one in enumerate(instructions) if one.argval in {"room", "_began"})
    stored = max(position for position, one in enumerate(instructions) if one.opname == "STORE_SUBSCR")
    between = [one.opname for one in instructions[looked:stored]]
    assert "STORE_ATTR" in between
    assert not [name for name in between if name.startswith(YIELDING)]


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("limit", [None, 7])
def test_threads_with_new_keys_never_pass_the_bound(limit: int | None) -> None:
    """However threads bring new keys, exactly as many are accepted as there is room for, and they are written."""
    for _ in range(20):
        book = Book()
        book.failure = StoreUnavailable("gone")
        settings = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=limit, max_pending=50)
        subject = ActivityTracker(book, settings, clock=ManualClock())
        start = threading.Barrier(THREADS)
        accepted: list[str] = []

        def record(
            thread: int,
            subject: ActivityTracker = subject,
            start: threading.Barrier = start,
            ours: list[str] = accepted,
        ) -> None:
            start.wait()
            keys = [f"{thread}-{number}" for number in range(40)]
            ours += [key for key in keys if subject.record(key, 1_000.0) is Outcome.ACCEPTED]

        threads = [threading.Thread(target=record, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        health = subject.health()
        assert (len(accepted), health.buffer_size, health.dropped) == (50, 50, 4 * 40 - 50)
        book.failure = None
        subject.flush()
        assert sorted(book.times) == sorted(accepted)
        subject.close()


def test_the_bytecode_guard_sees_a_call() -> None:
    """The control: a merge by `max()` has a call between read and store, and the guard finds it."""

    def merge(times: dict[str, float], key: str, at: float) -> None:
        times[key] = max(times[key], at)

    between = instructions_between_read_and_store(merge)
    assert [name for name in between if name.startswith(YIELDING)]


def test_a_finalizer_may_record_while_the_tracker_is_inside_its_lock() -> None:
    """Recording from a signal handler or a finalizer of the same thread does not hang."""
    book = Book()
    subject = quiet_tracker(book)
    with subject.lock:
        subject.record("inner")
    subject.flush()
    assert "inner" in book.times
    subject.close()
