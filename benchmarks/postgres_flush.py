"""B4: a flush to PostgreSQL beside the best hand-written statement, and what a request is spared."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from itertools import count, cycle

import psycopg
from psycopg_pool import ConnectionPool
from tests.servers import PostgresServer

from benchmarks.measure import Row, microseconds, rate, take_turns
from lastseen import ActivityTracker, LastSeen, TrackerSettings

TABLE_ROWS = 1_000_000
BATCHES = {100: 300, 1_000: 100, 10_000: 12, 100_000: 9}
"""Rows of a batch, and how often it is repeated: what takes a millisecond needs many rounds for a true middle one."""
CHUNK = 5_000
LEAST = 0.9
SETTINGS = TrackerSettings(
    flush_interval=timedelta(hours=1),
    max_buffer_size=None,
    max_pending=200_000,
    chunk_size=CHUNK,
    flush_deadline=timedelta(minutes=5),
    close_deadline=timedelta(minutes=5),
)
STORED_AT = datetime(2026, 1, 1, tzinfo=UTC)
BUSY_CLIENTS = 400
BUSY_SECONDS = 20
MOST_STATEMENTS_A_SECOND = 4.0
REQUESTS = 500

FILL = """
INSERT INTO client_activity (client_id, last_seen, created_at)
SELECT key, %s, %s FROM unnest(%s::text[]) AS key ORDER BY key COLLATE "C"
"""

# One round trip: autocommit, and synchronous_commit set for the session. A production version would also limit the
# statement's time and clamp times of the future.
BEST = """
INSERT INTO client_activity AS stored (client_id, last_seen, created_at)
SELECT key, at, at FROM unnest(%b::text[], %b::timestamptz[]) AS new (key, at)
ON CONFLICT (client_id) DO UPDATE SET last_seen = EXCLUDED.last_seen WHERE stored.last_seen < EXCLUDED.last_seen
"""

ONE = """
INSERT INTO client_activity (client_id, last_seen, created_at) VALUES (%(key)s, now(), now())
ON CONFLICT (client_id) DO UPDATE SET last_seen = EXCLUDED.last_seen
"""

COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"

Batches = Iterator[list[str]]
Moments = Iterator[datetime]


def run() -> list[Row]:
    """Start a server of its own and measure on it."""
    keys = [hashlib.md5(str(number).encode()).hexdigest()[:20] for number in range(TABLE_ROWS)]
    with PostgresServer() as server:
        url = _prepare(server, keys)
        return [*_flushes(url, keys), *_statements(server), *_added(server, url, keys)]


def _prepare(server: PostgresServer, keys: list[str]) -> str:
    url = server.create_database()
    LastSeen.open(url, migrate=True).close()
    with psycopg.connect(url, autocommit=True) as connection:
        # No vacuum in the middle of a round; the others would pay less.
        connection.execute("ALTER TABLE client_activity SET (autovacuum_enabled = false)")
        connection.execute(FILL, (STORED_AT, STORED_AT, keys))
        connection.execute("VACUUM ANALYZE client_activity")
    return url


def _flushes(url: str, keys: list[str]) -> list[Row]:
    """Let all write to one table, each keys of its own: nobody finds pages that somebody has just read for the same."""
    bare = psycopg.connect(url, autocommit=True)
    bare.execute("SET synchronous_commit = off")
    alone = LastSeen.open(url)
    flushed = LastSeen.open(url)
    tracker = ActivityTracker(flushed.store.clients, SETTINGS)
    moments = (STORED_AT + timedelta(seconds=second) for second in count(1))
    rows = []
    for size, repeats in BATCHES.items():
        contenders = {
            "bare": partial(_bare, bare, CHUNK, _batches(keys, size, "bare"), moments),
            "recorder": partial(_recorder, alone, _batches(keys, size, "recorder"), moments),
            "flush": partial(_flush, tracker, _batches(keys, size, "flush"), moments),
        }
        contenders["unsorted"] = partial(_bare_unsorted, bare, CHUNK, _batches(keys, size, "unsorted"), moments)
        if size > CHUNK:
            contenders["bare whole"] = partial(_bare, bare, size, _batches(keys, size, "whole"), moments)
        rounds = take_turns(contenders, repeats)
        best = min(contenders.keys() & {"bare", "bare whole"}, key=rounds.median)
        for name, case in (("flush", "flush out of the buffer"), ("recorder", "recorder alone")):
            speed = 1 / rounds.ratio(name, best)
            rows.append(
                Row(
                    bar="B4",
                    case=f"PostgreSQL, {case}, {size:,} of {TABLE_ROWS:,} rows",
                    figure=rate(rounds.median(name), "rows"),
                    limit=f"at least {LEAST:.0%} of the best statement",
                    peer=f"hand-written unnest {rate(rounds.median(best), 'rows')}",
                    ratio=f"{speed:.2f}",
                    spread=rounds.ratio_spread(name, best, inverted=True),
                    met=speed >= LEAST,
                )
            )
        rows.append(
            Row(
                bar="B4",
                case=f"PostgreSQL, hand-written unnest out of a dictionary of floats, {size:,} of {TABLE_ROWS:,} rows",
                figure=rate(rounds.median("unsorted"), "rows"),
                peer=f"hand-written unnest {rate(rounds.median(best), 'rows')}",
                ratio=f"{1 / rounds.ratio('unsorted', best):.2f}",
                spread=rounds.ratio_spread("unsorted", best, inverted=True),
            )
        )
    tracker.close()
    flushed.close()
    alone.close()
    bare.close()
    return rows


def _batches(keys: list[str], size: int, whose: str) -> Batches:
    for number in count():
        yield random.Random(f"{whose} {number}").sample(keys, size)


def _bare(connection: psycopg.Connection, chunk: int, batches: Batches, moments: Moments) -> float:
    at, keys = next(moments), sorted(next(batches))
    chunks = [keys[first : first + chunk] for first in range(0, len(keys), chunk)]
    began = time.perf_counter()
    for part in chunks:
        connection.execute(BEST, (part, [at] * len(part)))
    return (time.perf_counter() - began) / len(keys)


def _bare_unsorted(connection: psycopg.Connection, chunk: int, batches: Batches, moments: Moments) -> float:
    """Begin where a flush begins: with a dictionary in the order in which the keys came, and times of the clock."""
    waiting = dict.fromkeys(next(batches), next(moments).timestamp())
    began = time.perf_counter()
    rows = [(key, datetime.fromtimestamp(waiting[key], UTC)) for key in sorted(waiting)]
    for first in range(0, len(rows), chunk):
        keys, times = zip(*rows[first : first + chunk], strict=True)
        connection.execute(BEST, (list(keys), list(times)))
    return (time.perf_counter() - began) / len(rows)


def _recorder(seen: LastSeen, batches: Batches, moments: Moments) -> float:
    at, keys = next(moments), sorted(next(batches))
    chunks = [dict.fromkeys(keys[first : first + CHUNK], at) for first in range(0, len(keys), CHUNK)]
    began = time.perf_counter()
    for chunk in chunks:
        seen.store.clients.batch_record_activity(chunk)
    return (time.perf_counter() - began) / len(keys)


def _flush(tracker: ActivityTracker, batches: Batches, moments: Moments) -> float:
    at, keys = next(moments), next(batches)
    for key in keys:
        tracker.record(key, at)
    began = time.perf_counter()
    result = tracker.flush()
    elapsed = time.perf_counter() - began
    assert result.updated_count == len(keys), result
    return elapsed / len(keys)


def _statements(server: PostgresServer) -> list[Row]:
    """Let 400 clients make one request a second each, evenly spread, and count what reaches PostgreSQL."""
    url = server.create_database()
    with (
        LastSeen.open(url, migrate=True) as seen,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        clients = cycle([f"client-{number:03d}" for number in range(BUSY_CLIENTS)])
        _touch(seen, clients, seconds=2)  # every client and its hour is known from here on
        seen.clients.flush()
        flushes, commits = seen.clients.health().flushes, _commits(connection)
        _touch(seen, clients, seconds=BUSY_SECONDS)
        flushes = seen.clients.health().flushes - flushes
        seen.close()
        commits = _commits(connection) - commits
    a_second = flushes / BUSY_SECONDS
    return [
        Row(
            bar="B4",
            case=f"upsert statements, {BUSY_CLIENTS} clients with a request a second each, {BUSY_SECONDS} s",
            figure=f"{a_second:.2f} a second",
            limit=f"on average at most {MOST_STATEMENTS_A_SECOND:g} a second",
            peer=f"an upsert in the request: {BUSY_CLIENTS} a second",
            ratio=f"{a_second / BUSY_CLIENTS:.3f}",
            spread=f"{commits / BUSY_SECONDS:.2f} transactions of any kind a second, by pg_stat_database",
            met=a_second <= MOST_STATEMENTS_A_SECOND,
        )
    ]


def _commits(connection: psycopg.Connection) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(COMMITS).fetchone()
    assert row is not None
    return int(row[0])


def _touch(seen: LastSeen, clients: Iterator[str], *, seconds: int) -> None:
    """Keep the pace of a clock, so that a pause of the machine is caught up with."""
    pause = threading.Event()
    began = time.monotonic()
    for number in range(seconds * BUSY_CLIENTS):
        due = began + number / BUSY_CLIENTS
        while (left := due - time.monotonic()) > 0:
            pause.wait(left)
        seen.clients.record(next(clients))


def _added(server: PostgresServer, url: str, keys: list[str]) -> list[Row]:
    """Compare what one request waits for."""
    seen = LastSeen.open(url)
    clients = keys[:BUSY_CLIENTS]
    with ConnectionPool(url, min_size=1, max_size=1, open=True) as pool:
        requests: dict[str, Callable[[str], object]] = {
            "record": seen.clients.record,
            "upsert": partial(_upsert, pool),
        }
        names = {
            "record": "lastseen: record in memory",
            "upsert": "an upsert in the request, psycopg pool",
        }
        rows = []
        if find_spec("online_users"):
            from benchmarks.per_request_package import prepare

            requests["package"] = prepare(server, clients)
            names["package"] = "django-online-users 0.3: its middleware, Django ORM"
        else:
            case = "django-online-users: not installed (pip install -r benchmarks/requirements.txt)"
            rows.append(Row(bar="B4", case=f"added to a request, {case}", figure="not measured"))
        contenders = {name: partial(_timed, request, clients) for name, request in requests.items()}
        rounds = take_turns(contenders, 7)
    seen.close()
    return [
        *(
            Row(
                bar="B4",
                case=f"added to a request, {names[name]}",
                figure=microseconds(rounds.median(name)),
                peer=f"lastseen {microseconds(rounds.median('record'))}",
                ratio=f"{rounds.ratio(name, 'record'):,.0f}",
                spread=f"{min(rounds.ratios(name, 'record')):,.0f} to {max(rounds.ratios(name, 'record')):,.0f}",
            )
            for name in requests
        ),
        *rows,
    ]


def _upsert(pool: ConnectionPool, key: str) -> None:
    with pool.connection() as connection:
        connection.execute(ONE, {"key": key})


def _timed(request: Callable[[str], object], clients: list[str]) -> float:
    began = time.perf_counter()
    for client in clients:
        request(client)
    return (time.perf_counter() - began) / len(clients)
