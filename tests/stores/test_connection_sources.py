"""Every source of connections that an application may have carries the same store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy.ext.asyncio import create_async_engine

from lastseen import (
    ActivityTable,
    ConfigurationError,
    LastSeen,
    StoreUnavailable,
    table_recorder,
)
from lastseen.testing import moment, updates
from tests.servers import PostgresServer, ask

SOURCES = ["url", "psycopg pool", "psycopg engine", "psycopg2 engine", "autocommit engine", "sqlite engine"]


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """One of the sources, with unusual defaults where it has some."""
    with ExitStack() as stack:
        if request.param == "sqlite engine":
            engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/engine.db")
            stack.callback(engine.dispose)
            yield engine
            return
        url: str = request.getfixturevalue("postgres_url")
        if request.param == "url":
            yield url
        elif request.param == "psycopg pool":
            yield stack.enter_context(ConnectionPool(url, kwargs={"row_factory": dict_row}, min_size=1, open=False))
        else:
            yield stack.enter_context(engine_of(url, request.param))


@contextmanager
def engine_of(url: str, kind: str) -> Iterator[sqlalchemy.Engine]:
    """Make a SQLAlchemy engine and give it back."""
    driver = "psycopg2" if kind == "psycopg2 engine" else "psycopg"
    options = {"isolation_level": "AUTOCOMMIT"} if kind == "autocommit engine" else {}
    engine = sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{driver}:"), **options)
    yield engine
    engine.dispose()


def test_a_store_works_on_it(source: Any) -> None:
    """Migrate, record, flush, ask: all on the application's connections, and twice."""
    with LastSeen.open(source, migrate=True) as seen:
        assert seen.store.migrate() == []
        seen.clients.record("a", moment(1, microseconds=1))
        seen.clients.record("é\\\"'{},%s", moment(2))
        assert seen.clients.flush().updated_count == 2
        seen.clients.record("a", moment(3))
        assert seen.clients.flush().updated_count == 1
        assert [client.client_id for client in seen.clients.list()] == ["a", "é\\\"'{},%s"]
        client = seen.clients.get("a")
        assert client is not None
        assert (client.last_seen_at, client.created_at) == (moment(3), moment(1, microseconds=1))
        assert seen.clients.counts().total == 2
        assert seen.clients.active_hours(["a"], moment(hours=-1)) == {"a": [moment()]}


@pytest.mark.parametrize("kind", ["url", "psycopg pool", "psycopg engine", "psycopg2 engine"])
def test_a_table_recorder_works_on_it(postgres_url: str, kind: str) -> None:
    """A recorder for the application's own table takes the same sources."""
    ask(postgres_url, "CREATE TABLE users (id bigint PRIMARY KEY, last_seen_at timestamptz)")
    ask(postgres_url, "INSERT INTO users SELECT generate_series(1, 3)")
    with ExitStack() as stack:
        source: Any = postgres_url
        if kind == "psycopg pool":
            source = stack.enter_context(ConnectionPool(postgres_url, min_size=1, open=False))
        elif kind != "url":
            source = stack.enter_context(engine_of(postgres_url, kind))
        recorder = table_recorder(source, ActivityTable(table="users"))
        assert recorder.batch_record_activity(updates("1", "3", "4")) == 2
    assert ask(postgres_url, "SELECT id FROM users WHERE last_seen_at = %s ORDER BY id", [moment()]) == [(1,), (3,)]


@pytest.mark.parametrize("kind", ["url", "psycopg pool", "psycopg engine", "psycopg2 engine"])
def test_a_restart_costs_one_failure_at_most(postgres: PostgresServer, postgres_url: str, kind: str) -> None:
    """A source may lend a connection that died; the failure is ours, and the next attempt has a new connection."""
    with ExitStack() as stack:
        source: Any = postgres_url
        if kind == "psycopg pool":
            source = stack.enter_context(ConnectionPool(postgres_url, min_size=1, open=False))
        elif kind != "url":
            source = stack.enter_context(engine_of(postgres_url, kind))
        seen = stack.enter_context(LastSeen.open(source, migrate=True))
        postgres.restart()
        with suppress(StoreUnavailable):
            seen.clients.counts()
        assert seen.clients.counts().total == 0


def test_a_frozen_server_is_cut_off_on_any_driver(postgres: PostgresServer, postgres_url: str) -> None:
    """psycopg2 waits inside libpq, where no timeout of Python's reaches; the call ends nevertheless."""
    with engine_of(postgres_url, "psycopg2 engine") as engine:
        LastSeen.open(engine, migrate=True).close()
        seen = LastSeen.open(engine, deadline=timedelta(seconds=3))
        postgres.pause()
        try:
            with pytest.raises(StoreUnavailable, match="no answer"):
                seen.clients.counts()
        finally:
            postgres.resume()
        assert seen.clients.counts().total == 0
        seen.close()


def test_addresses_have_no_secrets(postgres_url: str) -> None:
    """What messages say about a source leads to the database, without the password."""
    address = postgres_url.replace("postgres@", "postgres:secret@")
    with ConnectionPool(address, min_size=1, open=False) as pool, engine_of(address, "psycopg engine") as engine:
        for source in (address, pool, engine):
            seen = LastSeen.open(source, migrate=True)
            assert seen.store.address == postgres_url
            seen.close()


@pytest.mark.parametrize(
    "source",
    [
        sqlalchemy.create_engine("sqlite://"),
        create_async_engine("postgresql+psycopg://127.0.0.1/none"),
        AsyncConnectionPool("postgresql://127.0.0.1/none", open=False),
        object(),
        42,
        "mysql://localhost/db",
        "no address",
    ],
    ids=["in-memory engine", "async engine", "async pool", "object", "number", "mysql", "no address"],
)
def test_other_sources_are_refused_with_advice(source: Any) -> None:
    """What cannot be used is refused at once, in words that say what can."""
    for attempt in (LastSeen.open, lambda source: table_recorder(source, ActivityTable(table="users"))):
        with pytest.raises(ConfigurationError, match=r"lastseen takes|a database is|memory:"):
            attempt(source)


FORK = """
import os, sys
from lastseen import LastSeen

kind, url = sys.argv[1:]
if kind == "own pool":
    source = url
else:
    import sqlalchemy
    source = sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{kind}:"))
seen = LastSeen.open(source, migrate=True, pool_size=2)
seen.clients.record("parent")
seen.clients.flush()
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        seen.clients.record(f"child-{number}")
        seen.clients.flush()
        total = seen.clients.count(search="child")
        code = 0 if total >= 1 and seen.close() == 0 else 1
        sys.exit(code)
    children.append(child)
failed = [os.waitpid(child, 0)[1] for child in children]
seen.clients.record("parent again")
seen.clients.flush()
print(failed, seen.clients.counts().total)
seen.close()
"""


@pytest.mark.parametrize("kind", ["own pool", "psycopg", "psycopg2"])
def test_forked_children_leave_the_parents_connections_alone(postgres_url: str, kind: str) -> None:
    """Three children of a process that already used its pool work on their own, end, and the parent goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, kind, postgres_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[0, 0, 0] 5", 0), done.stderr


DJANGO = """
import sys
import django
from django.conf import settings

engine, name, port = sys.argv[1:]
default = {"ENGINE": engine, "NAME": name, "USER": "postgres", "HOST": "127.0.0.1", "PORT": port, "CONN_MAX_AGE": 60}
settings.configure(DATABASES={"default": default}, USE_TZ=True)
django.setup()
from django.db import connection, transaction
from lastseen import LastSeen

seen = LastSeen.open(connection, migrate=True)
with transaction.atomic():
    # A rollback of the application's must not take back what lastseen wrote, nor see its settings.
    connection.cursor().execute("SELECT 1")
    seen.clients.record("a", 1_700_000_000)
    seen.clients.flush()
    assert seen.clients.counts().total == 1
    transaction.set_rollback(True)
seen.clients.record("b", 1_700_000_001.5)
assert seen.close() == 0
print(seen.store.address)
seen = LastSeen.open(connection)
print([(one.client_id, one.last_seen_at.timestamp(), one.created_at.timestamp()) for one in seen.clients.list()])
seen.close()
"""


DJANGO_THREADS = """
import os
import sys
import threading
import time
import django
from django.conf import settings

name, port = sys.argv[1:]
default = {"ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": "postgres", "HOST": "127.0.0.1",
    "PORT": port, "CONN_MAX_AGE": None}
settings.configure(DATABASES={"default": default}, USE_TZ=True)
django.setup()
from django.db import connection
from lastseen.stores import open_store

store = open_store(connection)
store.migrate()

def connections():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]

# A thread that goes on, in the parent and beside a child.
asked, ended = threading.Event(), threading.Event()

def stay():
    store.sessions.list_users()
    asked.set()
    ended.wait()
    store.sessions.list_users()

staying = threading.Thread(target=stay)
staying.start()
asked.wait()
for _ in range(20):
    one = threading.Thread(target=store.sessions.list_users)
    one.start()
    one.join()
until = time.monotonic() + 30
# Django's own, the main thread's, and that of the thread that stays.
while connections() > 3:
    assert time.monotonic() < until, connections()
child = os.fork()
if child == 0:
    store.sessions.list_users()
    sys.exit(0)
status = os.waitpid(child, 0)[1]
ended.set()
staying.join()
store.sessions.list_users()
print(status)
"""


def test_a_thread_takes_its_connection_with_it(postgres: PostgresServer, postgres_url: str) -> None:
    """Where every request has a thread of its own connections do not add up; a child leaves its parent's alone."""
    done = subprocess.run(
        [sys.executable, "-c", DJANGO_THREADS, postgres_url.rpartition("/")[2], str(postgres.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


@pytest.mark.parametrize("engine", ["postgresql", "sqlite3"])
def test_djangos_connection(request: pytest.FixtureRequest, tmp_path: Path, engine: str) -> None:
    """Django's settings carry a store, from any thread, outside of the transactions of its requests."""
    if engine == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        address = request.getfixturevalue("postgres_url")
        name, port = address.rpartition("/")[2], str(postgres.port)
    else:
        name, port = str(tmp_path / "django.db"), ""
        address = f"sqlite:///{name}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO, f"django.db.backends.{engine}", name, port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        address,
        "[('b', 1700000001.5, 1700000001.5), ('a', 1700000000.0, 1700000000.0)]",
    ]
