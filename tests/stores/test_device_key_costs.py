"""Verifying an unknown, a wrong and a right secret is the same work, in Python and in the database: time tells nothing.

Nothing here is timed; the interpreter, SQLite and libpq tell what was done.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from psycopg import pq
from psycopg_pool import ConnectionPool

from lastseen.devices.api_keys import ApiKeys
from lastseen.devices.key import new_secret
from lastseen.stores import open_store
from lastseen.stores.memory import MemoryDevices
from lastseen.stores.postgres import api_keys as postgres_keys
from lastseen.stores.sqlite import SQLiteStore
from lastseen.stores.sqlite import api_keys as sqlite_keys
from tests.servers import ask

KEYS = 50
PLAIN = "SELECT {key}, digest FROM lastseen_api_keys WHERE prefix = {prefix}"
"""What anybody would write, and what gives a row for a known prefix only."""

Secrets = dict[str, str]
Work = Callable[[str], object]


def make_keys(keys: ApiKeys) -> Secrets:
    """Fill the store; return a secret of each kind, also before the first and after the last prefix of all."""
    made = [keys.create("till", scopes=["devices:read"])[1].reveal() for _ in range(KEYS)]
    right = made[KEYS // 2]
    ends = {"first of all": "ls_00000000_", "last of all": "ls_zzzzzzzz_"}
    return {
        "right": right,
        "wrong": right[:12] + new_secret().reveal()[12:],
        "unknown": new_secret().reveal(),
        **{name: prefix + new_secret().reveal()[12:] for name, prefix in ends.items()},
    }


def calls_of(work: Callable[[], object]) -> Counter[str]:
    """Return every function that is called meanwhile, of Python and of C, and how often."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            calls[f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            calls[called.__qualname__] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def check_calls(keys: ApiKeys, secrets: Secrets) -> None:
    """Fail unless whatever the secret, the same functions are called as often."""
    for secret in [*secrets.values()] * 3:
        keys.verify(secret)  # what is made on first use, or prepared when it is used often, is there then
    calls = {kind: calls_of(lambda secret=secret: keys.verify(secret)) for kind, secret in secrets.items()}  # type: ignore[misc]
    right = calls.pop("right")
    assert right["compare_digest"] == right["openssl_sha256"] == right["key.py ApiKey.is_valid"] == 1
    for kind, found in calls.items():
        assert found == right, kind


# Python


def test_in_memory_the_same_is_called() -> None:
    """One digest, one comparison in constant time, one look at the times of a key."""
    store = MemoryDevices()
    keys = ApiKeys(store)
    check_calls(keys, make_keys(keys))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "keys.db")
    store.migrate()
    yield store
    store.close()


def test_with_a_database_the_same_is_called(any_store: Any) -> None:
    """A key is read from a row whether it is the right one or not."""
    keys = ApiKeys(any_store.devices)
    check_calls(keys, make_keys(keys))


def test_a_statement_that_finds_nothing_is_noticed(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with the statement that anybody would write, less is called for an unknown secret."""
    monkeypatch.setattr(sqlite_keys, "FIND_KEY", PLAIN.format(key=sqlite_keys.KEY, prefix="?"))
    keys = ApiKeys(sqlite.devices)
    with pytest.raises(AssertionError, match="unknown"):
        check_calls(keys, make_keys(keys))


# SQLite


def sqlite_work(store: SQLiteStore, work: Callable[[], object]) -> tuple[int, int, int]:
    """Return the statements, the rows and the steps of SQLite's machine meanwhile."""
    statements: list[str] = []
    rows, steps = 0, 0

    def note_row(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal rows
        rows += 1
        return row

    def note_step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with store._database.read() as connection:
        connection.set_trace_callback(statements.append)
        connection.row_factory = note_row
        connection.set_progress_handler(note_step, 1)
        try:
            work()
        finally:
            connection.set_trace_callback(None)
            connection.row_factory = None
            connection.set_progress_handler(None, 1)
    return len(statements), rows, steps


def test_sqlite_takes_the_same_steps(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement and one row, and step by step the same; a dozen steps more where the search goes on from the start.

    The negative control: the statement that anybody would write gives no row, in less steps.
    """
    keys = ApiKeys(sqlite.devices)
    secrets = make_keys(keys)
    work = {kind: sqlite_work(sqlite, lambda secret=secret: keys.verify(secret)) for kind, secret in secrets.items()}  # type: ignore[misc]
    statements, rows, steps = work["right"]
    assert (statements, rows) == (1, 1)
    last = work.pop("last of all")
    assert last[:2] == (1, 1)
    assert 0 <= last[2] - steps <= 15
    assert set(work.values()) == {(1, 1, steps)}
    monkeypatch.setattr(sqlite_keys, "FIND_KEY", PLAIN.format(key=sqlite_keys.KEY, prefix="?"))
    plain = {kind: sqlite_work(sqlite, lambda kind=kind: keys.verify(secrets[kind])) for kind in ("right", "unknown")}  # type: ignore[misc]
    assert plain["right"][:2] == (1, 1)
    assert plain["unknown"][:2] == (1, 0)
    assert plain["unknown"][2] < plain["right"][2]


# PostgreSQL


@pytest.fixture
def pool(postgres_url: str) -> Iterator[ConnectionPool[Any]]:
    """Lend one connection, always the same."""
    with ConnectionPool(postgres_url, min_size=1, max_size=1) as pool:
        yield pool


def messages(pool: ConnectionPool[Any], work: Callable[[], object]) -> list[tuple[str, int]]:
    """Return what goes to the server and what comes back meanwhile: the kind and the size of each message."""
    with tempfile.TemporaryFile("w+") as log:
        with pool.connection() as connection:
            pgconn = connection.pgconn
            pgconn.trace(log.fileno())
            pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        try:
            work()
        finally:
            with pool.connection():
                pgconn.untrace()
        log.seek(0)
        parts = [line.split("\t") for line in log]
    return [(f"{direction} {kind}", int(size)) for direction, size, kind, *_ in parts]


def test_postgres_sends_the_same(pool: ConnectionPool[Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many messages of the same kind and size go to and fro, one row among them, whatever the secret.

    The negative control: with the statement that anybody would write, no row comes back for an unknown one.
    """
    store = open_store(pool)
    store.migrate()
    keys = ApiKeys(store.devices)
    secrets = make_keys(keys)

    def heard() -> dict[str, list[tuple[str, int]]]:
        for _ in range(10):
            keys.verify(secrets["right"])  # psycopg prepares a statement when it comes again and again
        return {kind: messages(pool, lambda secret=secret: keys.verify(secret)) for kind, secret in secrets.items()}  # type: ignore[misc]

    found = heard()
    assert [kind for kind, _ in found["right"]].count("B DataRow") == 1
    for kind, sent in found.items():
        assert sent == found["right"], kind
    plain = PLAIN.format(key=postgres_keys.KEY, prefix="%(prefix)s")
    monkeypatch.setattr(postgres_keys, "FIND_KEY", plain)
    assert [kind for kind, _ in heard()["unknown"]].count("B DataRow") == 0
    store.close()


def test_postgres_goes_through_the_index(postgres_url: str) -> None:
    """With many keys, none of the three looks at more of the table than one row."""
    store = open_store(postgres_url)
    store.migrate()
    ask(
        postgres_url,
        "INSERT INTO lastseen_api_keys (id, name, prefix, scopes, created_at, digest) "
        "SELECT 'k' || n, '', left(md5(n::text), 8), '', now(), sha256(n::text::bytea) FROM generate_series(1, 5000) n",
    )
    ask(postgres_url, "ANALYZE lastseen_api_keys")
    for prefix in (f"left(md5('{KEYS}'), 8)", "'00000000'", "'7zzzzzzz'", "'zzzzzzzz'"):
        statement = postgres_keys.FIND_KEY.replace("%(prefix)s", prefix)
        plan = [line for (line,) in ask(postgres_url, f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {statement}")]
        assert not [line for line in plan if "Seq Scan" in line], plan
        assert "rows=1" in plan[0], plan
    store.close()


def test_a_key_that_is_remembered_asks_nothing(sqlite: SQLiteStore) -> None:
    """What a cache saves, it saves for the right secret alone: that one is known to whoever has it."""
    keys = ApiKeys(sqlite.devices, cache=timedelta(seconds=5))
    secrets = make_keys(keys)
    work = {}
    for kind, secret in secrets.items():
        keys.verify(secret)
        work[kind] = sqlite_work(sqlite, lambda secret=secret: keys.verify(secret))[:2]  # type: ignore[misc]
    assert work.pop("right") == (0, 0)
    assert set(work.values()) == {(1, 1)}
