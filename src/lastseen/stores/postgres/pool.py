"""Connections of psycopg 3: a pool of our own, or the one that the application has."""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from lastseen.errors import ConfigurationError, StoreUnavailable
from lastseen.forking import reset_in_forked_children
from lastseen.stores.connections import SUPPORTED, Connections, postgres_address
from lastseen.stores.postgres.failures import PREPARED_STATEMENT_LOST
from lastseen.stores.postgres.link import Link, NoAnswer, NotPrepared
from lastseen.stores.postgres.wire import Wire

APPLICATION_NAME = "lastseen"


class OwnPool:
    """At most `size` connections, each opened when it is first needed, in each process anew.

    Free slots are a stack: a slot is a connection, or None for one that may be opened. Taking the top and putting it
    back is one operation on a deque each, without a lock; only who finds it empty waits on a condition.
    """

    dialect = "postgresql"

    def __init__(self, url: str, *, size: int, deadline: timedelta) -> None:
        self._options = _parse(url)
        self.address = _address_of(self._options)
        self._size = size
        # A prepared upsert saves 0.15 ms of planning. A statement is prepared for a server's session though, and some
        # poolers in between (PgBouncer before 1.21) give each transaction another session.
        self._prepare_threshold: int | None = 5
        self._connect_timeout = max(2, math.ceil(deadline.total_seconds()))
        self._inherited: list[deque[Link | None]] = []
        self._slots: deque[Link | None] = deque()
        self.reset_after_fork()
        reset_in_forked_children(self)
        # Registered before any tracker's own ending, so it runs after the last flush.
        self._at_exit = partial(_close_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    def reset_after_fork(self) -> None:
        """Leave the parent's connections alone: they are kept, because closing them would end the parent's."""
        self._inherited.append(self._slots)
        self._slots = deque([None] * self._size)
        self._freed = threading.Condition()
        self._waiting = 0
        self._generation = object()

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Any]:
        """See `Connections`; fails as soon as a connection is refused, not at the end of the timeout."""
        link = self._take(timeout)
        link.connection.prepare_threshold = self._prepare_threshold
        try:
            yield link.connection
        except StoreUnavailable as error:
            if getattr(error.__cause__, "sqlstate", None) in PREPARED_STATEMENT_LOST:
                self._prepare_threshold = None
            raise
        finally:
            self._give_back(link)

    def ask(self, statement: str, key: bytes, seconds: float) -> list[tuple[Any, ...]] | None:
        """Ask on one of the connections, see `Link.ask`; None also where statements cannot be prepared."""
        if self._prepare_threshold is None:
            return None
        link = self._take(seconds)
        try:
            return link.ask(statement, key, seconds)
        except NotPrepared:
            self._prepare_threshold = None
            return None
        except NoAnswer as error:
            raise StoreUnavailable(f"{self.address}: no answer within {seconds:g} s") from error
        finally:
            self._give_back(link)

    def close(self) -> None:
        """Close the connections, those in use when they come back; the next use opens new ones."""
        self._generation = object()
        free = []
        with suppress(IndexError):
            while True:
                free.append(self._slots.pop())
        for link in free:
            if link is not None:
                link.close()
            self._free(None)
        # What is opened after this ends with its pool, or with the process.
        atexit.unregister(self._at_exit)

    def _take(self, timeout: float) -> Link:
        until = time.monotonic() + timeout
        try:
            link = self._slots.pop()
        except IndexError:
            link = self._wait_for_slot(timeout)
        if link is not None:
            if link.is_usable():
                return link
            link.close()
        return self._open(max(0.0, until - time.monotonic()))

    def _wait_for_slot(self, timeout: float) -> Link | None:
        until = time.monotonic() + timeout
        with self._freed:
            self._waiting += 1
            try:
                while True:
                    # Counted as waiting before this look: who frees a slot after it wakes us.
                    with suppress(IndexError):
                        return self._slots.pop()
                    if not self._freed.wait(until - time.monotonic()):
                        raise StoreUnavailable(f"{self.address}: no free connection within {timeout:g} s")
            finally:
                self._waiting -= 1

    def _give_back(self, link: Link) -> None:
        if link.generation is not self._generation or not link.is_idle():
            link.close()
            self._free(None)
        else:
            self._free(link)

    def _free(self, slot: Link | None) -> None:
        # Open connections lie on top, and the one used last is used next.
        if slot is None:
            self._slots.appendleft(None)
        else:
            self._slots.append(slot)
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def _open(self, timeout: float) -> Link:
        """Connect in a thread of its own, as resolving a name knows no deadline.

        After the timeout the slot stays taken until that thread is done, so there are never more than `size` of them.
        """
        opening: Future[Link] = Future()
        _start(partial(self._connect, opening))
        try:
            return opening.result(timeout)
        except BaseException as error:
            opening.add_done_callback(self._free_when_done)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable(f"{self.address}: no connection within {timeout:g} s") from error
            # Python's own resolver refuses names with an empty or an overlong part like that.
            if isinstance(error, (psycopg.Error, UnicodeError)):
                raise StoreUnavailable(f"{self.address}: {' '.join(str(error).split())}") from error
            raise

    def _connect(self, opening: Future[Link]) -> None:
        generation = self._generation
        defaults = {
            "application_name": APPLICATION_NAME,
            "connect_timeout": self._connect_timeout,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        # Whatever the database keeps its texts in: `Wire` and `Link` write UTF-8.
        required = {"autocommit": True, "client_encoding": "UTF8"}
        try:
            connection = _Connection.connect(**{**defaults, **self._options, **required})
            connection.wire = Wire(connection)
            opening.set_result(Link(connection, generation))
        except BaseException as error:  # noqa: BLE001 - raised to the caller, who waits for this thread
            opening.set_exception(error)

    def _free_when_done(self, opening: Future[Link]) -> None:
        if opening.exception() is None:
            self._give_back(opening.result())
        else:
            self._free(None)


class _Connection(psycopg.Connection[Any]):
    """A connection that ends with its pool, and only in the process that made it: psycopg sees to that."""

    wire: Wire | None = None
    """For `wire_of`."""

    def __del__(self, *_: Any) -> None:
        """Do not warn."""


def _start(work: Callable[[], None]) -> None:
    try:
        threading.Thread(target=work, name="lastseen-connect", daemon=True).start()
    except RuntimeError:  # no thread starts while the interpreter goes down
        work()


class LentPool:
    """The application's own `psycopg_pool.ConnectionPool`."""

    dialect = "postgresql"

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        self._opened_before_fork = False
        self.address = _address_of_pool(pool)
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Note whether the pool has connections of the parent; one that was not open yet may be opened here."""
        self._opened_before_fork = self._opened_before_fork or not self._pool.closed

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Any]:
        """See `Connections`."""
        if self._opened_before_fork:
            raise StoreUnavailable(
                f"{self.address}: this psycopg pool was opened before the process forked; open it in each worker"
            )
        try:
            connection = self._pool.getconn(timeout=timeout)
        except psycopg.Error as error:
            raise StoreUnavailable(f"{self.address}: {error}") from error
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def close(self) -> None:
        """Return: the pool is the application's."""


def recognise_pool(source: object) -> Connections | None:
    """Return the connections of a psycopg pool, or None for anything else."""
    if isinstance(source, AsyncConnectionPool):
        raise ConfigurationError(f"no store for an AsyncConnectionPool; lastseen takes {SUPPORTED}")
    return LentPool(source) if isinstance(source, ConnectionPool) else None


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(url))
    except (psycopg.Error, UnicodeError):
        # Not chained: the driver quotes the address, with its password.
        raise ConfigurationError(
            "this PostgreSQL address cannot be read; write postgresql://user@host:port/name"
        ) from None


def _address_of(options: Mapping[str, Any]) -> str:
    return postgres_address(
        user=options.get("user"),
        host=options.get("host") or options.get("hostaddr"),
        port=options.get("port"),
        database=options.get("dbname"),
    )


def _address_of_pool(pool: ConnectionPool[Any]) -> str:
    conninfo = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
    options = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
    return _address_of({**_parse(conninfo or ""), **(options or {})})


def _close_at_exit(reference: weakref.ref[OwnPool]) -> None:
    pool = reference()
    if pool is not None:
        with suppress(Exception):
            pool.close()
