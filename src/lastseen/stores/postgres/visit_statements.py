"""The statements of one transaction that saves visits: several in one round trip, and rows copied in the background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.database import Cursor

UNIQUE_VIOLATION = "23505"

Rows = list[tuple[Any, ...]]
Statement = tuple[str, Any]
"""A statement and its parameters."""


class AlreadyThereError(LastSeenError):
    """Some of the rows that were copied are there already: the transaction is lost, begin another."""


class Statements:
    """Runs statements in their order; rows that are being copied have arrived before the next statement runs."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor: Any = cursor
        self._copying = ExitStack()
        self.can_copy = hasattr(cursor, "copy")
        """Whether the driver is psycopg 3."""

    def copy(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Send rows for a `COPY FROM STDIN`, and return while the server still writes them."""
        self.finish()
        with ExitStack() as stack:
            copy = stack.enter_context(self._cursor.copy(statement))
            for row in rows:
                copy.write_row(row)
            self._copying = stack.pop_all()

    def finish(self) -> None:
        """Wait for the rows that are being copied. Raises `AlreadyThereError` when one of them is there already."""
        try:
            self._copying.close()
        except Exception as error:
            if getattr(error, "sqlstate", None) == UNIQUE_VIOLATION:
                raise AlreadyThereError("a row that was copied is there already") from error
            raise

    def give_up(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Break off the copying that an error has left; without one there is none."""
        self._copying.__exit__(kind, error, traceback)

    def run(self, statement: str, parameters: Any = None) -> int:
        """Run one statement; return how many rows it touched."""
        self.finish()
        self._cursor.execute(statement, parameters)
        return int(self._cursor.rowcount)

    def ask(self, statement: str, parameters: Any = None) -> Rows:
        """Run one statement; return its rows."""
        self.run(statement, parameters)
        rows: Rows = self._cursor.fetchall()
        return rows

    def run_all(self, statements: Iterable[Statement]) -> list[int]:
        """Run statements, in one round trip where the driver can; return how many rows each touched."""
        return [int(cursor.rowcount) for cursor in self._execute(statements)]

    def ask_all(self, statements: Iterable[Statement]) -> list[Rows]:
        """Run statements that return rows, in one round trip where the driver can; return the rows of each."""
        return [cursor.fetchall() for cursor in self._execute(statements)]

    def _execute(self, statements: Iterable[Statement]) -> Iterator[Any]:
        self.finish()
        if not self.can_copy:
            for statement, parameters in statements:
                self._cursor.execute(statement, parameters)
                yield self._cursor
            return
        cursors = []
        with self._pipeline():
            for statement, parameters in statements:
                cursors.append(type(self._cursor)(self._cursor.connection, row_factory=self._cursor.row_factory))
                cursors[-1].execute(statement, parameters)
        yield from cursors

    def _pipeline(self) -> AbstractContextManager[Any]:
        import psycopg

        pipeline: AbstractContextManager[Any] = (
            self._cursor.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()
        )
        return pipeline


def integers(numbers: Iterable[int]) -> str:
    """Write many integers as an array's text: the driver would write its binary form one by one, in Python."""
    return "{" + ",".join(map(str, numbers)) + "}"
