"""Several writers over the same keys never deadlock, and the control shows that they would without the order."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from typing import Any

import psycopg
import pytest

from lastseen import ActivityRecorder, ActivityTable, StoreUnavailable, WriteMode, table_recorder
from lastseen.testing import moment
from tests.servers import ask

KEYS = [f"key-{number:03}" for number in range(500)]
SECONDS = 2.0
DEADLOCK = "deadlock detected"

UNSORTED = """
INSERT INTO things (id, last_seen_at) SELECT * FROM unnest(%s::text[], %s::timestamptz[])
ON CONFLICT (id) DO UPDATE SET last_seen_at = EXCLUDED.last_seen_at
"""

UNSORTED_UPDATE = """
UPDATE things SET last_seen_at = new.at FROM unnest(%s::text[], %s::timestamptz[]) AS new (id, at)
WHERE things.id = new.id
"""


@pytest.fixture
def things_url(postgres_url: str) -> str:
    """Make a table of the application's with the five hundred keys, all old; deadlocks are noticed within 20 ms."""
    ask(postgres_url, "CREATE TABLE things (id text PRIMARY KEY, last_seen_at timestamptz)")
    ask(postgres_url, "INSERT INTO things SELECT unnest(%s::text[])", [KEYS])
    ask(postgres_url, f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET deadlock_timeout = '20ms'")
    return postgres_url


def recorder_of(url: str, mode: WriteMode) -> ActivityRecorder:
    return table_recorder(url, ActivityTable(table="things", mode=mode))


def write_for_a_while(url: str, mode: WriteMode, seed: int, failures: Any) -> None:
    """Write the same keys again and again, each batch in another order; report what failed."""
    dice, recorder, until = random.Random(seed), recorder_of(url, mode), time.monotonic() + SECONDS
    batches = second = 0
    while time.monotonic() < until:
        second += 1
        keys = dice.sample(KEYS, len(KEYS))
        try:
            recorder.batch_record_activity({key: moment(second + dice.random()) for key in keys})
            batches += 1
        except StoreUnavailable as error:
            failures.put(str(error))
    failures.put(batches)


@pytest.mark.parametrize("mode", list(WriteMode))
def test_writers_in_four_processes_never_deadlock(things_url: str, mode: WriteMode) -> None:
    """Four processes move the same 500 keys, in random order of arrival, and none ever waits in a circle."""
    spawn = multiprocessing.get_context("spawn")
    reports = spawn.Queue()
    writers = [
        spawn.Process(target=write_for_a_while, args=(things_url, mode, seed, reports), daemon=True)
        for seed in range(4)
    ]
    for writer in writers:
        writer.start()
    batches: list[int] = []
    failures: list[str] = []
    while len(batches) < len(writers):
        report = reports.get(timeout=60)
        (batches if isinstance(report, int) else failures).append(report)
    for writer in writers:
        writer.join()
    assert [failure for failure in failures if DEADLOCK in failure] == []
    assert min(batches) > 0
    deadlocks = ask(things_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == [(0,)]


@pytest.mark.parametrize("statement", [UNSORTED, UNSORTED_UPDATE], ids=["upsert", "update only"])
def test_the_control_without_an_order_deadlocks(things_url: str, statement: str) -> None:
    """The same keys in opposite orders, without sorting, deadlock within a bounded number of rounds."""
    backwards = list(reversed(KEYS))
    assert any(_deadlocks(things_url, statement, KEYS, backwards) for _ in range(50))


def _deadlocks(url: str, statement: str, *orders: list[str]) -> bool:
    """Write once in each order, at the same time; return whether one of them was a deadlock's victim."""
    together = threading.Barrier(len(orders))
    victims: list[BaseException] = []

    def write(keys: list[str]) -> None:
        with psycopg.connect(url) as connection:
            # The order of the array is the order of the locks: no plan that starts from the table.
            connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
            together.wait(timeout=10)
            connection.execute(statement.encode(), (keys, [moment()] * len(keys)))

    def attempt(keys: list[str]) -> None:
        try:
            write(keys)
        except psycopg.errors.DeadlockDetected as error:
            victims.append(error)

    threads = [threading.Thread(target=attempt, args=(keys,)) for keys in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return bool(victims)
