"""One PostgreSQL database: transactions that end in time, errors in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from lastseen.errors import LastSeenError, StoreUnavailable
from lastseen.stores.connections import Connections
from lastseen.stores.postgres.failures import in_our_words
from lastseen.stores.postgres.watchdog import WATCHDOG

if TYPE_CHECKING:  # it needs psycopg 3, which applications with connections of their own may not have
    from lastseen.stores.postgres.wire import Wire

Statement = tuple[str, Any]
"""A statement and its parameters."""

# Who waited for a lock must see what was written meanwhile, whatever is the default of the database or the connection.
READ_COMMITTED = "ISOLATION LEVEL READ COMMITTED"
BEGIN, COMMIT = f"BEGIN {READ_COMMITTED}", "COMMIT"
AS_BEGUN = f"SET TRANSACTION {READ_COMMITTED}"

LIMITS = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"

# Activity is not acknowledged as saved, so its commits need not wait for the disk; other writes of the session do.
LIMITS_OF_ACTIVITY = LIMITS + ", set_config('synchronous_commit', 'off', true)"

# A server notices that its client is gone when it answers, which a change of the schema does only at its end, with its
# locks held until then. Servers before 14 and some systems cannot look earlier.
END_WITH_THE_CLIENT = """
DO $$ BEGIN
    PERFORM set_config(name, '1s', true) FROM pg_settings WHERE name = 'client_connection_check_interval';
EXCEPTION WHEN invalid_parameter_value THEN NULL;
END $$
"""

LOCK_TIMEOUT = timedelta(seconds=1)

GRACE = timedelta(seconds=1)
"""How much later than the server's own timeout the connection is cut."""


class Cursor(Protocol):
    """What statements run on: rows are tuples, whatever the application made the default of its connections.

    `%s` and `%(name)s` are parameters; `%b` asks for binary transfer where the driver knows it.
    """

    @property
    def rowcount(self) -> int:
        """How many rows the last statement touched or returned."""

    def execute(self, statement: str, parameters: Any = None, /) -> object:
        """Run one statement."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows of the last one."""


class PostgresDatabase:
    """Runs transactions on connections of any source.

    Each statement may take `deadline`, a wait for a lock one second. When the server does not even answer, the
    connection is cut a second after the deadline. `advice` ends the message of a `SchemaError`.
    """

    def __init__(self, connections: Connections, *, deadline: timedelta, advice: str = "") -> None:
        self.connections = connections
        self._deadline = deadline
        self._limits = _limits(deadline)
        self.advice = advice
        # Connections of our own know a shorter way.
        self._ask: Callable[[str, bytes, float], list[tuple[Any, ...]] | None] | None = getattr(
            connections, "ask", None
        )

    @property
    def address(self) -> str:
        """Where the data is, without secrets."""
        return self.connections.address

    @contextmanager
    def transaction(self, *, deadlines: int = 1, begins_late: bool = False) -> Iterator[Cursor]:
        """Lend a cursor inside a transaction: committed at the end, rolled back by an error.

        What moves much data at once may take several `deadlines`. One that `begins_late` saves a round trip, for a
        borrower whose first statement goes over `wire_of(cursor.connection)` where there is one.
        """
        deadline = self._deadline * deadlines
        limits = self._limits if deadlines == 1 else _limits(deadline)
        with self._connection(deadline) as raw:
            first = [(BEGIN, None), (LIMITS, limits)]
            with _transaction_of(raw, wire_of(raw), first, begins_late=begins_late):
                yield _cursor(raw)

    @contextmanager
    def read(self) -> Iterator[Cursor]:
        """Lend a cursor for one question, which travels alone where the connection begins no transaction by itself.

        The server is told no limit; a question that takes too long is cut together with its connection.
        """
        with self._connection(self._deadline) as raw:
            yield _cursor(raw)
            if not raw.autocommit:
                raw.commit()

    def find(self, statement: str, key: bytes) -> list[tuple[Any, ...]]:
        """Return the rows of one question with one parameter, `%b`: `read`, for what every request asks.

        The statement casts the parameter to its type. It may be asked twice, when the first time failed.
        """
        if self._ask is not None:
            found = self._ask(statement, key, self._deadline.total_seconds())
            if found is not None:
                return found
        with self.read() as cursor:
            cursor.execute(statement, (key,))
            return cursor.fetchall()

    @contextmanager
    def write(self) -> Iterator[Cursor]:
        """Lend a cursor inside a transaction for activity, whose commit does not wait for the disk.

        Everything travels together where the driver can do that: look at `rowcount` after the end.
        """
        with self._connection(self._deadline) as raw, self._write(raw) as cursor:
            yield cursor

    def record(self, statement: str, parameters: Callable[[Cursor | None], Sequence[Any]]) -> int:
        """Run one statement of activity as `write` does; return how many rows it touched.

        `parameters` are written for a cursor; or, where the statement needs none, for a `Wire`.
        """
        with self._connection(self._deadline) as raw:
            if (wire := wire_of(raw)) is not None:
                wire.begin([(LIMITS_OF_ACTIVITY, self._limits)])
                return wire.run([(statement, parameters(None))])[0].touched
            with self._write(raw) as cursor:
                cursor.execute(statement, parameters(cursor))
            return cursor.rowcount

    @contextmanager
    def _write(self, raw: Any) -> Iterator[Cursor]:
        with _pipeline(raw) or _transaction_of(raw, None, [(BEGIN, None)]):
            _cursor(raw).execute(LIMITS_OF_ACTIVITY, self._limits)
            yield _cursor(raw)

    @contextmanager
    def change_schema(self) -> Iterator[Cursor]:
        """Lend a cursor inside a transaction that may take as long as it takes, and ends with this process."""
        with self._connection(None) as raw:
            with _transaction_of(raw, None, [(BEGIN, None), (END_WITH_THE_CLIENT, None)]):
                yield _cursor(raw)
            if wire_of(raw) is not None:
                # After a change the driver makes the server forget all that is prepared, what is not its own too.
                raw.close()

    @contextmanager
    def _connection(self, deadline: timedelta | None) -> Iterator[Any]:
        seconds = self._deadline.total_seconds()
        limit = float("inf") if deadline is None else (deadline + GRACE).total_seconds()
        with self.connections.lend(seconds) as raw, WATCHDOG.guard(raw.fileno(), limit) as watch:
            try:
                yield raw
            except LastSeenError:
                _roll_back(raw)
                raise
            except Exception as error:
                _roll_back(raw)
                if watch.cut:
                    raise StoreUnavailable(f"{self.address}: no answer within {limit:g} s") from error
                raise in_our_words(error, self.address, self.advice) from error
            except BaseException:
                _roll_back(raw)
                raise


def _limits(deadline: timedelta) -> list[str]:
    return [str(max(1, span // timedelta(milliseconds=1))) for span in (deadline, LOCK_TIMEOUT)]


def _cursor(raw: Any) -> Cursor:
    """Make a plain cursor: the application's defaults may return dictionaries, or merge parameters itself."""
    if hasattr(raw, "pgconn"):
        import psycopg

        cursor: Cursor = psycopg.Cursor(raw, row_factory=psycopg.rows.tuple_row)
        return cursor
    from psycopg2.extensions import cursor as plain_cursor

    return _TextCursor(raw.cursor(cursor_factory=plain_cursor))


class _TextCursor:
    """A cursor of psycopg2, which knows text parameters only."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.fetchall = cursor.fetchall

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    def execute(self, statement: str, parameters: Any = None, /) -> object:
        return self._cursor.execute(statement.replace("%b", "%s"), parameters)


def _pipeline(raw: Any) -> AbstractContextManager[Any] | None:
    """Return what sends the statements of its block in one round trip, or None where that cannot be done.

    Such a block is one transaction, by the protocol's own rule, when none was begun explicitly
    (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
    """
    if not hasattr(raw, "pgconn") or not raw.autocommit:
        return None
    import psycopg

    pipeline: AbstractContextManager[Any] | None = raw.pipeline() if psycopg.Pipeline.is_supported() else None
    return pipeline


@contextmanager
def _transaction_of(
    raw: Any, wire: Wire | None, first: Sequence[Statement], *, begins_late: bool = False
) -> Iterator[None]:
    """Begin with these statements, and commit at the end of the block; the caller rolls back."""
    if wire is not None:
        wire.begin(first)
        if not begins_late:
            wire.run([])
        yield
        wire.run([(COMMIT, None)])
        return
    for statement, parameters in first:
        # Others begin one by themselves.
        begun = AS_BEGUN if statement == BEGIN and not raw.autocommit else statement
        _cursor(raw).execute(begun, parameters)
    yield
    if raw.autocommit:
        _cursor(raw).execute(COMMIT)
    else:
        raw.commit()


def wire_of(raw: Any) -> Wire | None:
    """Return the shorter way that a connection of our own has; None where statements cannot be prepared on it."""
    wire: Wire | None = getattr(raw, "wire", None)
    return None if wire is None or raw.prepare_threshold is None else wire


def _roll_back(raw: Any) -> None:
    try:
        if (wire := wire_of(raw)) is not None:
            # Not by the driver, see `change_schema`.
            wire.run([("ROLLBACK", None)])
        elif raw.autocommit:
            _cursor(raw).execute("ROLLBACK")
        else:
            raw.rollback()
    except Exception:  # noqa: BLE001 - the first error tells why; this connection is of no use any more
        with suppress(Exception):
            raw.close()
