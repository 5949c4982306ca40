"""One SQLite file: a connection that writes, a connection that reads, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from lastseen.errors import InvalidData, LastSeenError, SchemaError, StoreError, StoreUnavailable
from lastseen.forking import hold_still_for_forks

# https://www.sqlite.org/rescode.html: what can never succeed with these values.
_REFUSED_FOR_EVER = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}


class SQLiteDatabase:
    """A file in WAL mode, open to several threads and processes at once; opened on first use.

    `deadline` is how long a statement waits for another process's lock. `synchronous` is FULL for data that is
    acknowledged as saved (NORMAL loses the last commits at a power cut), NORMAL for activity.
    """

    def __init__(self, path: str | Path, *, deadline: timedelta, synchronous: str = "FULL") -> None:
        self.path = Path(path)
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

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the reading connection; it never waits for a writer."""
        with self._locks["read"], self._translated():
            yield self._connection("read")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend the writing connection inside one transaction: committed at the end, rolled back by an error."""
        with self._locks["write"], self._translated():
            connection = self._connection("write")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close both connections; the next use opens them again."""
        for purpose, lock in self._locks.items():
            with lock:
                connection = self._connections.pop(purpose, None)
                if connection is not None:
                    connection.close()

    def _connection(self, purpose: str) -> sqlite3.Connection:
        if purpose not in self._connections:
            self._connections[purpose] = self._open()
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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            raise self._in_our_words(error) from error

    def _in_our_words(self, error: Exception) -> LastSeenError:
        if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.DataError):
            return InvalidData(f"SQLite refuses a value: {error}")
        # The low byte is the primary result code.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _REFUSED_FOR_EVER or isinstance(error, sqlite3.IntegrityError):
            return InvalidData(f"SQLite refuses a value: {error}")
        if code == sqlite3.SQLITE_ERROR:
            return SchemaError(f"{error}; run: lastseen migrate --database sqlite:///{self.path}")
        if code == sqlite3.SQLITE_NOTADB:
            return StoreError(f"{self.path} is not an SQLite database")
        return StoreUnavailable(f"SQLite file {self.path}: {error}")
