"""How little PostgreSQL hears of many requests."""

from __future__ import annotations

import threading

from lastseen import FlushResult, LastSeen
from lastseen.testing import ManualClock
from tests.servers import ask

CLIENTS = 400
SECONDS = 20

COUNT_STATEMENTS = """
CREATE FUNCTION upsert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER counted BEFORE INSERT ON client_activity FOR EACH STATEMENT EXECUTE FUNCTION upsert();
"""


def test_four_hundred_clients_a_second(postgres_url: str) -> None:
    """400 clients with a request a second each cost at most four upserts a second, by PostgreSQL's own statistics."""
    clock, flushed = ManualClock(), threading.Semaphore(0)

    def note(result: FlushResult) -> None:
        assert result.error is None
        flushed.release()

    seen = LastSeen.open(postgres_url, migrate=True, clock=clock, on_flush=note)
    ask(postgres_url, COUNT_STATEMENTS)
    ask(postgres_url, f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET track_functions = 'all'")
    seen.store.close()  # new sessions count
    requests = 0
    for _ in range(SECONDS):
        for number in range(CLIENTS):
            seen.clients.record(f"client-{number:03}")
            clock.advance(1 / CLIENTS)
            requests += 1
            # The flush thread keeps up with this clock: each full buffer is written before the next request.
            if requests % seen.clients.tracker.settings.max_buffer_size == 0:  # type: ignore[operator] # it has one
                assert flushed.acquire(timeout=30)
    assert seen.close() == 0
    statements, rows = _until_reported(postgres_url)
    assert rows >= CLIENTS * (SECONDS - 1)
    assert 0 < statements <= 4 * SECONDS


def _until_reported(url: str) -> tuple[int, int]:
    """Return the upserts and the rows moved that the statistics hold; sessions report when they end."""
    while ask(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastseen'") != [(0,)]:
        pass
    statements = ask(url, "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'upsert'")[0][0]
    rows = ask(url, "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'client_activity'")[0][0]
    return int(statements), int(rows)
