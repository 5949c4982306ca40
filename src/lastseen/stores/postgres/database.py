"""One PostgreSQL database: transactions that end in time, errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, Protocol

from lastseen.errors import LastSeenError, StoreUnavailable
from lastseen.stores.connections import Connections
from lastseen.stores.postgres.failures import in_our_words
from lastseen.stores.postgres.watchdog import WATCHDOG

LIMITS = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"

# Activity is not acknowledged as saved, so its commits need not wait for the disk; other writes of the session do.
LIMITS_OF_ACTIVITY = LIMITS + ", set_config('synchronous_commit', 'off', true)"

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
        self.advice = advice

    @property
    def address(self) -> str:
        """Where the data is, without secrets."""
        return self.connections.address

    def transaction(self) -> AbstractContextManager[Cursor]:
        """Lend a cursor inside a transaction."""
        return self._transaction(LIMITS)

    def write(self) -> AbstractContextManager[Cursor]:
        """Lend a cursor inside a transaction for activity, whose commit does not wait for the disk.

        Its statements travel together with the commit where the driver can do that: look at `rowcount` after the end.
        """
        return self._transaction(LIMITS_OF_ACTIVITY, pipelined=True)

    @contextmanager
    def change_schema(self) -> Iterator[Cursor]:
        """Lend a cursor inside a transaction that may take as long as it takes."""
        with self._connection(None) as raw, _transaction_of(raw):
            yield _cursor(raw)

    @contextmanager
    def _transaction(self, limits: str, *, pipelined: bool = False) -> Iterator[Cursor]:
        milliseconds = [str(max(1, span // timedelta(milliseconds=1))) for span in (self._deadline, LOCK_TIMEOUT)]
        with (
            self._connection(self._deadline) as raw,
            _pipeline(raw) if pipelined else nullcontext(),
            _transaction_of(raw),
        ):
            _cursor(raw).execute(limits, milliseconds)
            yield _cursor(raw)

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


def _cursor(raw: Any) -> Cursor:
    """Make a plain cursor: the application's defaults may return dictionaries, or merge parameters itself."""
    if hasattr(raw, "pgconn"):
        import psycopg
        from psycopg.rows import tuple_row

        cursor: Cursor = psycopg.Cursor(raw, row_factory=tuple_row)
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


def _pipeline(raw: Any) -> AbstractContextManager[Any]:
    """Send what follows together (https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html), when possible."""
    if not hasattr(raw, "pgconn"):
        return nullcontext()
    import psycopg

    pipeline: AbstractContextManager[Any] = raw.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()
    return pipeline


@contextmanager
def _transaction_of(raw: Any) -> Iterator[None]:
    """Begin now and commit at the end of the block; the caller rolls back."""
    if not raw.autocommit:
        yield
        raw.commit()
        return
    _cursor(raw).execute("BEGIN")
    yield
    _cursor(raw).execute("COMMIT")


def _roll_back(raw: Any) -> None:
    try:
        if raw.autocommit:
            _cursor(raw).execute("ROLLBACK")
        else:
            raw.rollback()
    except Exception:  # noqa: BLE001 - the first error tells why; this connection is of no use any more
        with suppress(Exception):
            raw.close()
