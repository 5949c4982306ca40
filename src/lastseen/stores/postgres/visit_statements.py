"""The statements of one transaction that saves visits: several in one round trip, and rows copied in the background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.database import Cursor

UNIQUE_VIOLATION = "23505"

Rows = list[tuple[Any, ...]]


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

    def run_all(self, statements: Sequence[tuple[str, Any]]) -> None:
        """Run statements with their parameters, in one round trip where the driver can."""
        self.finish()
        with self._pipeline():
            for statement, parameters in statements:
                self._cursor.execute(statement, parameters)

    def ask_all(self, statements: Sequence[tuple[str, Any]]) -> list[Rows]:
        """Run statements with their parameters, in one round trip where the driver can; return the rows of each."""
        if not self.can_copy:
            return [self.ask(statement, parameters) for statement, parameters in statements]
        self.finish()
        with self._pipeline():
            cursors = [
                type(self._cursor)(self._cursor.connection, row_factory=self._cursor.row_factory) for _ in statements
            ]
            for cursor, (statement, parameters) in zip(cursors, statements, strict=True):
                cursor.execute(statement, parameters)
        return [cursor.fetchall() for cursor in cursors]

    def _pipeline(self) -> AbstractContextManager[Any]:
        if not self.can_copy:
            return nullcontext()
        import psycopg

        pipeline: AbstractContextManager[Any] = (
            self._cursor.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()
        )
        return pipeline
