"""The columnar copy in DuckDB: one file, or memory."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from lastseen.errors import StoreError, StoreUnavailable
from lastseen.forking import reset_in_forked_children
from lastseen.reports.copy import CopyBroken, CopyInUse, Figures, Place
from lastseen.reports.export import Table
from lastseen.reports.period import Period
from lastseen.reports.question import Question
from lastseen.stores.columnar import duckdb_feed as feed
from lastseen.stores.columnar import duckdb_settling as settling
from lastseen.stores.columnar.claims import claim, leave_to_the_parent, release
from lastseen.stores.columnar.duckdb_query import Statement
from lastseen.stores.columnar.parquet import to_parquet
from lastseen.visits.store import Changes

FORMAT = "7"
"""Another number makes every older file be thrown away and built again; raise it whenever tables or rows change."""
MEMORY = ":memory:"
_BETWEEN_INTERRUPTS = 0.02
_INTERRUPTS = 100
"""Tries to break an answer off: two seconds. The engine looks between two blocks of rows, which is soon."""
CHECKPOINT_FROM = "64MB"
"""Of the engine's log. A checkpoint writes the last block of rows anew, so that many small ones cost most."""

_BROKEN = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_SIGNS_OF_DAMAGE = ("corrupt", "checksum", "could not read")
"""In the text of the engine's errors of input and output; others are of a full disk, of rights, of a lock."""
_CLOSED = "the copy for reports is closed, or is being made again"
_NAMES_OF_FILES = re.compile('"[^"]*"')
_POSITION, _FORMAT, _TRUTH, _IS_BUILT = "position", "format", "truth", "is_built"


class DuckDBCopy:
    """A copy in a file of this path, or in memory without one.

    A file that is broken, of another format, or of another truth (`truth` names the database that is copied) is thrown
    away: what the copy holds can always be had again. One at a time may have the file open, in this process and in all
    others: `CopyInUse`. In a forked child it is of no use: make another one there.
    `settle_from` and `quiet` say when visits are settled; see `duckdb_settling`. They change no answer.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        truth: str = "",
        threads: int | None = None,
        memory: str = "",
        settle_from: int = settling.SETTLE_FROM,
        quiet: int = settling.QUIET,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path
        self._settle_from, self._quiet = settle_from, quiet
        self._on_close = on_close
        self._truth = truth
        self._options: dict[str, str | bool | int | float | list[str]] = {"checkpoint_threshold": CHECKPOINT_FROM}
        if memory:
            self._options["memory_limit"] = memory
        if threads is not None:
            self._options["threads"] = threads
        # One batch at a time; readers each have their own cursor and see the state between two batches.
        self._writing = threading.Lock()
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._readers: set[duckdb.DuckDBPyConnection] = set()
        self._is_closed = False
        self._is_gone = False
        """Thrown away, and not made again yet: that could not be done."""
        self._facts: dict[str, str] = {}
        if path is not None:
            claim(path, self)
        try:
            self._connection = self._open()
        except BaseException:
            self._release()
            raise
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Leave everything to the parent."""
        leave_to_the_parent(self)

    def _release(self) -> None:
        if self._path is not None:
            release(self._path, self)

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            return self._open_checked()
        except CopyBroken:
            self._delete_files()
            return self._open_checked()

    def _open_checked(self) -> duckdb.DuckDBPyConnection:
        connection = self._connect()
        try:
            with _translated():
                connection.execute(feed.TABLES + settling.TABLE)
                written_now = _format(connection)
                self._facts = dict(connection.execute(feed.READ_FACTS).fetchall())
                if not self._facts:
                    self._begin(connection, written_now)
        except BaseException:
            connection.close()
            raise
        if (self._facts[_FORMAT], self._facts[_TRUTH]) != (written_now, self._truth):
            connection.close()
            raise CopyBroken(f"{self._path} is of another format or database")
        return connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if self._path is None:
            return duckdb.connect(MEMORY, config=self._options)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the copy for reports cannot be made: {error}") from error
        try:
            return duckdb.connect(str(self._path), config=self._options)
        except duckdb.IOException as error:
            if is_locked(error):
                raise CopyInUse(
                    f"another process has the copy for reports open: {self._path}; only one may, such as a running "
                    "server"
                ) from error
            if "permission" in _reason(error):
                raise StoreUnavailable(f"the copy for reports cannot be opened: {self._path}") from error
            raise CopyBroken(f"{self._path} is no file that this version reads") from error
        except duckdb.Error as error:
            raise CopyBroken(f"{self._path} is no file that this version reads") from error

    def _begin(self, connection: duckdb.DuckDBPyConnection, written_now: str) -> None:
        self._facts = {_FORMAT: written_now, _TRUTH: self._truth, _POSITION: "", _IS_BUILT: ""}
        connection.executemany(feed.ADD_FACT, list(self._facts.items()))

    @property
    def is_built(self) -> bool:
        """Whether the first copying is over; until then events do not know their visits."""
        return bool(self._facts[_IS_BUILT])

    def position(self) -> str:
        """Return the position up to which the truth was copied; empty for a new copy."""
        return self._facts[_POSITION]

    def apply(self, changes: Changes) -> None:
        """Apply a batch and remember its position, all in one transaction."""
        with self._transaction() as connection:
            feed.apply(connection, changes, assign=self.is_built)
            if self.is_built:
                at_least = self._settle_from * (1 if changes.is_complete else settling.BEHIND)
                settling.settle(connection, at_least, self._quiet)
            feed.put_fact(connection, _POSITION, changes.position)
        self._facts[_POSITION] = changes.position

    def finish_building(self) -> None:
        """Tell all events their visit and sort everything by time; nothing happens the second time."""
        if self.is_built:
            return
        with self._transaction() as connection:
            feed.build(connection, self._quiet)
            feed.put_fact(connection, _IS_BUILT, "yes")
        self._facts[_IS_BUILT] = "yes"

    def count(self, question: Question, period: Period, *, keys: Sequence[tuple[Any, ...]] | None = None) -> Figures:
        """Return the figures of a question in one period, at one moment of the copy."""
        with self._reading() as cursor:
            statement = Statement(question, period)
            totals, *rows = cursor.execute(statement.text(keys), statement.values).fetchall()
            width = len(question.by)
            return Figures(rows=rows if width else [totals], totals=totals[width:])

    def latest(self, question: Question, period: Period, limit: int, *, after: Place | None = None) -> Sequence[str]:
        """See `ReportCopy`."""
        statement = Statement(question, period)
        text = statement.latest(limit, after)
        with self._reading() as cursor:
            return [visit_id for (visit_id,) in cursor.execute(text, statement.values).fetchall()]

    def parquet(self, table: Table) -> bytes:
        """Return a table as a Parquet file; see `to_parquet`."""
        return to_parquet(table)

    def clear(self) -> None:
        """Throw everything away and begin again at the empty position."""
        with self._writing:
            was_closed, self._is_closed = self._is_closed, True
            try:
                self._is_gone = True
                self._let_go()
                self._delete_files()
                self._connection = self._open()
                self._is_gone = False
            finally:
                self._is_closed = was_closed

    def close(self) -> None:
        """Let go of the file, in the midst of a batch or of answers too, which fail. Safe twice."""
        self._is_closed = True
        self.interrupt()
        with self._writing:
            self._let_go()
        self._release()
        self._on_close()

    def _let_go(self) -> None:
        """Break off the answers under way and close; the engine closes nothing that somebody uses."""
        for _ in range(_INTERRUPTS):
            if not self._readers:
                break
            for reader in tuple(self._readers):
                _break_off(reader)
            # Again, should the statement not have begun yet that was meant.
            time.sleep(_BETWEEN_INTERRUPTS)
        with contextlib.suppress(duckdb.Error):
            self._connection.close()

    def interrupt(self) -> None:
        """Break off the batch that is being applied, which then fails as a whole."""
        writer = self._writer
        if writer is not None:
            _break_off(writer)

    def _delete_files(self) -> None:
        if self._path is not None:
            for file in (self._path, self._path.with_name(self._path.name + ".wal")):
                try:
                    file.unlink(missing_ok=True)
                except OSError as error:
                    raise StoreUnavailable(f"the copy for reports cannot be made again: {error}") from error

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._is_gone and not self._is_closed:
            raise CopyBroken("the copy for reports was thrown away and could not be made again")
        try:
            return self._connection.cursor()
        except duckdb.ConnectionException as error:
            raise StoreUnavailable(_CLOSED) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with _translated(), self._cursor() as cursor:
            self._readers.add(cursor)
            try:
                if self._is_closed:
                    raise StoreUnavailable(_CLOSED)
                yield cursor
            except duckdb.InterruptException as error:
                raise StoreUnavailable("the copy for reports was closed before the answer was there") from error
            finally:
                self._readers.discard(cursor)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._writing, _translated(), self._cursor() as cursor:
            self._writer = cursor
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            finally:
                self._writer = None


def _format(connection: duckdb.DuckDBPyConnection) -> str:
    return " ".join([FORMAT, *map(str, connection.execute(settling.SAMPLES).fetchall()[0])])


def is_locked(error: duckdb.Error) -> bool:
    """Return whether a file cannot be opened because another process has it open."""
    return "could not set lock" in _reason(error)


def _reason(error: duckdb.Error) -> str:
    """Return what the engine says, without the names of files, which may say anything."""
    return _NAMES_OF_FILES.sub("", str(error)).lower()


def _break_off(cursor: duckdb.DuckDBPyConnection) -> None:
    with contextlib.suppress(duckdb.Error):  # it ends just now
        cursor.interrupt()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Let no error of the driver out."""
    try:
        yield
    except _BROKEN as error:
        raise CopyBroken(f"the copy for reports is broken: {error}") from error
    except duckdb.IOException as error:
        is_damage = any(sign in _reason(error) for sign in _SIGNS_OF_DAMAGE)
        kind = CopyBroken if is_damage else StoreUnavailable
        raise kind(f"the copy for reports failed: {error}") from error
    except duckdb.Error as error:
        raise StoreError(f"the copy for reports failed: {error}") from error
