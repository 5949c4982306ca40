"""The statements of one transaction that saves visits: several in one round trip, and rows copied in the background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.database import Cursor, Statement, wire_of

if TYPE_CHECKING:
    from lastseen.stores.postgres.wire import Answer, Wire

UNIQUE_VIOLATION = "23505"

# Fails where no transaction has begun: rows that are added behind a beginning that fails (a pooler has lost what was
# prepared) would be a transaction of their own, and stay, without their visits. They take this lock anyway.
ONLY_IN_A_TRANSACTION: Statement = ("LOCK TABLE lastseen_events IN ROW EXCLUSIVE MODE", None)

Rows = list[tuple[Any, ...]]


class AlreadyThereError(LastSeenError):
    """Some of the rows that were added are there already: the transaction is lost, begin another."""


class Statements:
    """Runs statements in their order; rows that are being added have arrived before the next statement runs.

    On a connection of our own, statements whose parameters are no mapping take the shorter way.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor: Any = cursor
        self._wire = wire_of(getattr(cursor, "connection", None))
        self._copying = ExitStack()
        self._is_adding = False
        self._answers: Sequence[Answer] = []
        self._asked: list[Rows] = []
        self.can_copy = hasattr(cursor, "copy")
        """Whether the driver is psycopg 3."""
        self.can_add = self._wire is not None

    def copy(self, statement: str, blocks: Iterable[bytes]) -> None:
        """Send blocks of a `COPY FROM STDIN`, in its text format, and return while the server still writes them."""
        self.finish()
        if self._wire is not None:
            self._wire.copy(statement, blocks)
            return
        with ExitStack() as stack:
            copy = stack.enter_context(self._cursor.copy(statement))
            for block in blocks:
                copy.write(block)
            self._copying = stack.pop_all()

    def add(self, statement: str, parameters: Any) -> None:
        """Run what adds rows, and return while the server still does. One that is there is found as when copying.

        Only where `can_add`, and nothing is being added.
        """
        if self._wire is not None:
            alone = [ONLY_IN_A_TRANSACTION] if self._wire.is_beginning else []
            self._is_adding = self._wire.send([*alone, (statement, parameters)])

    def finish(self) -> None:
        """Wait for the rows that are being added. Raises `AlreadyThereError` when one of them is there already."""
        with _only_new_rows():
            self._copying.close()
            if self._wire is not None:
                self._wire.finish_copy()
                self._receive_added(self._wire)

    def _receive_added(self, wire: Wire) -> None:
        if self._is_adding:
            self._is_adding = False
            wire.receive()

    def give_up(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Break off what an error has left; without one there is nothing."""
        self._copying.__exit__(kind, error, traceback)
        if self._wire is not None:
            self._wire.give_up()

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

    def begin_asking(self, statements: Iterable[Statement]) -> None:
        """Do as `ask_all`, but go on where the driver can: `wait`, then get the rows by `end_asking`."""
        self.finish()
        if self._wire is None:
            self._asked = self.ask_all(statements)
        else:
            self._wire.send(statements)

    def wait(self, meanwhile: Iterator[object]) -> None:
        """Wait for the answers; go on with something `meanwhile`, a step at a time, which may end before or not."""
        if self._wire is not None:
            self._answers = self._wire.receive(meanwhile)

    def end_asking(self) -> list[Rows]:
        """Return the rows of each statement, once: they may be many."""
        answers, self._answers = self._answers, []
        asked, self._asked = self._asked, []
        return [answer.rows for answer in answers] if self._wire is not None else asked

    def _execute(self, statements: Iterable[Statement], *, asks: bool) -> Iterable[tuple[Rows, int]]:
        """Return the rows of each statement if it asks, and how many rows it touched."""
        # Made while rows are still being added.
        statements = list(statements)
        if self._wire is not None:
            if not any(isinstance(parameters, Mapping) for _, parameters in statements):
                answers = self._run_on(self._wire, statements)
                return [(answer.rows if asks else [], answer.touched) for answer in answers]
            self._run_on(self._wire, [])
        self.finish()
        if not self.can_copy:
            # One after the other: they share the cursor.
            return [_outcome(self._run(self._cursor, *statement), asks=asks) for statement in statements]
        with self._pipeline():
            cursors = [self._run(self._another_cursor(), *statement) for statement in statements]
        return [_outcome(cursor, asks=asks) for cursor in cursors]

    def _run_on(self, wire: Wire, statements: Iterable[Statement]) -> Sequence[Answer]:
        with _only_new_rows():
            is_sent = wire.send(statements)
            self._receive_added(wire)
        return wire.receive() if is_sent else []

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


@contextmanager
def _only_new_rows() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if getattr(error, "sqlstate", None) == UNIQUE_VIOLATION:
            raise AlreadyThereError("a row that was added is there already") from error
        raise


def integers(numbers: Iterable[int]) -> str:
    """Write many integers as an array's text: the driver would write its binary form one by one, in Python."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _outcome(cursor: Any, *, asks: bool) -> tuple[Rows, int]:
    return cursor.fetchall() if asks else [], int(cursor.rowcount)
