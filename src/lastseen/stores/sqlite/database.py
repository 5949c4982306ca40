"""One SQLite file: transactions, errors in our words; on connections of our own or on the application's."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from lastseen.errors import ConfigurationError, InvalidData, LastSeenError, SchemaError, StoreError, StoreUnavailable
from lastseen.forking import hold_still_for_forks
from lastseen.stores.connections import Connections
from lastseen.stores.folders import make_folder

# https://www.sqlite.org/rescode.html: what can never succeed with these values.
_REFUSED_FOR_EVER = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}
_REFUSING = (sqlite3.DataError, sqlite3.IntegrityError)

LOOK_AGAIN_AFTER = 0.001
"""Seconds between two looks whether another process is still writing.

SQLite's own wait grows to a tenth of a second a look (`sqliteDefaultBusyCallback`), which seldom meets the gap between
two transactions of a process that writes without a pause, as an import does: a server beside it waited for seconds.
"""


class Database(Protocol):
    """What the SQLite store needs of a file."""

    advice: str
    """Ends the message of a `SchemaError`; empty for tables that are not ours."""

    @property
    def address(self) -> str:
        """Where the data is."""

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection to read with, in no transaction."""

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection inside one transaction: committed at the end, rolled back by an error."""

    def close(self) -> None:
        """Close what was opened for lastseen alone; the next use opens it again."""


class SQLiteDatabase:
    """A file in WAL mode, open to several threads and processes at once; opened on first use.

    `deadline` is how long a statement waits for another process's lock. `synchronous` is FULL for data that is
    acknowledged as saved (NORMAL loses the last commits at a power cut), NORMAL for activity.
    """

    def __init__(self, path: str | Path, *, deadline: timedelta, synchronous: str = "FULL") -> None:
        self.path = Path(path)
        self.advice = ""
        self._deadline = deadline
        self._synchronous = synchronous
        self._connections: dict[str, sqlite3.Connection] = {}
        self._locks = {"read": threading.RLock(), "write": threading.RLock()}
        hold_still_for_forks(self)

    def before_fork(self) -> None:
        """Close: no connection may cross a fork, not even unused (https://www.sqlite.org/howtocorrupt.html, 2.6)."""
        for lock in self._locks.values():
            lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Go on; the next use opens again."""
        for lock in self._locks.values():
            lock.release()

    def reset_after_fork(self) -> None:
        """Begin with new locks: another thread of the parent may have waited for the old ones."""
        self._locks = {"read": threading.RLock(), "write": threading.RLock()}

    @property
    def address(self) -> str:
        """See `Database`."""
        return f"sqlite:///{self.path}"

    def make_folder(self) -> None:
        """Make the folder of the file, with its parents, when it is missing."""
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise StoreUnavailable(f"{self.address}: {error}") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the reading connection; it never waits for a writer."""
        with self._locks["read"], _translated(self):
            yield self._connection("read")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend the writing connection inside one transaction: committed at the end, rolled back by an error."""
        with self._locks["write"], _translated(self):
            connection = self._connection("write")
            with _immediate_transaction(connection, patience=self._deadline.total_seconds()):
                yield connection

    def expect_bulk(self) -> None:
        """Give the writing connection what large transactions want: 64 MB of cache, and fewer checkpoints.

        A batch of 50,000 events touches most pages of the indexes; from a cache of 2 MB each would be read and written
        again and again.
        """
        with self._locks["write"], _translated(self):
            connection = self._connection("write")
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA wal_autocheckpoint = 65536")

    def write_back(self) -> None:
        """Copy what was committed from the write-ahead log to the file itself, beside whoever writes meanwhile.

        https://www.sqlite.org/c3ref/wal_checkpoint_v2.html: a passive checkpoint waits for nobody, and nobody for it.
        """
        with self._locks["write"], _translated(self):
            self._connection("write").execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close both connections; the next use opens them again."""
        for purpose, lock in self._locks.items():
            with lock:
                connection = self._connections.pop(purpose, None)
                if connection is not None:
                    connection.close()

    def __del__(self) -> None:
        """Close what nobody closed, without the warning of Python 3.13: nobody can close a recorder."""
        for connection in self._connections.values():
            connection.close()

    def _connection(self, purpose: str) -> sqlite3.Connection:
        if purpose not in self._connections:
            self._connections[purpose] = self._open()
            if purpose == "write":
                # Whoever begins or ends a transaction waits by itself, and within one nothing has to wait.
                self._connections[purpose].execute("PRAGMA busy_timeout = 0")
                if self._synchronous == "FULL":
                    # Two megabytes, SQLite's own measure, are a third slower where rows come by the ten thousand.
                    self._connections[purpose].execute("PRAGMA cache_size = -32768")
        return self._connections[purpose]

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._deadline.total_seconds(),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 10000")
        except BaseException:
            connection.close()
            raise
        return connection


class LentSQLiteDatabase:
    """A file on the application's connections; how long they wait for a lock and how they sync is its affair."""

    def __init__(self, connections: Connections) -> None:
        if connections.address.endswith(":memory:") or "mode=memory" in connections.address:
            raise ConfigurationError(
                "an SQLite database in memory is not shared between threads; give a file or memory:"
            )
        self._connections = connections
        self.advice = ""

    @property
    def address(self) -> str:
        """See `Database`."""
        return self._connections.address

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """See `Database`."""
        with self._connections.lend(0) as connection, _translated(self):
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """See `Database`."""
        with (
            self._connections.lend(0) as connection,
            _translated(self),
            _immediate_transaction(connection),
        ):
            yield connection

    def close(self) -> None:
        """See `Database`."""
        self._connections.close()


@contextmanager
def _immediate_transaction(connection: sqlite3.Connection, *, patience: float = 0.0) -> Iterator[None]:
    _run_alone(connection, "BEGIN IMMEDIATE", patience)
    with _ended(connection, patience):
        yield


@contextmanager
def _ended(connection: sqlite3.Connection, patience: float = 0.0) -> Iterator[None]:
    """Commit at the end; an error rolls back."""
    try:
        yield
        # Without a write-ahead log, which not every file system can have, it waits for those who read.
        _run_alone(connection, "COMMIT", patience)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run_alone(connection: sqlite3.Connection, statement: str, patience: float) -> None:
    """Run what others may be in the way of, and wait for them for so many seconds beyond what the connection waits."""
    until = time.monotonic() + patience
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(LOOK_AGAIN_AFTER)
        else:
            return


@contextmanager
def _translated(database: Database) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        raise _in_our_words(error, database) from error


def _in_our_words(error: Exception, database: Database) -> LastSeenError:
    # The low byte is the primary result code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if not isinstance(error, sqlite3.Error) or isinstance(error, _REFUSING) or code in _REFUSED_FOR_EVER:
        return InvalidData(f"SQLite refuses a value: {error}")
    if code == sqlite3.SQLITE_ERROR:
        return SchemaError(f"{error}; {database.advice}" if database.advice else str(error))
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{database.address} is not an SQLite database")
    return StoreUnavailable(f"{database.address}: {error}{_hint(code, database)}")


def _hint(code: int, database: Database) -> str:
    """Return what keeps a file from being opened or written, which SQLite does not say; empty for anything else."""
    if code not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY} or not isinstance(database, SQLiteDatabase):
        return ""
    path, folder = database.path, database.path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"; this user may not write to the folder {folder}, where SQLite needs more files"
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where nobody may look
        return "; that is a folder"
    return "" if os.access(path, os.R_OK | os.W_OK) else "; this user may not read and write the file"
