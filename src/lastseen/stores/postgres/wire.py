"""Several statements in one round trip, and rows by the ten thousand, on a connection of our own.

Through the driver's cursors each statement costs some 60 µs of processor time in this process, more than the server
takes for most. Here they are prepared once and sent on libpq's own interface
(https://www.postgresql.org/docs/current/libpq-pipeline-mode.html). No wait has a deadline of its own: whoever lends the
connection cuts it when time is over.
"""

from __future__ import annotations

import hashlib
import re
import select
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, NamedTuple, cast

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from lastseen.stores.postgres.database import Statement

_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY
_COMMAND_OK, _TUPLES_OK, _COPY_IN = pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_IN
_PIPELINE_SYNC = pq.ExecStatus.PIPELINE_SYNC
_RECEIVED = frozenset({_COMMAND_OK, _TUPLES_OK, _COPY_IN})
_END = object()
_PLACE = re.compile("%[sb%]")


class Answer:
    """What became of a statement."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, result: pq.abc.PGresult, transformer: Any) -> None:
        self._result = result
        self._transformer = transformer

    @property
    def touched(self) -> int:
        """So many rows it changed or returned."""
        return self._result.command_tuples or 0

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Those that it returned, read anew each time."""
        result = self._result
        if result.status == _COMMAND_OK:
            return []
        self._transformer.set_pgresult(result)
        rows: list[tuple[Any, ...]] = self._transformer.load_rows(0, result.ntuples, tuple)
        return rows


class _Sent(NamedTuple):
    """What waits for its answers."""

    results: list[bytes | None]
    """In their order: None for an answer, the name for a statement that is prepared."""
    first: int
    """So many answers come before those that were asked for."""


class Wire:
    """The statements that are prepared on one connection. Whoever has the connection uses it alone."""

    __slots__ = ("_first", "_is_copying", "_pgconn", "_poller", "_prepared", "_sent", "_transformer")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._pgconn = connection.pgconn
        self._poller = select.poll()
        self._poller.register(self._pgconn.socket, select.POLLIN)
        self._transformer = Transformer(connection)
        self._prepared: set[bytes] = set()
        self._first: list[Statement] = []
        self._sent: list[_Sent] = []
        self._is_copying = False

    def begin(self, first: Iterable[Statement]) -> None:
        """Let these statements travel before whatever is run next."""
        self._first = list(first)

    @property
    def is_beginning(self) -> bool:
        """Whether nobody knows yet if what was to travel first has arrived well."""
        return any(each.first for each in self._sent)

    def run(self, statements: Iterable[Statement]) -> list[Answer]:
        """Run statements in one round trip. Raises the driver's error of the first that fails; no later one runs.

        Parameters are sequences, or None; each is cast to its type in the statement, or compared to what has one. Bytes
        are what is binary already.
        What breaks it off otherwise leaves a connection that can only be closed.
        """
        if self._sent:
            raise psycopg.OperationalError("answers to other statements are still to come")
        return self.receive() if self.send(statements) else []

    def send(self, statements: Iterable[Statement]) -> bool:
        """Send statements, also behind others that were sent, each time to be received; return whether any were.

        What is being copied arrives before, see `finish_copy`.
        """
        pgconn, first = self._pgconn, self._first
        together = [*first, *statements]
        ready = [(*_named(statement), *_written(parameters or ())) for statement, parameters in together]
        if self._is_copying:
            self.finish_copy()
        if not ready:
            return False
        self._first = []
        if not self._sent:
            pgconn.enter_pipeline_mode()
        results: list[bytes | None] = []
        self._sent.append(_Sent(results, len(first)))
        for name, text, values, formats in ready:
            if name not in self._prepared and not any(name in each.results for each in self._sent):
                pgconn.send_prepare(name, text)
                results.append(name)
            pgconn.send_query_prepared(name, values, formats, _BINARY)
            results.append(None)
        pgconn.pipeline_sync()
        self._flush()
        return True

    def receive(self, meanwhile: Iterator[object] | None = None) -> list[Answer]:
        """Return the answers to the oldest `send` that waits for them, as `run` does; go `meanwhile` on with something.

        One step of it at a time, while nothing has arrived. It may end before, and its errors are raised.
        """
        sent = self._sent[0]
        results = self._until_sync(meanwhile)
        del self._sent[0]
        if not self._sent:
            self._pgconn.exit_pipeline_mode()
        arrived = list(zip(results, sent.results, strict=True))
        self._prepared.update(name for result, name in arrived if name is not None and result.status == _COMMAND_OK)
        for result in results:
            _refuse_failed(result)
        answers = [result for result, name in arrived if name is None]
        return [Answer(result, self._transformer) for result in answers[sent.first :]]

    def give_up(self) -> None:
        """Wait for the answers to all that was sent or is being copied, whatever they are: it will be rolled back."""
        for wait in [self.finish_copy] * self._is_copying + [self.receive] * len(self._sent):
            with suppress(psycopg.Error):
                wait()

    def copy(self, statement: str, blocks: Iterable[bytes]) -> None:
        """Send rows of a `COPY FROM STDIN`, in its text format, and return while the server still writes them."""
        self.run([])
        pgconn = self._pgconn
        pgconn.send_query(statement.encode())
        _refuse_failed(self._result())
        self._is_copying = True
        try:
            for block in blocks:
                pgconn.put_copy_data(block)
                self._flush()
        except Exception:
            pgconn.put_copy_end(b"given up")
            self.give_up()
            raise
        pgconn.put_copy_end()
        self._flush()

    def finish_copy(self) -> None:
        """Wait until the server has what was copied, if there is such; raises the driver's error when it refuses it."""
        if self._is_copying:
            self._is_copying = False
            result = self._result()
            while self._next() is not None:
                pass
            _refuse_failed(result)

    def _until_sync(self, meanwhile: Iterator[object] | None) -> list[pq.abc.PGresult]:
        results: list[pq.abc.PGresult] = []
        while True:
            while meanwhile is not None and self._is_waiting():
                # Nothing is half read here, should it raise something.
                if next(meanwhile, _END) is _END:
                    meanwhile = None
            result = self._result()
            if result.status == _PIPELINE_SYNC:
                return results
            results.append(result)
            if self._next() is not None:
                raise psycopg.OperationalError("the server sent two results for one statement")

    def _is_waiting(self) -> bool:
        """Return whether the next result has not arrived."""
        if self._poller.poll(0):
            self._pgconn.consume_input()
        return bool(self._pgconn.is_busy())

    def _result(self) -> pq.abc.PGresult:
        result = self._next()
        if result is None:
            raise psycopg.OperationalError("the server sent no result")
        return result

    def _next(self) -> pq.abc.PGresult | None:
        """Return the next result, or None behind the last one of a statement."""
        pgconn, poller = self._pgconn, self._poller
        self._flush()
        while pgconn.is_busy():
            poller.poll()
            pgconn.consume_input()
        return pgconn.get_result()

    def _flush(self) -> None:
        """Send all that waits; the server may have to send something before it takes more."""
        pgconn, poller = self._pgconn, self._poller
        if not pgconn.flush():
            return
        poller.modify(pgconn.socket, select.POLLIN | select.POLLOUT)
        try:
            while pgconn.flush():
                for _, happened in poller.poll():
                    if happened & ~select.POLLOUT:
                        pgconn.consume_input()
        finally:
            poller.modify(pgconn.socket, select.POLLIN)


def _refuse_failed(result: pq.abc.PGresult) -> None:
    if result.status not in _RECEIVED:
        # The function takes any libpq result, of the C implementation too, but says otherwise.
        raise error_from_result(cast("Any", result))


@cache
def _named(statement: str) -> tuple[bytes, bytes]:
    """Return the name to prepare a statement under, and its text as libpq wants it.

    Named after its text: should a pooler lead us to a session of somebody else's, the name means the same there.
    """
    numbers = count(1)
    text = _PLACE.sub(lambda found: "%" if found[0] == "%%" else f"${next(numbers)}", statement)
    return b"lastseen_" + hashlib.sha256(statement.encode()).hexdigest()[:32].encode(), text.encode()


def _written(parameters: Iterable[Any]) -> tuple[list[bytes | None], list[pq.Format]]:
    return [_encoded(value) for value in parameters], [
        _BINARY if type(value) is bytes else _TEXT for value in parameters
    ]


def _encoded(value: Any) -> bytes | None:
    """Write a parameter as text, a sequence as an array."""
    if value is None or type(value) is bytes:
        return value
    text = "{" + ",".join(map(_item, value)) + "}" if isinstance(value, (list, tuple)) else str(value)
    if "\0" in text:
        raise psycopg.DataError("PostgreSQL cannot hold the character NUL in a text")
    return text.encode()


def _item(value: str | float | None) -> str:
    """Write an element of an array (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)."""
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'
