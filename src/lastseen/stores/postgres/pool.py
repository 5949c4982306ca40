"""Connections of psycopg 3: a pool of our own, or the one that the application has."""

from __future__ import annotations

import atexit
import logging
import math
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from lastseen.errors import ConfigurationError, StoreUnavailable
from lastseen.forking import reset_in_forked_children
from lastseen.stores.connections import SUPPORTED, Connections, postgres_address
from lastseen.stores.postgres.failures import PREPARED_STATEMENT_LOST

POOL_NAME = "lastseen"

# The pool connects in threads of its own and says there why it failed; this often the waiting thread looks.
SLICE = 0.1


class _Connection(psycopg.Connection[Any]):
    """Tells the pool's owner why a connection could not be made."""

    report_failure: Callable[[Exception], None]

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        report = options.pop("report_failure")
        try:
            return super().connect(conninfo, **options)
        except Exception as error:
            report(error)
            raise


class _Pool(ConnectionPool[_Connection]):
    """A pool that a forked child can forget: it has no threads to stop there, and no locks that it may trust."""

    born_in = 0

    def __del__(self) -> None:
        if os.getpid() == self.born_in:
            super().__del__()


class OwnPool:
    """A pool that opens at its first use, in each process anew."""

    dialect = "postgresql"

    def __init__(self, url: str, *, size: int, deadline: timedelta) -> None:
        self._options = _parse(url)
        self.address = _address_of(self._options)
        self._size = size
        # A prepared upsert saves 0.15 ms of planning. A statement is prepared for a server's session though, and some
        # poolers in between (PgBouncer before 1.21) give each transaction another session.
        self._prepare_threshold: int | None = 5
        self._connect_timeout = max(2, math.ceil(deadline.total_seconds()))
        self._inherited: list[_Pool] = []
        self._pool: _Pool | None = None
        self.reset_after_fork()
        reset_in_forked_children(self)
        # Registered before any tracker's own ending, so it runs after the last flush.
        atexit.register(_close_at_exit, weakref.ref(self))

    def reset_after_fork(self) -> None:
        """Leave the parent's connections alone: they are kept, because closing them would end the parent's."""
        if self._pool is not None:
            self._inherited.append(self._pool)
        self._pool = None
        self._lock = threading.Lock()
        self._failures = 0
        self._last_failure: Exception | None = None

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Any]:
        """See `Connections`; fails as soon as a connection is refused, not at the end of the timeout."""
        pool = self._open()
        connection = self._connection(pool, timeout)
        connection.prepare_threshold = self._prepare_threshold
        try:
            yield connection
        except StoreUnavailable as error:
            if getattr(error.__cause__, "sqlstate", None) in PREPARED_STATEMENT_LOST:
                self._prepare_threshold = None
            raise
        finally:
            pool.putconn(connection)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1)

    def _open(self) -> _Pool:
        with self._lock:
            if self._pool is None:
                self._pool = self._make()
            return self._pool

    def _make(self) -> _Pool:
        defaults = {
            "application_name": POOL_NAME,
            "connect_timeout": self._connect_timeout,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        pool = _Pool(
            connection_class=_Connection,
            kwargs={
                **defaults,
                **self._options,
                "autocommit": True,
                "report_failure": self._note_failure,
            },
            min_size=0,
            max_size=self._size,
            name=POOL_NAME,
            check=_check_when_readable,
            # The tracker decides when to try again.
            reconnect_timeout=0,
            num_workers=1,
            open=False,
        )
        pool.born_in = os.getpid()
        try:
            pool.open()
        except RuntimeError as error:
            raise StoreUnavailable(f"{self.address}: {error}") from error
        return pool

    def _connection(self, pool: _Pool, timeout: float) -> _Connection:
        failures, deadline = self._failures, time.monotonic() + timeout
        while True:
            try:
                return pool.getconn(timeout=min(SLICE, timeout))
            except PoolTimeout as error:
                if self._failures != failures:
                    cause = self._last_failure
                    raise StoreUnavailable(f"{self.address}: {' '.join(str(cause).split())}") from cause
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(f"{self.address}: no free connection within {timeout:g} s") from error

    def _note_failure(self, error: Exception) -> None:
        self._last_failure = error
        self._failures += 1


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
    except psycopg.Error:
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


def _check_when_readable(connection: psycopg.Connection[Any]) -> None:
    """Ask the server only when something can be read: an idle server is silent, unless it says goodbye."""
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    if readable.poll(0):
        ConnectionPool.check_connection(connection)


def _close_at_exit(reference: weakref.ref[OwnPool]) -> None:
    pool = reference()
    if pool is not None:
        with suppress(Exception):
            pool.close()


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Keep back what the pool logs about ours: each failure is raised to its caller, who logs it or answers with it."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(argument == POOL_NAME or isinstance(argument, _Connection) for argument in arguments)


logging.getLogger("psycopg.pool").addFilter(_is_not_ours)
