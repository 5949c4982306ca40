"""One connection of our own, with a short way for the question that every request has.

A question asked through the driver's cursor costs as much processor time as the round trip to a server on the same
machine. `Link.ask` sends a prepared statement and waits for the answer itself, on libpq's interface for that
(https://www.postgresql.org/docs/current/libpq-async.html); its deadline needs no watchdog, as it is the poll's.
"""

from __future__ import annotations

import hashlib
import select
import time
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from lastseen.stores.postgres.failures import PREPARED_STATEMENT_LOST

LONGEST_LIFE = 3600.0
"""Seconds after which a connection is replaced, so that a server's process does not grow for ever."""

_BINARY = pq.Format.BINARY
_ONE_BINARY = (_BINARY,)
_TUPLES_OK = pq.ExecStatus.TUPLES_OK
_IDLE = pq.TransactionStatus.IDLE


class NoAnswer(Exception):
    """The server did not answer in time; the link is closed."""


class NotPrepared(Exception):
    """Something between us and the server has changed the session under a prepared statement."""


class Link:
    """A connection in autocommit mode and what was prepared on it. Whoever has it uses it alone."""

    __slots__ = ("_expires_at", "_names", "_pgconn", "_poller", "_transformer", "connection", "generation")

    def __init__(self, connection: psycopg.Connection[Any], generation: object) -> None:
        self.connection = connection
        self.generation = generation
        """Of the pool; links of an older one are closed when they come back."""
        self._pgconn = connection.pgconn
        self._poller = select.poll()
        self._poller.register(self._pgconn.socket, select.POLLIN)
        self._transformer = Transformer(connection)
        self._names: dict[str, bytes] = {}
        self._expires_at = time.monotonic() + LONGEST_LIFE

    def is_usable(self) -> bool:
        """Return whether the server still seems to be there: an idle one is silent, unless it says goodbye."""
        return not self._poller.poll(0) and time.monotonic() < self._expires_at

    def is_idle(self) -> bool:
        """Return whether the connection is whole and in no transaction."""
        return self._pgconn.transaction_status == _IDLE

    def ask(self, statement: str, key: bytes, seconds: float) -> list[tuple[Any, ...]] | None:
        """Return the rows of a statement with one parameter, `%b`, whose type the statement casts it to.

        None when anything is unusual: an error of the server's, or a connection that broke. Asking again by cursor,
        perhaps on another connection, then gives the answer or the error. Raises `NoAnswer` after `seconds`, and
        `NotPrepared` where there is no use in trying again.
        """
        try:
            name = self._names.get(statement) or self._prepare(statement, seconds)
            if name is None:
                return None
            self._pgconn.send_query_prepared(name, (key,), _ONE_BINARY, _BINARY)
            result = self._answer(seconds)
            if result.status != _TUPLES_OK:
                self.close()
                _raise_if_lost(result)
                return None
            self._transformer.set_pgresult(result)
            return self._transformer.load_rows(0, result.ntuples, tuple)
        except psycopg.Error:
            self.close()
            return None

    def _prepare(self, statement: str, seconds: float) -> bytes | None:
        # Named after its text: should a pooler lead us to a session of somebody else's, the name means the same there.
        name = b"lastseen_" + hashlib.sha256(statement.encode()).hexdigest()[:32].encode()
        self._pgconn.send_prepare(name, statement.replace("%b", "$1").encode())
        result = self._answer(seconds)
        if result.status != pq.ExecStatus.COMMAND_OK:
            _raise_if_lost(result)
            return None
        self._names[statement] = name
        return name

    def _answer(self, seconds: float) -> pq.abc.PGresult:
        """Return the one result of what was sent."""
        pgconn, poller = self._pgconn, self._poller
        unsent = pgconn.flush()
        until = None
        while unsent or pgconn.is_busy():
            if unsent:
                poller.modify(pgconn.socket, select.POLLIN | select.POLLOUT)
            until = until or time.monotonic() + seconds
            if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
                self.close()
                raise NoAnswer
            pgconn.consume_input()
            if unsent:
                unsent = pgconn.flush()
                poller.modify(pgconn.socket, select.POLLIN)
        result = pgconn.get_result()
        while pgconn.get_result() is not None:
            pass
        if result is None:
            raise psycopg.OperationalError("the server sent no result")
        return result

    def close(self) -> None:
        """Close the connection; twice is fine."""
        with suppress(Exception):
            self.connection.close()


def _raise_if_lost(result: pq.abc.PGresult) -> None:
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    if state.decode() in PREPARED_STATEMENT_LOST:
        raise NotPrepared
