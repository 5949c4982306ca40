"""B8 and B11, the store's part: events saved and folded into visits, beside the bare writing of the same event rows."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import psycopg
from tests.servers import PostgresServer

from benchmarks.measure import Row, Timed, rate, take_turns
from lastseen.stores import Store, open_store
from lastseen.stores.sqlite import SQLiteStore
from lastseen.stores.visit_rows import body_of
from lastseen.visits.event import PAGEVIEW, Device, Event
from lastseen.visits.making import dated_id
from lastseen.visits.rule import VisitRule

SITE = "default"
VISITORS = 2_000


class Case(NamedTuple):
    """Transactions of one size, so many in a row; `repeats` says how often."""

    size: int
    """Events of a transaction, one or ten requests of a hundred or a block of an import."""
    in_a_row: int
    """As many as bring more events than SQLite lets wait for their places: one of them lets in those of all."""
    repeats: int
    wanted: int | None = None
    """Events a second."""
    are_dated: bool = True
    """Whether an event's id begins with its moment, as lastseen, its script and PostHog's script in browsers make them;
    else ids are in no order, as UUIDs of version 4."""
    is_import: bool = False
    """Whether the store is told that many follow, as `lastseen import log` does. That prepares the batches too,
    which is not done here."""


CASES = (
    Case(100, 101, 3),
    Case(1_000, 11, 7, wanted=50_000),
    Case(10_000, 2, 7, wanted=50_000),
    Case(50_000, 1, 7, wanted=100_000, is_import=True),
)
IN_NO_ORDER = (Case(100, 101, 3, are_dated=False), Case(1_000, 11, 7, wanted=50_000, are_dated=False))
RULE = VisitRule()
STEP = 20_000
"""Microseconds between two events of all visitors: each comes back after 40 s."""
BEGINNING = 1_760_000_000_000_000

SQLITE_EVENTS = "INSERT INTO lastseen_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# A server that has been up for a while writes its log over what it does not need any more. A new one makes each 16 MB
# of it first, which takes a fifth of its time over what is measured here.
KEEP_LOG = ("ALTER SYSTEM SET min_wal_size = '1GB'", "ALTER SYSTEM SET max_wal_size = '4GB'")
FILL_LOG = "SELECT pg_logical_emit_message(false, '', repeat('x', 1 << 24)) FROM generate_series(1, 64)"

POSTGRES_EVENTS = "COPY lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body) FROM STDIN"


def run() -> list[Row]:
    """Measure on SQLite files, then on databases of a PostgreSQL server of its own."""
    rows = []
    for cases in (CASES, IN_NO_ORDER):
        with tempfile.TemporaryDirectory() as folder, _bare_file(Path(folder, "bare.db")) as bare:
            rows += _compare("SQLite", open_store(f"sqlite:///{folder}/ours.db"), bare, cases)
    with PostgresServer() as server:
        _use_log(server)
        for cases in (CASES, IN_NO_ORDER):
            with _bare_database(server.create_database()) as bare:
                rows += _compare("PostgreSQL", open_store(server.create_database()), bare, cases)
    return rows


def _use_log(server: PostgresServer) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in (*KEEP_LOG, "SELECT pg_reload_conf()", FILL_LOG, "CHECKPOINT"):
            connection.execute(statement)


def _compare(name: str, ours: Store, bare: _Bare, cases: Sequence[Case]) -> list[Row]:
    ours.migrate()
    rows = []
    numbers = count()
    for case in cases:
        if case.is_import and isinstance(ours, SQLiteStore):
            ours.expect_bulk()
        turns: dict[str, Timed] = {
            "bare": partial(_in_a_row, case, partial(_write, bare, numbers, case)),
            "store": partial(_in_a_row, case, partial(_save, ours, numbers, case)),
        }
        rounds = take_turns(turns, case.repeats)
        speed, wanted = 1 / rounds.median("store"), case.wanted
        saved = "events" if case.are_dated else "events with ids in no order"
        rows.append(
            Row(
                bar="B11" if case.is_import else "B8",
                case=f"{name}, {saved} saved with their visits, {case.size:,} a transaction, {VISITORS:,} visitors",
                figure=rate(rounds.median("store"), "events"),
                limit="" if wanted is None else f"at least {wanted:,} a second",
                peer=f"the bare event rows {rate(rounds.median('bare'), 'rows')}",
                ratio=f"{1 / rounds.ratio('store', 'bare'):.2f}",
                spread=rounds.ratio_spread("store", "bare", inverted=True),
                met=None if wanted is None else speed >= wanted,
            )
        )
    ours.close()
    return rows


def _in_a_row(case: Case, transaction: Timed) -> float:
    return mean(transaction() for _ in range(case.in_a_row))


def _save(store: Store, numbers: Iterator[int], case: Case) -> float:
    events = _events(numbers, case)
    began = time.perf_counter()
    result = store.visits.save(events, lambda _site: RULE)
    elapsed = time.perf_counter() - began
    assert result.new == case.size, result
    return elapsed / case.size


class _Bare:
    """Writes rows of events and nothing else, by the shortest way that the driver has."""

    def write(self, rows: list[tuple[object, ...]]) -> None:
        raise NotImplementedError


def _write(bare: _Bare, numbers: Iterator[int], case: Case) -> float:
    events = _events(numbers, case)
    rows: list[tuple[object, ...]] = [
        (
            event.properties["number"],
            SITE,
            event.id,
            int(event.distinct_id[:7], 16),
            event.at,
            event.name,
            event.received_at,
            event.flags,
            body_of(event),
        )
        for event in events
    ]
    began = time.perf_counter()
    bare.write(rows)
    return (time.perf_counter() - began) / case.size


class _BareFile(_Bare):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, rows: list[tuple[object, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(SQLITE_EVENTS, rows)
        self._connection.execute("COMMIT")


class _BareDatabase(_Bare):
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def write(self, rows: list[tuple[object, ...]]) -> None:
        with self._connection.transaction(), self._connection.cursor().copy(POSTGRES_EVENTS) as copy:
            for row in rows:
                copy.write_row(row)


@contextmanager
def _bare_file(path: Path) -> Iterator[_Bare]:
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 10000")
    connection.execute("PRAGMA cache_size = -65536")
    yield _BareFile(connection)
    connection.close()


@contextmanager
def _bare_database(url: str) -> Iterator[_Bare]:
    store = open_store(url)
    store.migrate()
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        yield _BareDatabase(connection)


def _events(numbers: Iterator[int], case: Case) -> list[Event]:
    """Return the next events of all visitors, in the order of their moments."""
    chance = random.Random(case.size)
    device = Device(type="desktop", os="Linux", browser="Firefox", browser_version="128")
    found = []
    for _ in range(case.size):
        number = next(numbers)
        at = BEGINNING + number * STEP
        content = str(number).encode()
        event_id = dated_id(at, content, b"") if case.are_dated else hashlib.md5(content).hexdigest()
        found.append(
            Event(
                id=event_id,
                site_id=SITE,
                distinct_id=hashlib.md5(str(chance.randrange(VISITORS)).encode()).hexdigest(),
                name=PAGEVIEW,
                at=at,
                received_at=at + 50_000,
                url=f"https://shop.example/page/{number % 97}",
                referrer="https://www.search.example/",
                referrer_domain="search.example",
                device=device,
                properties={"title": "A page", "number": number},
            )
        )
    return found
