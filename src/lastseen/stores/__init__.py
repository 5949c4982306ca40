"""Where things are kept. `open_store` is the only place that names a backend."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from lastseen.accounts.store import AccountStore
from lastseen.activity.recorder import ActivityRecorder
from lastseen.activity.store import ClientStore
from lastseen.errors import ConfigurationError, missing_extra
from lastseen.sessions.store import SessionStore
from lastseen.stores.connections import SUPPORTED, Connections, recognise
from lastseen.stores.table import ActivityTable
from lastseen.visits.site_store import SiteStore

if TYPE_CHECKING:
    # Their values need msgspec, which a program that only records activity does without.
    from lastseen.devices.store import DeviceStore
    from lastseen.visits.cookieless import SaltStore
    from lastseen.visits.store import VisitStore

DEFAULT_POOL_SIZE = 4
DEFAULT_DEADLINE = timedelta(seconds=5)


@runtime_checkable
class Store(Protocol):
    """A database with its abilities, one attribute a feature."""

    @property
    def clients(self) -> ClientStore:
        """Clients, and when each was last seen."""

    @property
    def sessions(self) -> SessionStore:
        """Users and their login sessions."""

    @property
    def accounts(self) -> AccountStore:
        """The server's own accounts, and the audit trail."""

    @property
    def sites(self) -> SiteStore:
        """The namespaces of events and visits."""

    @property
    def salts(self) -> SaltStore:
        """The keys of visitors without a cookie, gone after two days."""

    @property
    def visits(self) -> VisitStore:
        """Events, visitors, and the visits that events fold into."""

    @property
    def devices(self) -> DeviceStore:
        """Devices, their groups, and API keys."""

    @property
    def address(self) -> str:
        """Where the data is, without secrets: for messages and logs."""

    def pending_migrations(self) -> list[str]:
        """Return the names of the schema changes that `migrate` would apply."""

    def newer_migrations(self) -> list[str]:
        """Return the names of the schema changes that a newer version applied."""

    def migrate(self) -> list[str]:
        """Apply the pending schema changes under a lock and return their names; twice changes nothing.

        Raises `SchemaError` for a database that a newer version has changed.
        """

    def close(self) -> None:
        """Give back what the store opened itself; a pool or engine that was handed in stays open."""


@runtime_checkable
class TakesBulk(Protocol):
    """A store that works faster on large batches when it is told before."""

    def expect_bulk(self) -> None:
        """Prepare for batches of tens of thousands of events, until the store is closed."""

    def write_back(self) -> None:
        """Do now, while another process saves, what the next batch would have to do besides; changes nothing."""


def open_store(source: Any, *, pool_size: int = DEFAULT_POOL_SIZE, deadline: timedelta = DEFAULT_DEADLINE) -> Store:
    """Open the store that a URL names, or that the application's own connections lead to.

    `source` is `memory:`, `sqlite:///relative/path`, `sqlite:////absolute/path`, `postgresql://…`, or something the
    application already has: a SQLAlchemy engine, a psycopg pool, or a Django connection (`django.db.connection`).
    Connections are made on first use. `pool_size` is for a pool of our own; `deadline` limits each statement and each
    wait for a connection or a lock. Raises `ConfigurationError` for anything else and `MissingExtra` when the driver is
    not installed.
    """
    if not isinstance(source, str):
        return _open_connections(source, deadline)
    scheme = scheme_of(source)
    if scheme == "memory":
        from lastseen.stores.memory import MemoryStore

        return MemoryStore()
    if scheme == "sqlite":
        from lastseen.stores.sqlite import SQLiteStore

        return SQLiteStore(sqlite_path(source), deadline=deadline)
    if scheme in {"postgresql", "postgres"}:
        return _postgres_store(_own_pool(source, pool_size, deadline), deadline)
    raise ConfigurationError(
        f"no store for {scheme + ':' if scheme else 'an address without a scheme'}; "
        "a database is memory:, sqlite:///path or postgresql://user@host/name"
    )


def table_recorder(
    source: Any, table: ActivityTable, *, pool_size: int = 1, deadline: timedelta = DEFAULT_DEADLINE
) -> ActivityRecorder:
    """Return a recorder for a table that the application already has; hand it to an `ActivityTracker`.

    `source` is what `open_store` takes, but not `memory:`. The table and its columns are looked up at once: raises
    `SchemaError` that names what is missing.
    """
    if not isinstance(source, str):
        connections = _connections_of(source)
    elif scheme_of(source) == "sqlite":
        from lastseen.stores.sqlite.database import SQLiteDatabase
        from lastseen.stores.sqlite.recorder import SQLiteTableRecorder

        return SQLiteTableRecorder(SQLiteDatabase(sqlite_path(source), deadline=deadline, synchronous="NORMAL"), table)
    elif scheme_of(source) in {"postgresql", "postgres"}:
        connections = _own_pool(source, pool_size, deadline)
    else:
        raise ConfigurationError(
            f"no table recorder for {scheme_of(source) or 'this address'}: lastseen takes {SUPPORTED}"
        )
    if connections.dialect == "sqlite":
        from lastseen.stores.sqlite.database import LentSQLiteDatabase
        from lastseen.stores.sqlite.recorder import SQLiteTableRecorder

        return SQLiteTableRecorder(LentSQLiteDatabase(connections), table)
    from lastseen.stores.postgres.database import PostgresDatabase
    from lastseen.stores.postgres.recorder import PostgresTableRecorder

    return PostgresTableRecorder(PostgresDatabase(connections, deadline=deadline), table)


def scheme_of(url: str) -> str:
    """Return the scheme of a database's address; unlike `urlsplit`, whatever its password is made of."""
    return url.partition(":")[0].lower() if ":" in url else ""


def sqlite_path(url: str) -> str:
    """Return the path that `sqlite:///path` names; three slashes and a fourth for an absolute path, as elsewhere."""
    try:
        parts = urlsplit(url)
    except ValueError:
        path = ""
    else:
        path = "" if parts.netloc else unquote(parts.path)[1:]
    if not path or path == ":memory:" or "\0" in path:
        raise ConfigurationError(
            f"{url} names no file: write sqlite:///relative.db, sqlite:////absolute.db, or memory:"
        )
    return path


def _open_connections(source: Any, deadline: timedelta) -> Store:
    connections = _connections_of(source)
    if connections.dialect == "sqlite":
        from lastseen.stores.sqlite import SQLiteStore

        return SQLiteStore(connections, deadline=deadline)
    return _postgres_store(connections, deadline)


def _postgres_store(connections: Connections, deadline: timedelta) -> Store:
    from lastseen.stores.postgres import PostgresStore

    return PostgresStore(connections, deadline=deadline)


def _connections_of(source: Any) -> Connections:
    connections = recognise(source)
    if connections is None and type(source).__module__.partition(".")[0] == "psycopg_pool":
        from lastseen.stores.postgres.pool import recognise_pool

        connections = recognise_pool(source)
    if connections is None:
        raise ConfigurationError(f"no store for a {type(source).__qualname__}; lastseen takes {SUPPORTED}")
    return connections


def _own_pool(url: str, size: int, deadline: timedelta) -> Connections:
    try:
        from lastseen.stores.postgres.pool import OwnPool
    except ImportError as error:
        message = "PostgreSQL needs its driver: pip install 'lastseen[postgres]'"
        raise missing_extra(error, message, "psycopg", "psycopg_pool") from error
    return OwnPool(url, size=size, deadline=deadline)
