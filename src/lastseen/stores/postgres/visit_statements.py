"""The statements of one transaction that saves visits: several in one round trip, and rows copied in the background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.database import Cursor, Statement, wire_of

UNIQUE_VIOLATION = "23505"

Rows = list[tuple[Any, ...]]


class AlreadyThereError(LastSeenError):
    """Some of the rows that were copied are there already: the transaction is lost, begin another."""


class Statements:
    """Runs statements in their order; rows that are being copied have arrived before the next statement runs.

    On a connection of our own, statements whose parameters are no mapping take the shorter way.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor: Any = cursor
        self._wire = wire_of(getattr(cursor, "connection", None))
        self._copying = ExitStack()
        self.can_copy = hasattr(cursor, "copy")
        """Whether the driver is psycopg 3."""

    def copy(self, statement: str, blocks: Iterable[bytes]) -> None:
        """Send blocks of a `COPY FROM STDIN`, in its text format, and return while the server still writes them."""
        self.finish()
        with ExitStack() as stack:
            wire = self._wire
            if wire is not None:
                wire.copy(statement, blocks)
                stack.push(lambda kind, *_: wire.finish_copy() if kind is None else wire.give_up_copy())
            else:
                copy = stack.enter_context(self._cursor.copy(statement))
                for block in blocks:
                    copy.write(block)
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
        return self.run_all([(statement, parameters)])[0]

    def ask(self, statement: str, parameters: Any = None) -> Rows:
        """Run one statement; return its rows."""
        return self.ask_all([(statement, parameters)])[0]

    def run_all(self, statements: Iterable[Statement]) -> list[int]:
        """Run statements, in one round trip where the driver can; return how many rows each touched."""
        return [touched for _, touched in self._execute(statements, asks=False)]

    def ask_all(self, statements: Iterable[Statement]) -> list[Rows]:
        """Run statements that return rows, in one round trip where the driver can; return the rows of each."""
        return [rows for rows, _ in self._execute(statements, asks=True)]

    def _execute(self, statements: Iterable[Statement], *, asks: bool) -> Iterable[tuple[Rows, int]]:
        """Return the rows of each statement if it asks, and how many rows it touched."""
        self.finish()
        statements = list(statements)
        if self._wire is not None and not any(isinstance(parameters, Mapping) for _, parameters in statements):
            return self._wire.run(statements)
        if not self.can_copy:
            # One after the other: they share the cursor.
            return [_outcome(self._run(self._cursor, *statement), asks=asks) for statement in statements]
        with self._pipeline():
            cursors = [self._run(self._another_cursor(), *statement) for statement in statements]
        return [_outcome(cursor, asks=asks) for cursor in cursors]

    def _another_cursor(self) -> Any:
        return type(self._cursor)(self._cursor.connection, row_factory=self._cursor.row_factory)

    @staticmethod
    def _run(cursor: Any, statement: str, parameters: Any) -> Any:
        cursor.execute(statement, parameters)
        return cursor

    def _pipeline(self) -> AbstractContextManager[Any]:
        import psycopg

        pipeline: AbstractContextManager[Any] = (
            self._cursor.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()
        )
        return pipeline


def integers(numbers: Iterable[int]) -> str:
    """Write many integers as an array's text: the driver would write its binary form one by one, in Python."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _outcome(cursor: Any, *, asks: bool) -> tuple[Rows, int]:
    return cursor.fetchall() if asks else [], int(cursor.rowcount)
