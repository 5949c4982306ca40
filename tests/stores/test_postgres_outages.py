"""What happens to activity, and to the application, while PostgreSQL is away, hangs, or loses its tables."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from lastseen import (
    ClientActivity,
    FlushError,
    FlushResult,
    HealthStatus,
    LastSeen,
    Outcome,
    SchemaError,
    StoreUnavailable,
    TrackerSettings,
)
from lastseen.stores import open_store
from lastseen.testing import ManualClock, moment, updates
from tests.server.running import eventually
from tests.servers import PostgresServer, Proxy, ask

BY_HAND = TrackerSettings(
    flush_interval=timedelta(hours=1), max_buffer_size=None, close_deadline=timedelta(milliseconds=200)
)

OUR_SESSIONS = "FROM pg_stat_activity WHERE application_name = 'lastseen'"


def test_ten_minutes_without_a_server(postgres: PostgresServer, postgres_url: str) -> None:
    """At 1,000 records a second nothing raises, memory is bounded, attempts are few, and all that waits is saved."""
    clock, recovered = ManualClock(), threading.Event()
    errors: list[FlushError] = []

    def note(result: FlushResult) -> None:
        if result.error is None:
            recovered.set()

    tracking = TrackerSettings(max_pending=2_000)
    seen = LastSeen.open(
        postgres_url, migrate=True, tracking=tracking, clock=clock, on_flush_error=errors.append, on_flush=note
    )
    postgres.stop()
    largest = 0
    outcomes: set[Outcome] = set()

    def request(first: int) -> set[Outcome]:
        return {seen.clients.record(f"client-{number % 5_000}") for number in range(first, first + 250)}

    with ThreadPoolExecutor(4) as requests:
        for second in range(600):
            outcomes.update(*requests.map(request, range(second * 1_000, second * 1_000 + 1_000, 250)))
            largest = max(largest, seen.clients.health().buffer_size)
            clock.advance(1)
    assert outcomes == {Outcome.ACCEPTED, Outcome.DROPPED}
    assert largest <= 2_000
    assert 1 <= len(errors) <= 25
    assert seen.clients.health().status is HealthStatus.DEGRADED
    waiting = seen.clients.health().buffer_size
    postgres.start()
    recovered.clear()

    def is_saved() -> bool:
        # Again, should the last attempt in vain have ended only now.
        clock.advance(60)
        return recovered.is_set()

    eventually(is_saved, "all that waits is saved")
    assert seen.clients.health().buffer_size == 0
    assert ask(postgres_url, "SELECT count(*) FROM client_activity") == [(waiting,)]
    assert seen.close() == 0


def test_a_server_that_hangs_holds_nobody_for_ever(postgres: PostgresServer, postgres_url: str) -> None:
    """When the server's processes freeze, a flush gives up by itself and closing tells how many keys are unsaved."""
    LastSeen.open(postgres_url, migrate=True).close()
    seen = LastSeen.open(postgres_url, tracking=BY_HAND, deadline=timedelta(seconds=3))
    seen.clients.record("before")
    seen.clients.flush()
    for number in range(7):
        seen.clients.record(f"key-{number}")
    postgres.pause()
    try:
        with pytest.raises(FlushError) as caught:
            seen.clients.flush()
        assert isinstance(caught.value.error, StoreUnavailable)
        assert "no answer within 4 s" in str(caught.value.error)
        assert seen.close() == 7
    finally:
        postgres.resume()


def test_a_network_that_swallows_everything(postgres: PostgresServer, postgres_url: str) -> None:
    """Answers that never come end a read as unavailable, and the next read works when they come again."""
    with Proxy(postgres.port) as proxy:
        url = postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")
        LastSeen.open(postgres_url, migrate=True).close()
        store = open_store(url, deadline=timedelta(seconds=3))
        assert store.clients.get_client("a") is None
        proxy.answers = "swallow"
        with pytest.raises(StoreUnavailable, match="no answer"):
            store.clients.get_client("a")
        proxy.answers = "pass"
        assert store.clients.get_client("a") is None
        store.close()


def test_an_answer_lost_after_the_commit(postgres: PostgresServer, postgres_url: str) -> None:
    """The batch was written but nobody heard: it counts as failed, and the retry leaves the same row."""
    with Proxy(postgres.port) as proxy:
        store = open_store(postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        store.migrate()
        store.clients.batch_record_activity(updates("a"))
        proxy.answers = "cut"
        with pytest.raises(StoreUnavailable):
            store.clients.batch_record_activity(updates("a", at=moment(5)))
        stored = ask(postgres_url, "SELECT *, xmin FROM client_activity")
        assert stored[0][1:3] == (moment(5), moment(0))
        proxy.answers = "pass"
        assert store.clients.batch_record_activity(updates("a", at=moment(5))) == 0
        assert ask(postgres_url, "SELECT *, xmin FROM client_activity") == stored
        store.close()


def test_a_restarted_server_fails_no_read(postgres: PostgresServer, postgres_url: str) -> None:
    """Connections that died while they were idle are replaced before anybody uses them."""
    store = open_store(postgres_url)
    store.migrate()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(store.clients.get_client, ["a"] * 40))
    for _ in range(2):
        postgres.restart()
        assert store.clients.get_client("a") is None
    ask(postgres_url, f"SELECT pg_terminate_backend(pid) {OUR_SESSIONS}")
    while ask(postgres_url, f"SELECT pid {OUR_SESSIONS}"):
        pass
    assert store.clients.get_client("a") is None
    store.close()


def test_a_stopped_server_refuses_at_once(postgres: PostgresServer, postgres_url: str) -> None:
    """The driver's reason is in our error, without waiting for the whole deadline, here an hour."""
    store = open_store(postgres_url, deadline=timedelta(hours=1))
    postgres.stop()
    with pytest.raises(StoreUnavailable, match="refused"):
        store.clients.check_schema()
    postgres.start()
    store.migrate()
    store.clients.check_schema()
    store.close()


def test_a_missing_table_turns_the_health_red(postgres_url: str) -> None:
    """At once, with the command that mends it; what was recorded meanwhile is saved when the table is there."""
    store = open_store(postgres_url)
    clients = ClientActivity(store.clients, BY_HAND)
    clients.record("a", moment())
    with pytest.raises(FlushError) as caught:
        clients.flush()
    assert isinstance(caught.value.error, SchemaError)
    health = clients.health()
    assert health.status is HealthStatus.RED
    assert health.reason is not None
    assert health.reason.endswith(f"run: lastseen migrate --database {postgres_url}")
    store.migrate()
    assert clients.flush().updated_count == 1
    assert clients.health().status is HealthStatus.OK
    ask(postgres_url, "DROP TABLE client_activity")
    clients.record("b", moment())
    with pytest.raises(FlushError) as caught:
        clients.flush()
    assert str(caught.value.error).endswith(f"run: lastseen migrate --database {postgres_url}")
    assert clients.close() == 1
    store.close()


def test_a_lock_held_by_others_ends_in_time(postgres_url: str) -> None:
    """A row that another session keeps locked makes the batch fail after a second; nothing of it is written."""
    import psycopg

    store = open_store(postgres_url)
    store.migrate()
    store.clients.batch_record_activity(updates("a", "b"))
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT 1 FROM client_activity WHERE client_id = 'b' FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.clients.batch_record_activity(updates("a", "b", at=moment(5)))
    assert ask(postgres_url, "SELECT max(last_seen) FROM client_activity") == [(moment(),)]
    assert store.clients.batch_record_activity(updates("a", "b", at=moment(5))) == 2
    store.close()
