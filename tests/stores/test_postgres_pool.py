"""Connections of our own: few, lent to one at a time, and with a short way for what every request asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from lastseen import LastSeen, SchemaError, StoreUnavailable
from lastseen.stores import Store, open_store
from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.postgres.pool import OwnPool
from tests.servers import PostgresServer, Proxy, ask

ECHO = "SELECT %b::bytea, pg_backend_pid()"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastseen' AND datname = current_database()"
UNKNOWN = bytes(32)


@pytest.fixture
def open_pool(postgres_url: str) -> Iterator[Callable[..., OwnPool]]:
    """Open pools that are closed in the end."""
    pools = []

    def make(size: int = 2, url: str = postgres_url, deadline: timedelta = timedelta(seconds=5)) -> OwnPool:
        pools.append(OwnPool(url, size=size, deadline=deadline))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    store.migrate()
    yield store
    store.close()


def test_many_threads_share_few_connections(open_pool: Callable[..., OwnPool], postgres_url: str) -> None:
    """Eight threads on two connections each get their own answers, and never a third connection is made."""
    pool = open_pool(size=2)
    database = PostgresDatabase(pool, deadline=timedelta(seconds=20))

    def work(thread: int) -> set[int]:
        pids = set()
        for number in range(100):
            key = b"%d-%d" % (thread, number)
            if number % 3:
                [(echoed, pid)] = database.find(ECHO, key)
            else:
                with database.read() as cursor:
                    cursor.execute(ECHO, (key,))
                    [(echoed, pid)] = cursor.fetchall()
            assert echoed == key
            pids.add(pid)
        return pids

    with ThreadPoolExecutor(8) as threads:
        pids = set().union(*threads.map(work, range(8)))
    assert len(pids) <= 2
    assert ask(postgres_url, OURS) == [(len(pids),)]


def test_who_finds_no_free_connection_waits_for_one(open_pool: Callable[..., OwnPool]) -> None:
    """A borrower waits until another gives back, and gives up after its timeout."""
    pool = open_pool(size=1)
    waiting = threading.Event()

    def borrow() -> int:
        waiting.set()
        with pool.lend(30) as connection:
            return int(connection.info.backend_pid)

    with ThreadPoolExecutor(1) as thread:
        with pool.lend(5) as connection:
            pid = connection.info.backend_pid
            with pytest.raises(StoreUnavailable, match=r"no free connection within 0\.01 s"):
                pool.ask(ECHO, b"", 0.01)
            second = thread.submit(borrow)
            assert waiting.wait(30)
        assert second.result(30) == pid


def test_closing_ends_also_what_is_lent_and_the_next_use_opens_again(
    open_pool: Callable[..., OwnPool], postgres_url: str
) -> None:
    """A connection that is in use while the pool is closed ends when it comes back."""
    pool = open_pool(size=2)
    with pool.lend(5) as connection:
        pool.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert connection.closed
    assert pool.ask(ECHO, b"again", 5) is not None
    pool.close()
    while ask(postgres_url, OURS) != [(0,)]:
        pass


def test_a_connection_left_in_a_transaction_is_not_lent_again(open_pool: Callable[..., OwnPool]) -> None:
    """Nobody inherits what another began."""
    pool = open_pool(size=1)
    with pool.lend(5) as connection:
        connection.execute("BEGIN")
    with pool.lend(5) as other:
        assert other is not connection
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_question_survives_the_end_of_its_session(store: Store, postgres_url: str) -> None:
    """A session that the server ended while it was idle is replaced, without a failure."""
    assert store.sessions.find_session(UNKNOWN) is None
    ask(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lastseen'")
    while ask(postgres_url, OURS) != [(0,)]:
        pass
    assert store.sessions.find_session(UNKNOWN) is None


def test_a_question_that_broke_on_its_way_is_asked_once_more(open_pool: Callable[..., OwnPool]) -> None:
    """The session may end between the look at it and the question; the question changes nothing, so it is repeated."""
    pool = open_pool(size=1)
    database = PostgresDatabase(pool, deadline=timedelta(seconds=5))
    suicide = "SELECT %b::bytea, pg_terminate_backend(pg_backend_pid()) WHERE current_query() LIKE '%$1%'"
    assert pool.ask(suicide, b"", 5) is None
    [(_, pid)] = database.find(ECHO, b"")
    assert database.find(ECHO, b"") == [(b"", pid)]


def test_a_question_to_a_server_that_hangs_ends_in_time(postgres: PostgresServer, postgres_url: str) -> None:
    """No answer is unavailable, after the deadline; the next question goes to a new session."""
    LastSeen.open(postgres_url, migrate=True).close()
    store = open_store(postgres_url, deadline=timedelta(seconds=3))
    assert store.sessions.find_session(UNKNOWN) is None
    postgres.pause()
    try:
        with pytest.raises(StoreUnavailable, match=r"no answer within 3 s"):
            store.sessions.find_session(UNKNOWN)
    finally:
        postgres.resume()
    assert store.sessions.find_session(UNKNOWN) is None
    store.close()


def test_a_server_that_accepts_and_says_nothing(postgres: PostgresServer, postgres_url: str) -> None:
    """Opening a connection ends with the deadline too, however long the driver's own timeout is."""
    with Proxy(postgres.port) as proxy:
        proxy.answers = "swallow"
        url = postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")
        store = open_store(url, deadline=timedelta(milliseconds=100))
        with pytest.raises(StoreUnavailable, match=r"no connection within"):
            store.sessions.find_session(UNKNOWN)
        store.close()


def test_statements_that_a_pooler_lost_are_asked_without_being_prepared(
    open_pool: Callable[..., OwnPool],
) -> None:
    """A session that forgot what was prepared in it gives the answer all the same, and is asked plainly from then."""
    pool = open_pool(size=1)
    database = PostgresDatabase(pool, deadline=timedelta(seconds=5))
    assert database.find(ECHO, b"one")[0][0] == b"one"
    with pool.lend(5) as connection:
        connection.execute("DEALLOCATE ALL")
    assert database.find(ECHO, b"two")[0][0] == b"two"
    assert pool.ask(ECHO, b"three", 5) is None
    assert database.find(ECHO, b"three")[0][0] == b"three"


def test_an_error_of_the_servers_is_in_our_words(store: Store, postgres_url: str) -> None:
    """A table that is missing is a wrong schema, whichever way it was asked for, and mending it is enough."""
    ask(postgres_url, "ALTER TABLE login_sessions RENAME TO gone")
    with pytest.raises(SchemaError, match="run: lastseen migrate"):
        store.sessions.find_session(UNKNOWN)
    ask(postgres_url, "ALTER TABLE gone RENAME TO login_sessions")
    assert store.sessions.find_session(UNKNOWN) is None
    ask(postgres_url, "ALTER TABLE login_sessions ALTER COLUMN label TYPE varchar(300)")
    assert store.sessions.find_session(UNKNOWN) is None
