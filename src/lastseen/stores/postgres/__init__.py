"""The shared store: PostgreSQL, through psycopg 3 or through connections that the application already has."""

from __future__ import annotations

from datetime import timedelta

from lastseen.stores.connections import Connections
from lastseen.stores.migrations import VERSION_TABLE, newer_of, pending_of, refuse_newer
from lastseen.stores.postgres.accounts import PostgresAccounts
from lastseen.stores.postgres.clients import PostgresClients
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.postgres.devices import PostgresDevices
from lastseen.stores.postgres.salts import PostgresSalts
from lastseen.stores.postgres.sessions import PostgresSessions
from lastseen.stores.postgres.sites import PostgresSites
from lastseen.stores.postgres.visits import PostgresVisits

# Any number that other users of advisory locks in the same database are unlikely to choose: "lastseen" in ASCII.
MIGRATION_LOCK = 0x6C6173747365656E

LOCK = "SELECT pg_advisory_xact_lock(%s)"
CREATE_VERSIONS = f"""
CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())
"""
VERSIONS_EXIST = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
APPLIED = f"SELECT name FROM {VERSION_TABLE}"  # noqa: S608 - constant
REMEMBER = f"INSERT INTO {VERSION_TABLE} (name) VALUES (%s)"  # noqa: S608 - constant


class PostgresStore:
    """Everything in one database, which any number of processes use at once."""

    def __init__(self, connections: Connections, *, deadline: timedelta) -> None:
        self._connections = connections
        advice = f"run: lastseen migrate --database {connections.address}"
        self._database = PostgresDatabase(connections, deadline=deadline, advice=advice)
        self.clients = PostgresClients(self._database)
        self.sessions = PostgresSessions(self._database)
        self.accounts = PostgresAccounts(self._database)
        self.devices = PostgresDevices(self._database)
        self.sites = PostgresSites(self._database)
        self.salts = PostgresSalts(self._database)
        self.visits = PostgresVisits(self._database)

    @property
    def address(self) -> str:
        """Where the data is, without its password."""
        return self._connections.address

    def pending_migrations(self) -> list[str]:
        """Return the names of the migrations that `migrate` would apply."""
        with self._database.transaction() as cursor:
            return [migration.name for migration in pending_of("postgres", _applied(cursor))]

    def newer_migrations(self) -> list[str]:
        """Return the names of the migrations that only a newer version knows."""
        with self._database.transaction() as cursor:
            return newer_of("postgres", _applied(cursor))

    def migrate(self) -> list[str]:
        """Apply what is pending, in one transaction that keeps other migrators out; return the names."""
        with self._database.change_schema() as cursor:
            cursor.execute(LOCK, (MIGRATION_LOCK,))
            cursor.execute(CREATE_VERSIONS)
            applied = _applied(cursor)
            refuse_newer("postgres", applied, self.address)
            pending = pending_of("postgres", applied)
            for migration in pending:
                cursor.execute(migration.sql)
                cursor.execute(REMEMBER, (migration.name,))
        return [migration.name for migration in pending]

    def close(self) -> None:
        """Close the connections that were opened for lastseen alone; using the store again opens new ones."""
        self._connections.close()


def _applied(cursor: Cursor) -> set[str]:
    cursor.execute(VERSIONS_EXIST)
    if not cursor.fetchall()[0][0]:
        return set()
    cursor.execute(APPLIED)
    return {name for (name,) in cursor.fetchall()}
