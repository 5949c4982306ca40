"""The embedded store: one SQLite file."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

from lastseen.stores.connections import Connections
from lastseen.stores.migrations import VERSION_TABLE, newer_of, pending_of, refuse_newer
from lastseen.stores.sqlite.accounts import SQLiteAccounts
from lastseen.stores.sqlite.clients import SQLiteClients
from lastseen.stores.sqlite.database import Database, LentSQLiteDatabase, SQLiteDatabase
from lastseen.stores.sqlite.devices import SQLiteDevices
from lastseen.stores.sqlite.salts import SQLiteSalts
from lastseen.stores.sqlite.sessions import SQLiteSessions
from lastseen.stores.sqlite.sites import SQLiteSites
from lastseen.stores.sqlite.visits import SQLiteVisits

CREATE_VERSIONS = f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
VERSIONS_EXIST = f"SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '{VERSION_TABLE}')"  # noqa: S608 - constant
APPLIED = f"SELECT name FROM {VERSION_TABLE}"  # noqa: S608 - constant
REMEMBER = f"INSERT INTO {VERSION_TABLE} (name, applied_at) VALUES (?, datetime('now'))"  # noqa: S608 - constant


class SQLiteStore:
    """Everything in one file, which several processes may use at once."""

    def __init__(self, source: str | Path | Connections, *, deadline: timedelta = timedelta(seconds=5)) -> None:
        self._database: Database
        self._activity_database: Database
        if isinstance(source, str | Path):
            self._database = SQLiteDatabase(source, deadline=deadline)
            # Activity is not acknowledged as saved, so its commits need not wait for the disk.
            self._activity_database = SQLiteDatabase(source, deadline=deadline, synchronous="NORMAL")
        else:
            self._database = self._activity_database = LentSQLiteDatabase(source)
        self._database.advice = self._activity_database.advice = f"run: lastseen migrate --database {self.address}"
        self.clients = SQLiteClients(self._activity_database)
        self.sessions = SQLiteSessions(self._database, self._activity_database)
        self.accounts = SQLiteAccounts(self._database)
        self.devices = SQLiteDevices(self._database, self._activity_database)
        self.sites = SQLiteSites(self._database)
        self.salts = SQLiteSalts(self._database)
        self.visits = SQLiteVisits(self._database)

    @property
    def address(self) -> str:
        """Where the data is."""
        return self._database.address

    def pending_migrations(self) -> list[str]:
        """Return the names of the migrations that `migrate` would apply."""
        with self._database.read() as connection:
            return [migration.name for migration in pending_of("sqlite", _applied(connection))]

    def newer_migrations(self) -> list[str]:
        """Return the names of the migrations that only a newer version knows."""
        with self._database.read() as connection:
            return newer_of("sqlite", _applied(connection))

    def migrate(self) -> list[str]:
        """Apply what is pending, in one transaction that keeps other migrators out; return the names."""
        if isinstance(self._database, SQLiteDatabase):
            self._database.make_folder()
        with self._database.write() as connection:
            connection.execute(CREATE_VERSIONS)
            applied = _applied(connection)
            refuse_newer("sqlite", applied, self.address)
            pending = pending_of("sqlite", applied)
            for migration in pending:
                for statement in _statements(migration.sql):
                    connection.execute(statement)
                connection.execute(REMEMBER, (migration.name,))
        return [migration.name for migration in pending]

    def expect_bulk(self) -> None:
        """Prepare for batches of tens of thousands of events, until the store is closed."""
        if isinstance(self._database, SQLiteDatabase):
            self._database.expect_bulk()

    def write_back(self) -> None:
        """Copy what was committed to the file, which a commit does now and then otherwise, while others wait for it."""
        if isinstance(self._database, SQLiteDatabase):
            self._database.write_back()

    def close(self) -> None:
        """Close the file; using the store again opens it again."""
        self._activity_database.close()
        self._database.close()


def _applied(connection: sqlite3.Connection) -> set[str]:
    known = connection.execute(VERSIONS_EXIST).fetchone()[0]
    return {name for (name,) in connection.execute(APPLIED)} if known else set()


def _statements(sql: str) -> list[str]:
    """Split a script; `executescript` would commit the transaction that guards the migration."""
    statements, current = [], ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
