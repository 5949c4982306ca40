"""Connections that the application already has: a SQLAlchemy engine, Django's connections.

Each source lends plain DBAPI connections (PEP 249), one a call, so that the stores speak to their database in its own
SQL whoever opened it. A psycopg pool and a pool of our own are in `lastseen.stores.postgres.pool`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ClassVar, Protocol
from urllib.parse import quote
from weakref import WeakSet

from lastseen.errors import ConfigurationError, StoreUnavailable
from lastseen.forking import reset_in_forked_children

SUPPORTED = (
    "a URL (memory:, sqlite:///path, postgresql://user@host/name), a SQLAlchemy engine (PostgreSQL with psycopg or "
    "psycopg2, or SQLite), a psycopg_pool.ConnectionPool, or a Django connection (PostgreSQL or SQLite); "
    "for any other database implement lastseen.ActivityRecorder"
)


class Connections(Protocol):
    """Where a store takes its connections from."""

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""

    @property
    def address(self) -> str:
        """The database, without secrets, in the words of `open_store`."""

    def lend(self, timeout: float) -> AbstractContextManager[Any]:
        """Lend a connection that nobody else uses meanwhile and that is in no transaction.

        Waits at most about `timeout` seconds for one; raises `StoreUnavailable`. The borrower ends its transaction and
        closes a connection that it finds broken; such a one is not lent again.
        """

    def close(self) -> None:
        """Give back what was opened for lastseen alone."""


class SQLAlchemyConnections:
    """Lends the connections of an engine's pool; in a forked child the pool begins anew."""

    def __init__(self, engine: Any) -> None:
        driver = f"{engine.dialect.name}+{engine.dialect.driver}"
        if engine.dialect.is_async or driver not in {"postgresql+psycopg", "postgresql+psycopg2", "sqlite+pysqlite"}:
            raise ConfigurationError(f"no store for a SQLAlchemy engine of {driver}; lastseen takes {SUPPORTED}")
        self._engine = engine
        self.dialect: str = engine.dialect.name
        url = engine.url
        self.address = _address(self.dialect, url.username, url.host or url.query.get("host"), url.port, url.database)
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Leave the parent's connections alone (https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork)."""
        self._engine.dispose(close=False)

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Any]:  # noqa: ARG002 - the engine's own pool_timeout rules
        """See `Connections`."""
        with _reaching(self.address):
            borrowed = self._engine.raw_connection()
        try:
            yield borrowed.dbapi_connection
        except BaseException:
            if getattr(borrowed.dbapi_connection, "closed", False):
                borrowed.invalidate()
            raise
        finally:
            borrowed.close()

    def close(self) -> None:
        """Return: the engine is the application's."""


class DjangoConnections:
    """Lends connections made from the settings of one of Django's databases, one a thread, closed when the thread ends.

    They are copies of Django's own, never those themselves: a request may be inside a transaction that is rolled back
    later, and what lastseen sets for its statements must not reach the application's. They obey `CONN_MAX_AGE`.
    """

    def __init__(self, connection: Any) -> None:
        vendor = connection.vendor
        if vendor not in {"postgresql", "sqlite"}:
            raise ConfigurationError(f"no store for Django's {vendor} connection; lastseen takes {SUPPORTED}")
        self.dialect: str = vendor
        self._alias: str = connection.alias
        settings = connection.settings_dict
        self.address = _address(vendor, settings["USER"], settings["HOST"], settings["PORT"], settings["NAME"])
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Leave the parent's connections alone, see `_OfThread`."""
        # Weak: some servers answer every request in a thread of its own.
        self._all: WeakSet[_OfThread] = WeakSet()
        self._of_thread = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Any]:  # noqa: ARG002 - Django's own options rule
        """See `Connections`."""
        connection = self._connection()
        with _reaching(self.address):
            connection.close_if_unusable_or_obsolete()
            connection.ensure_connection()
        try:
            yield connection.connection
        except BaseException:
            if getattr(connection.connection, "closed", False):
                with suppress(Exception):
                    connection.close()
            raise
        finally:
            with suppress(Exception):
                connection.close_if_unusable_or_obsolete()

    def close(self) -> None:
        """Close the copies; using the store again opens new ones."""
        with self._lock:
            copies, self._all = list(self._all), WeakSet()
            self._of_thread = threading.local()
        for copy in copies:
            copy.close()

    def _connection(self) -> Any:
        copy: _OfThread | None = getattr(self._of_thread, "copy", None)
        if copy is None:
            from django.db import connections

            copy = _OfThread(connections[self._alias].copy())
            with self._lock:
                self._all.add(copy)
                self._of_thread.copy = copy
        return copy.connection


class _OfThread:
    """The copy of one thread, closed when that ends; but in a forked child kept, as closing would end the parent's."""

    _inherited: ClassVar[list[Any]] = []

    def __init__(self, connection: Any) -> None:
        # Of Django's checks: the last reference may go in another thread.
        connection.inc_thread_sharing()
        self.connection = connection
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connection; twice is fine."""
        with suppress(Exception):
            self.connection.close()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            self.close()
        else:
            self._inherited.append(self.connection)


def recognise(source: Any) -> Connections | None:
    """Return the connections that an object of SQLAlchemy or Django leads to, or None for any other object."""
    kind = type(source)
    modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "sqlalchemy" in modules and hasattr(source, "dialect") and hasattr(source, "raw_connection"):
        return SQLAlchemyConnections(source)
    if "django" in modules and hasattr(source, "settings_dict"):
        return DjangoConnections(source)
    return None


def postgres_address(*, user: str | None, host: str | None, port: object, database: str | None) -> str:
    """Return the URL of a PostgreSQL database without its password; gaps stay gaps, as in libpq's own addresses."""
    plain = bool(host) and not set("/,") & set(host or "")
    netloc = f"{quote(user, safe='')}@" if user else ""
    query = ""
    if plain:
        netloc += f"[{host}]" if ":" in (host or "") else f"{host}"
        netloc += f":{port}" if port else ""
    elif host:
        query = f"?host={quote(host, safe='/,')}" + (f"&port={port}" if port else "")
    return f"postgresql://{netloc}/{quote(database or '', safe='')}{query}"


def _address(dialect: str, user: str | None, host: Any, port: object, database: Any) -> str:
    if dialect == "sqlite":
        return f"sqlite:///{database or ':memory:'}"
    host = ",".join(host) if isinstance(host, tuple) else host
    return postgres_address(user=user, host=host, port=port, database=database)


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Whatever happens on the way to a connection means that the database cannot be reached now."""
    try:
        yield
    except Exception as error:
        raise StoreUnavailable(f"{address}: {' '.join(str(error).split())}") from error
