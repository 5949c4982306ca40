"""The tracker: record in memory, write in batches, lose nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from lastseen import ActivityTracker, FlushError, HealthStatus, MissingAbility, Outcome, TrackerSettings
from lastseen.activity.backoff import jittered, retry_delay
from lastseen.activity.tracker import SIZE_FLUSH_SPACING
from lastseen.clock import utc
from lastseen.errors import ConfigurationError, InvalidData, SchemaError, StoreUnavailable
from lastseen.testing import ManualClock, moment
from tests.activity.recorders import Book
from tests.server.running import eventually

ALONE = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)
"""Only flushes on demand."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(moment().timestamp())


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def tracker(book: Book, clock: ManualClock) -> Iterator[ActivityTracker]:
    tracker = ActivityTracker(book, ALONE, clock=clock)
    yield tracker
    book.gate.set()
    tracker.close()


def let_pass(clock: ManualClock, seconds: float) -> None:
    """Let time pass for the flush thread, which may have something to do before it waits."""
    eventually(lambda: clock.waiting, "the flush thread waits")
    clock.advance(seconds)


def test_what_was_recorded_is_written_once_with_its_latest_time(tracker: ActivityTracker, book: Book) -> None:
    """Ten thousand touches of one key are one row of one batch."""
    for second in range(10_000):
        assert tracker.record("a", moment(-second)) is Outcome.ACCEPTED
    result = tracker.flush()
    assert (result.updated_count, result.batch_size) == (1, 1)
    assert book.batches == [{"a": moment()}]
    assert tracker.flush().batch_size == 0


def test_the_clock_gives_the_time_when_nobody_else_does(
    tracker: ActivityTracker, book: Book, clock: ManualClock
) -> None:
    """Without a time the activity is now; an older time recorded later does not win."""
    tracker.record("a")
    clock.advance(3)
    tracker.record("a")
    tracker.record("a", clock.now() - 100)
    tracker.flush()
    assert book.times["a"] == clock.utc()


@pytest.mark.parametrize(
    "key", ["", "x" * 256, "nul\0", "line\n", "\x7f", "\x85", "\ud800", 7, None, b"bytes", [], {}, object(), 1.5]
)
def test_a_bad_key_is_refused_and_counted(tracker: ActivityTracker, book: Book, key: Any) -> None:
    """Neither an exception nor a row; also where the wrong thing cannot even be hashed."""
    assert tracker.record(key) is Outcome.REJECTED
    assert tracker.record(key) is Outcome.REJECTED
    assert tracker.health().rejected == 2
    assert tracker.flush().batch_size == 0


@pytest.mark.parametrize(
    "at",
    [datetime(2026, 1, 1), -1, float("nan"), float("inf"), True, "now", [], Decimal(2**31), Fraction(2**31)],  # noqa: DTZ001
)
def test_a_bad_time_is_refused_and_counted(tracker: ActivityTracker, at: Any) -> None:
    """A naive, impossible or senseless time is no activity, and changes nothing that waits."""
    assert tracker.record("a", at) is Outcome.REJECTED
    tracker.record("a", moment(-5))
    tracker.record("a", at)
    expected = tracker._latest_moment() if at == float("inf") else moment(-5).timestamp()
    assert tracker.waiting("a") == utc(expected)
    assert tracker.health().rejected >= 1
    assert tracker.flush().updated_count == 1, "it is in nobody's way"


def test_string_subclasses_are_their_text(tracker: ActivityTracker, book: Book) -> None:
    """A key that is a kind of string is stored as the plain string."""

    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    tracker.record(Name("a"))
    tracker.flush()
    assert list(book.times) == ["a"]
    assert type(next(iter(book.times))) is str


def test_a_time_in_the_future_is_clamped(tracker: ActivityTracker, book: Book, clock: ManualClock) -> None:
    """One wrong clock cannot keep a key fresh for ever: now plus five seconds is the most, for readers too."""
    tracker.record("a", clock.now() + 3600)
    tracker.record("b", clock.now() + 4)
    tracker.record("c", datetime.max.replace(tzinfo=UTC) - timedelta(days=1))
    latest = clock.utc() + timedelta(seconds=5)
    assert tracker.waiting("a") == latest
    tracker.flush()
    assert book.times == {"a": latest, "b": latest - timedelta(seconds=1), "c": latest}


def test_batches_are_sorted_bytewise_and_cut_into_chunks(book: Book, clock: ManualClock) -> None:
    """Two writers that sort never deadlock; the order is that of the UTF-8 bytes."""
    tracker = ActivityTracker(
        book, TrackerSettings(chunk_size=2, max_buffer_size=None, flush_interval=timedelta(hours=1)), clock=clock
    )
    keys = ["é", "a", "Z", "\uffff", "😀", "zz"]
    for key in keys:
        tracker.record(key)
    tracker.flush()
    written = [key for batch in book.batches for key in batch]
    assert written == sorted(keys, key=str.encode)
    assert [len(batch) for batch in book.batches] == [2, 2, 2]
    tracker.close()


def test_a_process_sees_its_own_records(tracker: ActivityTracker, book: Book) -> None:
    """What waits can be asked for, also while its batch is in flight, until it is written."""
    tracker.record("a", moment(-9))
    assert tracker.waiting("a") == moment(-9)
    book.gate.clear()
    flusher = threading.Thread(target=tracker.flush)
    flusher.start()
    assert book.entered.wait(30)
    assert tracker.waiting("a") == moment(-9)
    tracker.record("a", moment(-5))
    assert tracker.waiting("a") == moment(-5)
    book.gate.set()
    flusher.join()
    tracker.flush()
    assert tracker.waiting("a") is None
    assert book.times["a"] == moment(-5)


def test_it_writes_by_interval(book: Book, clock: ManualClock) -> None:
    """When the interval has passed, what waits is written without being asked for."""
    tracker = ActivityTracker(book, TrackerSettings(max_buffer_size=None), clock=clock)
    tracker.record("a")
    let_pass(clock, 1.2)
    book.wait_for("a")
    tracker.record("b")
    let_pass(clock, 1.2)
    book.wait_for("b")
    tracker.close()


def test_it_writes_by_size_and_what_arrives_meanwhile_goes_into_the_next_batch(book: Book, clock: ManualClock) -> None:
    """The size trigger needs no clock; batches grow by themselves while one is written."""
    settings = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=3)
    flushed = threading.Semaphore(0)
    tracker = ActivityTracker(book, settings, clock=clock, on_flush=lambda result: flushed.release())
    book.gate.clear()
    for key in "abc":
        tracker.record(key)
    assert book.entered.wait(30)
    for key in "defghijk":
        tracker.record(key)
    book.gate.set()
    assert flushed.acquire(timeout=30)
    let_pass(clock, SIZE_FLUSH_SPACING)
    book.wait_for(*"abcdefghijk")
    assert [len(batch) for batch in book.batches] == [3, 8]
    tracker.close()


def test_flushes_by_size_keep_a_distance(book: Book, clock: ManualClock) -> None:
    """Batches follow each other by a fifth of a second however fast keys arrive, and grow; a close does not wait."""
    settings = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=2)
    flushed = threading.Semaphore(0)
    tracker = ActivityTracker(book, settings, clock=clock, on_flush=lambda result: flushed.release())
    for key in "ab":
        tracker.record(key)
    assert flushed.acquire(timeout=30)
    for key in "cdefgh":
        tracker.record(key)
    assert len(book.batches) == 1
    let_pass(clock, SIZE_FLUSH_SPACING)
    assert flushed.acquire(timeout=30)
    assert [len(batch) for batch in book.batches] == [2, 6]
    for key in "ij":
        tracker.record(key)
    assert tracker.close() == 0
    assert [len(batch) for batch in book.batches] == [2, 6, 2]


def test_without_a_size_limit_only_the_interval_writes(book: Book, clock: ManualClock) -> None:
    """`max_buffer_size=None` switches the size trigger off."""
    tracker = ActivityTracker(book, ALONE, clock=clock)
    for number in range(1_000):
        tracker.record(f"key-{number}")
    assert book.attempts == 0
    assert tracker.flush().batch_size == 1_000
    tracker.close()


def test_a_failed_flush_loses_nothing(tracker: ActivityTracker, book: Book) -> None:
    """The entries come back, never over a newer time, and the caller of flush is told."""
    tracker.record("a", moment(-9))
    tracker.record("b", moment(-9))
    book.failure = StoreUnavailable("gone")
    with pytest.raises(FlushError, match="gone") as raised:
        tracker.flush()
    assert raised.value.batch_size == 2
    assert raised.value.__cause__ is book.failure
    tracker.record("a", moment(-5))
    tracker.record("b", moment(-50))
    book.failure = None
    assert tracker.flush().updated_count == 2
    assert book.times == {"a": moment(-5), "b": moment(-9)}


def test_ten_minutes_of_outage_are_at_most_25_attempts(book: Book, clock: ManualClock) -> None:
    """Retries back off whatever the load; afterwards everything drains. The attempts are made by the real thread."""
    book.failure = StoreUnavailable("gone")
    failed: list[FlushError] = []
    told = threading.Semaphore(0)

    def tell(error: FlushError) -> None:
        failed.append(error)
        told.release()

    tracker = ActivityTracker(
        book, TrackerSettings(max_buffer_size=2), clock=clock, on_flush_error=tell, random=lambda: 0.0
    )
    tracker.record("a")
    let_pass(clock, 1)
    assert told.acquire(timeout=30)
    for attempt in range(1, 6):
        for number in range(100):
            tracker.record(f"{attempt}-{number}")
        assert len(failed) == attempt
        let_pass(clock, 2.0 ** (attempt - 1))
        assert told.acquire(timeout=30)
    health = tracker.health()
    assert (health.status, health.consecutive_failures, health.buffer_size) == (HealthStatus.DEGRADED, 6, 501)
    book.failure = None
    let_pass(clock, 30)
    book.wait_for("a", "5-99")
    tracker.close()
    assert len(book.times) == 501


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
def test_the_back_off_bounds_attempts(dice: float) -> None:
    """1, 2, 4 … 30 seconds; ten minutes hold at most 25 attempts, whatever the jitter."""
    assert [retry_delay(failures, lambda: 0.0) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    passed, attempts = 0.0, 1
    while (passed := passed + retry_delay(attempts, lambda: dice)) <= 600:
        attempts += 1
    assert attempts <= 25


def test_the_interval_is_jittered_by_a_fifth() -> None:
    """Processes that start together do not beat together."""
    assert [jittered(10, iter([dice]).__next__) for dice in (0.0, 0.5, 1.0)] == [8, 10, 12]


def test_one_poison_key_does_not_hold_up_the_others(tracker: ActivityTracker, book: Book, caplog: Any) -> None:
    """The batch is split until the bad key stands alone; that one is dropped, counted and logged once."""
    for number in range(100):
        tracker.record(f"key-{number:02}")
    book.refused = {"key-37": InvalidData("too long"), "key-99": InvalidData("too long")}
    with caplog.at_level(logging.WARNING, logger="lastseen"):
        result = tracker.flush()
    assert result.updated_count == 98
    assert result.poison == ("key-37", "key-99")
    assert tracker.health().poison == 2
    assert [record.getMessage() for record in caplog.records] == [
        "dropped poison key key='key-37' error=too long",
        "dropped poison key key='key-99' error=too long",
    ]
    assert tracker.flush().batch_size == 0


def test_a_failure_in_the_middle_of_a_split_keeps_the_rest(tracker: ActivityTracker, book: Book) -> None:
    """Poison and an outage at once: what was written is forgotten, the rest waits."""
    for key in "abcd":
        tracker.record(key)
    book.refused = {"b": InvalidData("bad"), "d": StoreUnavailable("gone")}
    with pytest.raises(FlushError, match="gone"):
        tracker.flush()
    book.refused = {}
    tracker.flush()
    assert sorted(book.times) == ["a", "c", "d"]


def test_a_wrong_schema_turns_the_health_red_and_keeps_everything(tracker: ActivityTracker, book: Book) -> None:
    """Red at once, with the words of the store; mended, it recovers and writes what waited."""
    tracker.record("a")
    book.failure = SchemaError("no such table; run: lastseen migrate")
    with pytest.raises(FlushError):
        tracker.flush()
    health = tracker.health()
    assert health.status is HealthStatus.RED
    assert health.reason == "no such table; run: lastseen migrate"
    book.failure = None
    tracker.flush()
    assert tracker.health().status is HealthStatus.OK
    assert "a" in book.times


def test_an_unknown_exception_keeps_everything(tracker: ActivityTracker, book: Book) -> None:
    """A recorder may raise anything; its keys wait for the next try."""
    tracker.record("a")
    book.failure = ZeroDivisionError("oops")
    with pytest.raises(FlushError, match="oops"):
        tracker.flush()
    book.failure = None
    assert tracker.flush().updated_count == 1


def test_a_flush_ends_at_its_deadline(book: Book, clock: ManualClock) -> None:
    """Chunks that are left at the deadline wait for the next flush; those that were written are not repeated."""
    settings = TrackerSettings(chunk_size=1, max_buffer_size=None, flush_interval=timedelta(hours=1))

    class Slow(Book):
        def batch_record_activity(self, updates: Any) -> int:
            clock.advance(3)
            return super().batch_record_activity(updates)

    slow = Slow()
    tracker = ActivityTracker(slow, settings, clock=clock)
    for key in "abc":
        tracker.record(key)
    with pytest.raises(FlushError, match="deadline"):
        tracker.flush()
    assert sorted(slow.times) == ["a", "b"]
    tracker.flush()
    assert [list(batch) for batch in slow.batches] == [["a"], ["b"], ["c"]]
    tracker.close()


def test_a_full_buffer_drops_new_keys_and_says_so_once(book: Book, clock: ManualClock, caplog: Any) -> None:
    """Known keys move forward, new ones are dropped and counted; one log line an outage, from the flush."""
    settings = TrackerSettings(max_pending=3, max_buffer_size=None, flush_interval=timedelta(hours=1))
    tracker = ActivityTracker(book, settings, clock=clock)
    book.failure = StoreUnavailable("gone")
    outcomes = [tracker.record(key, moment(-9)) for key in "abcde"]
    assert outcomes == [Outcome.ACCEPTED] * 3 + [Outcome.DROPPED] * 2
    assert tracker.record("a", moment(-1)) is Outcome.ACCEPTED
    health = tracker.health()
    assert (health.status, health.dropped, health.buffer_size) == (HealthStatus.DEGRADED, 2, 3)
    with caplog.at_level(logging.WARNING, logger="lastseen"):
        for _ in range(3):
            with pytest.raises(FlushError):
                tracker.flush()
    assert sum("buffer full" in record.getMessage() for record in caplog.records) == 1
    book.failure = None
    tracker.flush()
    assert tracker.health().status is HealthStatus.OK
    assert tracker.record("e") is Outcome.ACCEPTED
    assert book.times["a"] == moment(-1)
    tracker.close()


def test_min_persist_interval_writes_a_key_once_an_interval(book: Book, clock: ManualClock) -> None:
    """Touches between are delayed, the last one is never lost; flush on demand does not wait."""
    settings = TrackerSettings(min_persist_interval=timedelta(minutes=1), flush_interval=timedelta(seconds=1))
    tracker = ActivityTracker(book, settings, clock=clock, random=lambda: 0.5)
    tracker.record("a")
    let_pass(clock, 1)
    book.wait_for("a")
    first = book.times["a"]
    for _ in range(50):
        clock.advance(1)
        tracker.record("a")
        assert tracker.waiting("a") == clock.utc()
    assert book.times["a"] == first
    last = clock.utc()
    clock.advance(11)
    tracker.record("b")
    let_pass(clock, 1)
    book.wait_for("b")
    tracker.flush()
    assert book.times["a"] == last
    tracker.close()


def test_close_writes_what_waits_and_stops_recording(book: Book, clock: ManualClock) -> None:
    """Closing saves, later records are dropped and counted, closing again changes nothing."""
    tracker = ActivityTracker(book, ALONE, clock=clock)
    tracker.record("a")
    assert tracker.close() == 0
    assert "a" in book.times
    assert tracker.record("a") is Outcome.DROPPED
    assert tracker.record("b") is Outcome.DROPPED
    assert tracker.close() == 0
    assert tracker.health().dropped == 2
    assert len(book.batches) == 1


def test_close_when_nothing_was_ever_started(book: Book) -> None:
    """Closing an unused tracker does nothing, however often."""
    tracker = ActivityTracker(book)
    assert tracker.close() == tracker.close() == 0
    assert book.attempts == 0


def test_close_reports_what_could_not_be_saved(book: Book, clock: ManualClock, caplog: Any) -> None:
    """With the database gone, closing returns and logs the number of keys that are lost."""
    tracker = ActivityTracker(book, ALONE, clock=clock)
    book.failure = StoreUnavailable("gone")
    for number in range(80):
        tracker.record(f"key-{number}")
    with caplog.at_level(logging.ERROR, logger="lastseen"):
        assert tracker.close() == 80
    assert "closed with unsaved activity unsaved=80" in caplog.text
    assert tracker.health().status is HealthStatus.RED
    assert tracker.close() == 80


def test_close_with_a_hung_recorder_ends_at_its_deadline(book: Book) -> None:
    """A recorder that never returns does not keep the process alive."""
    settings = TrackerSettings(
        flush_interval=timedelta(hours=1), max_buffer_size=None, close_deadline=timedelta(milliseconds=50)
    )
    tracker = ActivityTracker(book, settings)
    book.gate.clear()
    tracker.record("a")
    assert tracker.close() == 1
    book.gate.set()
    thread = tracker._thread
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def test_flushes_are_logged(book: Book, clock: ManualClock, caplog: Any) -> None:
    """Debug for what was written, error for what was not; the logger is the one that was handed in."""
    logger = logging.getLogger("my.application")
    tracker = ActivityTracker(book, ALONE, logger=logger, clock=clock)
    tracker.record("a")
    tracker.record("b")
    with caplog.at_level(logging.DEBUG):
        tracker.flush()
        tracker.record("a", clock.now() - 10)
        tracker.flush()
        book.failure = StoreUnavailable("gone")
        tracker.record("b")
        with pytest.raises(FlushError):
            tracker.flush()
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("my.application", "DEBUG", "flushed activity batch updated_count=2 batch_size=2"),
        ("my.application", "DEBUG", "flushed activity batch updated_count=0 batch_size=1"),
        ("my.application", "ERROR", "failed to flush activity batch error=gone batch_size=1"),
    ]
    assert caplog.records[0].updated_count == 2
    book.failure = None
    tracker.close()


def test_the_level_of_a_flush_that_wrote_something_is_an_option(book: Book, clock: ManualClock, caplog: Any) -> None:
    """A server logs it at info; a flush that moved nothing stays at debug."""
    settings = TrackerSettings(flush_log_level=logging.INFO, max_buffer_size=None, flush_interval=timedelta(hours=1))
    tracker = ActivityTracker(book, settings, clock=clock)
    with caplog.at_level(logging.INFO, logger="lastseen"):
        tracker.record("a", moment(-1))
        tracker.flush()
        tracker.record("a", moment(-2))
        tracker.flush()
    assert [record.getMessage() for record in caplog.records] == ["flushed activity batch updated_count=1 batch_size=1"]
    tracker.close()


def test_callbacks_hear_of_every_flush_and_may_fail(book: Book, clock: ManualClock, caplog: Any) -> None:
    """A callback that raises is logged and harms nothing."""
    heard: list[Any] = []

    def explode(result: Any) -> None:
        heard.append(result)
        raise ValueError("callback")

    tracker = ActivityTracker(book, ALONE, clock=clock, on_flush=explode)
    tracker.record("a")
    tracker.flush()
    assert heard[0].updated_count == 1
    assert "a flush callback raised" in caplog.text
    tracker.close()


def test_health_shows_the_last_success_and_the_age_of_what_waits(tracker: ActivityTracker, clock: ManualClock) -> None:
    """Everything that an operator asks first is in one value."""
    health = tracker.health()
    assert (health.status, health.last_successful_flush_at, health.oldest_waiting_age) == (HealthStatus.OK, None, None)
    tracker.record("a")
    clock.advance(4)
    assert tracker.health().oldest_waiting_age == timedelta(seconds=4)
    tracker.flush()
    health = tracker.health()
    assert health.last_successful_flush_at == clock.utc()
    assert (health.flushes, health.updated, health.buffer_size) == (1, 1, 0)
    assert (health.flush_interval, health.max_buffer_size, health.max_pending) == (timedelta(hours=1), None, 50_000)


def test_a_clock_that_goes_back_moves_nothing_back(tracker: ActivityTracker, book: Book, clock: ManualClock) -> None:
    """The wall clock may be set; last seen never goes back, and intervals follow the other clock."""
    tracker.record("a")
    before = clock.utc()
    clock.jump(-3600)
    tracker.record("a")
    tracker.flush()
    assert book.times["a"] == before - timedelta(seconds=3595)
    clock.jump(3600)
    tracker.record("a")
    tracker.flush()
    assert book.times["a"] == before


def test_a_recorder_without_the_protocol_fails_at_construction() -> None:
    """The message names the protocol and its method."""
    with pytest.raises(MissingAbility, match=r"object cannot track activity.*ActivityRecorder.*batch_record_activity"):
        ActivityTracker(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flush_interval", timedelta(0)),
        ("flush_deadline", timedelta(seconds=-1)),
        ("close_deadline", timedelta(0)),
        ("min_persist_interval", timedelta(seconds=-1)),
        ("future_tolerance", timedelta(seconds=-1)),
        ("max_buffer_size", 0),
        ("max_buffer_size", 50_001),
        ("max_pending", 0),
        ("chunk_size", 0),
    ],
)
def test_settings_check_themselves(name: str, value: Any) -> None:
    """A wrong setting is refused at once, by name."""
    with pytest.raises(ConfigurationError, match=name):
        TrackerSettings(**{name: value})
