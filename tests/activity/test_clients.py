"""Clients: recorded in memory, asked for by span, status, text and page."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lastseen import (
    Client,
    ClientActivity,
    ClientOrder,
    ClientStatus,
    MissingAbility,
    Outcome,
    StatusRule,
    TrackerSettings,
)
from lastseen.errors import ConfigurationError, FlushError, InvalidCursor, InvalidData, StoreUnavailable
from lastseen.stores.memory import MemoryClients
from lastseen.testing import ManualClock, moment

ALONE = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)


class Breakable(MemoryClients):
    """A store whose writes fail when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.hours_failure: Exception | None = None
        self.poison = ""

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        if self.failure is not None:
            raise self.failure
        if self.poison in updates:
            raise InvalidData("refused")
        return super().batch_record_activity(updates)

    def batch_record_hours(self, hours: Mapping[str, Collection[datetime]]) -> int:
        if self.hours_failure is not None:
            raise self.hours_failure
        return super().batch_record_hours(hours)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(moment(minutes=30).timestamp())


@pytest.fixture
def store() -> Breakable:
    return Breakable()


@pytest.fixture
def clients(store: Breakable, clock: ManualClock) -> Iterator[ClientActivity]:
    clients = ClientActivity(store, ALONE, clock=clock)
    yield clients
    store.failure = store.hours_failure = None
    clients.close()


def ids(clients: Any) -> list[str]:
    return [client.client_id for client in clients]


def test_one_client_overlays_what_waits(clients: ClientActivity, store: Breakable, clock: ManualClock) -> None:
    """A process sees its own record before it is written; the stored creation stays."""
    assert clients.get("a") is None
    clients.record("a")
    first = clock.utc()
    assert clients.get("a") == Client(client_id="a", last_seen_at=first, created_at=first)
    assert store.get_client("a") is None
    clients.flush()
    clock.advance(9)
    clients.record("a")
    assert clients.get("a") == Client(client_id="a", last_seen_at=clock.utc(), created_at=first)
    clients.record("a", first)
    assert clients.status(clients.get("a") or pytest.fail("gone")) is ClientStatus.ONLINE


def test_a_listing_writes_first(clients: ClientActivity) -> None:
    """What this process recorded is in its listings and counts."""
    clients.record("a")
    assert ids(clients.list()) == ["a"]
    clients.record("b")
    assert clients.count() == 2
    clients.record("c")
    assert clients.counts().total == 3


def test_a_listing_still_answers_when_nothing_can_be_written(clients: ClientActivity, store: Breakable) -> None:
    """A flush that fails does not fail a listing that can be read, and looking often does not try often."""
    clients.record("a")
    clients.flush()
    store.failure = StoreUnavailable("read only")
    clients.record("b")
    assert ids(clients.list()) == ["a"]
    failures = clients.health().consecutive_failures
    for _ in range(5):
        assert ids(clients.list()) == ["a"]
    assert clients.health().consecutive_failures == failures


def test_active_and_inactive_divide_everybody(clients: ClientActivity, clock: ManualClock) -> None:
    """Seen precisely one span ago is inactive."""
    for minutes in (0, 59, 60, 61, 1440, 1441):
        clients.record(f"{minutes:04}", clock.utc() - timedelta(minutes=minutes))
    assert ids(clients.active()) == ["0000", "0059"]
    assert ids(clients.inactive(timedelta(hours=1))) == ["1441", "1440", "0061", "0060"]
    assert ids(clients.inactive()) == ["1441", "1440"]
    assert clients.count(active_within=timedelta(hours=1)) + clients.count(inactive_for=timedelta(hours=1)) == 6
    both = clients.list(active_within=timedelta(hours=24), inactive_for=timedelta(hours=1))
    assert ids(both) == ["0060", "0061"]


def test_counts_add_up_and_statuses_are_listed(clients: ClientActivity, clock: ManualClock) -> None:
    """Online under 5 minutes, recent under an hour, idle under a day, inactive beyond."""
    ages = {"online": 299, "recent": 300, "idle": 3600, "inactive": 86400}
    for word, seconds in ages.items():
        clients.record(word, clock.now() - seconds)
    counts = clients.counts()
    assert (counts.total, counts.online, counts.recent, counts.idle, counts.inactive) == (4, 1, 1, 1, 1)
    for status in ClientStatus:
        page = clients.list(status=status)
        assert ids(page) == [status.value]
        assert clients.status(page.clients[0]) is status
        assert clients.count(status=status) == 1
    assert clients.counts("line").total == 1


def test_status_spans_are_settable_and_must_grow() -> None:
    """The rule checks itself at birth."""
    rule = StatusRule(online=timedelta(seconds=1), recent=timedelta(seconds=2), idle=timedelta(seconds=3))
    assert [rule.status(moment(-age), moment()).value for age in (0, 1, 2, 3)] == [
        "online",
        "recent",
        "idle",
        "inactive",
    ]
    with pytest.raises(ConfigurationError, match="grow"):
        StatusRule(online=timedelta(hours=2))


@pytest.mark.parametrize("order", ClientOrder)
def test_pages_follow_a_cursor(clients: ClientActivity, clock: ManualClock, order: ClientOrder) -> None:
    """The pages together are the listing; the last page has no cursor, also when it is full."""
    for number in range(9):
        clients.record(f"client-{number}", clock.now() - number // 2)
    pages, cursor = [], None
    while True:
        page = clients.list(order=order, limit=3, cursor=cursor)
        pages.append(ids(page))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [len(page) for page in pages] == [3, 3, 3]
    assert [client_id for page in pages for client_id in page] == ids(clients.list(order=order))


@pytest.mark.parametrize("cursor", ["", "x", "bmV3ZXN0OmE6Yg", "é", "!!!!", "bmV3ZXN0Og", "////", "bmV3ZXN0OjE6AA"])
def test_a_cursor_from_elsewhere_is_refused(clients: ClientActivity, cursor: str) -> None:
    """The message says what to do."""
    with pytest.raises(InvalidCursor, match="start again"):
        clients.list(cursor=cursor)


def test_a_cursor_belongs_to_its_order(clients: ClientActivity) -> None:
    """Following a cursor in another order would skip clients, and is refused."""
    for key in "ab":
        clients.record(key)
    cursor = clients.list(limit=1).next_cursor
    with pytest.raises(InvalidCursor, match="newest"):
        clients.list(order=ClientOrder.OLDEST, cursor=cursor)


@pytest.mark.parametrize(
    "ask",
    [
        lambda clients: clients.list(limit=0),
        lambda clients: clients.list(limit=1001),
        lambda clients: clients.list(active_within=timedelta(seconds=-1)),
        lambda clients: clients.count(inactive_for=timedelta(days=365_000)),
    ],
)
def test_senseless_questions_are_refused(clients: ClientActivity, ask: Callable[[ClientActivity], object]) -> None:
    """A limit or a span out of range is named."""
    with pytest.raises(ConfigurationError, match="must be"):
        ask(clients)


def test_every_active_hour_is_kept_whatever_the_order_and_the_batches(
    clients: ClientActivity, store: Breakable, clock: ManualClock
) -> None:
    """Coalescing keeps one time a client but every hour, also when older activity arrives later."""
    noon = moment()
    for hours in (0, -5, -2, 0, -5, -3):
        clients.record("a", noon + timedelta(hours=hours, minutes=17))
        if hours == -2:
            clients.flush()
    clients.record("b", noon.timestamp())
    clients.flush()
    expected = [noon + timedelta(hours=hours) for hours in (-5, -3, -2, 0)]
    assert clients.active_hours(["a"], noon - timedelta(days=1)) == {"a": expected}
    assert clients.active_clients_by_hour(noon) == {noon: 2}
    assert clients.get("a") == store.get_client("a")


def test_hours_are_written_once(clients: ClientActivity, store: Breakable, clock: ManualClock) -> None:
    """A client that is active all the time costs one row an hour."""
    written: list[int] = []
    count = store.batch_record_hours

    def counting(hours: Mapping[str, Collection[datetime]]) -> int:
        written.append(sum(map(len, hours.values())))
        return count(hours)

    store.batch_record_hours = counting  # type: ignore[method-assign]
    for _ in range(130):
        clients.record("a")
        clients.flush()
        clock.advance(minutes=1)
    assert sum(written) == 3


@pytest.mark.parametrize("place", ["failure", "hours_failure"])
def test_hours_survive_an_outage(clients: ClientActivity, store: Breakable, clock: ManualClock, place: str) -> None:
    """Hours that could not be written wait with their client, hour after hour."""
    setattr(store, place, StoreUnavailable("gone"))
    for _ in range(3):
        clients.record("a")
        with pytest.raises(FlushError):
            clients.flush()
        clock.advance(hours=1)
    setattr(store, place, None)
    clients.flush()
    noon = moment()
    assert clients.active_hours(["a"], noon) == {"a": [noon + timedelta(hours=hours) for hours in range(3)]}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("minutes", [-300, 0, 7, 40])
def test_hours_survive_what_is_recorded_during_a_flush(
    clients: ClientActivity, store: Breakable, clock: ManualClock, minutes: int, *, fails: bool
) -> None:
    """A client that comes back while its batch is being written, in this or another hour, was active in both."""
    noon, write = moment(), store.batch_record_activity

    def record_meanwhile(updates: Mapping[str, datetime]) -> int:
        store.batch_record_activity = write  # type: ignore[method-assign]
        clock.advance(minutes=max(0, minutes))
        clients.record("a", noon + timedelta(minutes=30 + minutes))
        if fails:
            raise StoreUnavailable("gone")
        return write(updates)

    clients.record("a", noon - timedelta(hours=9))
    clients.record("a")
    store.batch_record_activity = record_meanwhile  # type: ignore[method-assign]
    with suppress(FlushError):
        clients.flush()
    clients.flush()
    hours = {noon + timedelta(hours=hour) for hour in (-9, 0, (30 + minutes) // 60)}
    assert clients.active_hours(["a"], noon - timedelta(days=1)) == {"a": sorted(hours)}
    client = clients.get("a")
    assert client is not None
    assert client.last_seen_at == noon + timedelta(minutes=30 + max(0, minutes))


@pytest.mark.parametrize(
    ("failure", "raised"), [(StoreUnavailable, FlushError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_hours_survive_what_comes_back_from_a_failed_flush(
    clients: ClientActivity,
    store: Breakable,
    clock: ManualClock,
    failure: type[BaseException],
    raised: type[BaseException],
) -> None:
    """The hour turns while a batch is being written in vain: who comes back with it and is active again was in both."""
    noon, write = moment(), store.batch_record_activity

    def fail(updates: Mapping[str, datetime]) -> int:
        store.batch_record_activity = write  # type: ignore[method-assign]
        clock.advance(hours=1)
        clients.record("b")
        raise failure(f"gone, with {len(updates)}")

    clients.record("a")
    store.batch_record_activity = fail  # type: ignore[method-assign]
    with pytest.raises(raised):
        clients.flush()
    clients.record("a")
    clients.flush()
    assert clients.active_hours(["a"], noon) == {"a": [noon, noon + timedelta(hours=1)]}


@pytest.mark.parametrize(("age", "waits"), [(-1, False), (0, False), (30, False), (7200, True)])
def test_within_the_hour_nobody_waits_for_the_lock(
    clients: ClientActivity, clock: ManualClock, age: int, *, waits: bool
) -> None:
    """A waiting client's time is taken, or known to be superseded, without the lock; the control is another hour."""
    clock.advance(minutes=10)
    clients.record("a")
    clock.advance(seconds=2)
    outcomes: list[Outcome] = []
    recording = threading.Thread(target=lambda: outcomes.append(clients.record("a", clock.now() - 2 - age)))
    with clients.tracker.lock:
        recording.start()
        recording.join(0.2 if waits else 30)
        assert recording.is_alive() is waits
    recording.join()
    assert outcomes == [Outcome.ACCEPTED]


def test_the_hours_of_a_poison_client_are_forgotten(clients: ClientActivity, store: Breakable) -> None:
    """What can never be written does not wait for ever."""
    store.poison = "bad"
    clients.record("bad")
    clients.record("good")
    clients.flush()
    assert clients.health().poison == 1
    assert len(clients._hours) == 0
    assert list(clients.active_hours(["bad", "good"], moment())) == ["good"]


def test_clients_that_are_not_tracked_leave_no_hours(store: Breakable, clock: ManualClock) -> None:
    """Refused and dropped clients cost no memory."""
    settings = TrackerSettings(max_pending=2, max_buffer_size=None, flush_interval=timedelta(hours=1))
    clients = ClientActivity(store, settings, clock=clock)
    outcomes = [clients.record(key, moment(hours=-5)) for key in ("a", "b", "c", "", "nul\0")]
    assert outcomes == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DROPPED, Outcome.REJECTED, Outcome.REJECTED]
    assert len(clients._hours) == 0
    clients.close()


def test_an_hour_in_the_future_is_clamped(clients: ClientActivity, clock: ManualClock) -> None:
    """A wrong clock invents no active hours."""
    clients.record("a", clock.utc() + timedelta(days=400))
    clients.flush()
    assert clients.active_clients_by_hour(moment()) == {moment(): 1}


@pytest.mark.parametrize(
    "at",
    [
        "now",
        datetime(2026, 1, 1),  # noqa: DTZ001
        float("nan"),
        float("inf"),
        -1.0,
        [],
        True,
        Decimal(int(moment(minutes=31).timestamp())),
    ],
)
def test_a_bad_time_is_refused(clients: ClientActivity, at: Any) -> None:
    """As by the tracker: never an exception, counted."""
    assert clients.record("a", at) is Outcome.REJECTED
    assert clients.get("a") is None
    clients.record("a")
    assert clients.record("a", at) is Outcome.REJECTED
    assert clients.health().rejected == 2
    assert len(clients._hours) == 0


@pytest.mark.parametrize("key", [7, None, [], {}, b"a"])
def test_a_bad_client_id_is_refused(clients: ClientActivity, key: Any) -> None:
    """Also one that cannot be hashed."""
    assert clients.record(key) is Outcome.REJECTED
    assert len(clients._hours) == 0


def test_the_turn_of_the_hour_forgets_nobody(clients: ClientActivity, clock: ManualClock) -> None:
    """Who waits when the hour turns was active in the old hour too, though only the newer time is kept."""
    for key in ("waits", "silent"):
        clients.record(key)
    clock.advance(hours=1)
    clients.record("waits")
    clients.flush()
    noon = moment()
    expected = {"waits": [noon, noon + timedelta(hours=1)], "silent": [noon]}
    assert clients.active_hours(["waits", "silent"], noon) == expected


def test_a_clock_set_back_over_the_hour_invents_and_forgets_nothing(
    clients: ClientActivity, clock: ManualClock
) -> None:
    """The hours are those that the clock said when the activity was recorded, until it was found to be wrong."""
    clients.record("a")
    clock.jump(3600)
    clients.record("a")
    clients.flush()
    clock.jump(-3600)
    clients.record("b")
    clients.flush()
    noon = moment()
    assert clients.active_hours(["a", "b"], noon) == {"a": [noon, noon + timedelta(hours=1)], "b": [noon]}


def test_threads_that_race_the_turn_of_the_hour_lose_no_hour(store: Breakable, clock: ManualClock) -> None:
    """However threads, turns of the hour and flushes interleave, every recorded (client, hour) is written."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    patient = TrackerSettings(
        flush_interval=timedelta(days=999), max_buffer_size=None, flush_deadline=timedelta(days=999)
    )
    clients = ClientActivity(store, patient, clock=clock)
    recorded: list[set[tuple[str, int]]] = [set() for _ in range(4)]

    def work(thread: int) -> None:
        for number in range(3_000):
            client_id, now = f"client-{number % 3}", clock.now()
            recorded[thread].add((client_id, int(now // 3600)))
            clients.record(client_id, now)
            if number % 10 == 0 and thread == 0:
                clock.advance(minutes=31)
            if number % 100 == 0:
                clients.flush()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    clients.close()
    written = {
        (client_id, int(hour.timestamp() // 3600))
        for client_id, hours in store.active_hours([f"client-{number}" for number in range(3)], moment(days=-9)).items()
        for hour in hours
    }
    assert written == set().union(*recorded)


def test_many_threads_note_every_hour(clients: ClientActivity, clock: ManualClock) -> None:
    """Concurrent records and flushes lose no hour."""
    noon = moment()

    def work(thread: int) -> None:
        for number in range(200):
            clients.record(f"client-{thread % 2}", noon - timedelta(hours=(number * 7 + thread) % 100))
            if number % 20 == 0:
                clients.flush()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clients.flush()
    hours = clients.active_hours(["client-0", "client-1"], noon - timedelta(hours=100))
    assert {key: len(found) for key, found in hours.items()} == {"client-0": 100, "client-1": 100}


def test_a_store_without_clients_is_refused() -> None:
    """The message names the protocol."""
    with pytest.raises(MissingAbility, match="ClientStore"):
        ClientActivity(object())  # type: ignore[arg-type]
