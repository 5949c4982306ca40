"""uvicorn's own protocol, in front of which plain requests for events are taken as they arrive."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from lastseen.server.ingest.direct import DirectEvents, KnownHead, split, stopping_answer
from lastseen.server.ingest.replies import Headers

NEWEST_TESTED = (0, 54)
"""Of uvicorn's versions. What a protocol keeps of its connection is not promised to stay: a newer one goes without."""


def protocol_with(direct: DirectEvents) -> Any:
    """Return what uvicorn takes as `http`."""
    if _version() > NEWEST_TESTED:
        return "auto"
    return type("_Protocol", (DirectProtocol,), {"direct": direct})


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in uvicorn.__version__.split(".")[:2])


HELD_FOR = 5
"""Seconds."""


_UPGRADE = re.compile(rb"\r\nUpgrade:[^\r\n]*(?=\r\n|$)", re.IGNORECASE).sub


class _Silent:
    """Takes the place of the event that an ASGI application waits for."""

    def set(self) -> None:
        """Wake nobody."""


class _DirectCycle:
    """A request without an application, as uvicorn's protocol looks at the request that is under way.

    While the server stops, it is among the tasks that uvicorn waits for, and cancels in the end.
    """

    __slots__ = ("disconnected", "headers", "keep_alive", "protocol", "response_complete")
    message_event: ClassVar = _Silent()

    def __init__(self, protocol: DirectProtocol, headers: Headers) -> None:
        self.protocol = protocol
        self.headers = headers
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True

    def done(self, status_line: bytes, fields: bytes, body: bytes) -> None:
        """Write the answer and go on with what came meanwhile; nothing when it was cancelled."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self.protocol
        if not self.keep_alive:
            protocol.tasks.discard(self)
        if self.disconnected or protocol.transport.is_closing():
            return
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        protocol.transport.write(b"".join((status_line, protocol.default_fields(), fields, end, body)))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def cancel(self, msg: object = None) -> None:  # noqa: ARG002 - as of asyncio.Task
        """Tell the client to come again; whether its events are saved, nobody knows yet."""
        asyncio.get_running_loop().call_soon(self.done, *stopping_answer(self.headers))


class DirectProtocol(HttpToolsProtocol):
    """Hands requests whose head is known to `direct`, and everything else to uvicorn, byte by byte as it came."""

    direct: ClassVar[DirectEvents]
    _default_fields: ClassVar[tuple[object, bytes]] = (None, b"")

    _is_amid = False
    """Whether uvicorn has begun to read a request and not come to its end."""
    _held = b""
    """The beginning of a request whose head is known."""
    _known: KnownHead | None = None
    """The head that came last of those that are known; most programs send one only."""
    _address: str | None = None
    """Whose requests those are that come with it."""

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol`."""
        self._is_amid = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._is_amid = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        held = self._held
        if held:
            self._held, data = b"", held + data
        rest = None if self._known is None else self._known.rest_of(data)
        if rest is None:
            rest = self._recalled(data)
        known = self._known
        if rest is None or known is None:
            return
        body, missing = rest
        if not self._is_free():
            super().data_received(data)
        elif missing:
            self._wait_for_the_rest(data, had_waited=bool(held))
        else:
            cycle = _DirectCycle(self, known.headers)
            if self.direct.take(known, self._address, body, cycle.done):
                self._unset_keepalive_if_required()
                self.cycle = cycle  # type: ignore[assignment] # see _DirectCycle
            else:
                super().data_received(data)

    def _recalled(self, data: bytes) -> tuple[bytes, int] | None:
        """Return body and missing bytes of a request whose head is known; anything else is uvicorn's, which has it."""
        parts = split(data)
        if parts is None:
            self._feed(data)
            return None
        head, body, missing = parts
        known = self.direct.recall(head)
        if known is not None:
            self._known, self._address = known, self.direct.address_of(known, self.client)
            return body, missing
        is_free = self._is_free()
        self._feed(data)
        if is_free and not missing and not self._is_amid and self.headers is not None:
            self.direct.learn(head, self.headers)
        return None

    def _feed(self, data: bytes) -> None:
        """Let uvicorn read a request without the wish to speak another protocol, with which it would drop the body.

        A server may pass that over (RFC 9110, 7.8). Java's own client begins like this.
        """
        if b"pgrade:" in data and not self._is_amid:
            head, end, body = data.partition(b"\r\n\r\n")
            # Of a head that comes in pieces a line may be cut.
            data = _UPGRADE(b"", head) + end + body if end else data
        super().data_received(data)

    def _is_free(self) -> bool:
        """Return whether a request that begins now would be answered at once."""
        before: RequestResponseCycle | None = self.cycle
        return (
            not self._is_amid
            and (before is None or before.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _wait_for_the_rest(self, data: bytes, *, had_waited: bool) -> None:
        """Hold a request of which the body is to come, once: many clients send head and body by themselves."""
        if had_waited:
            super().data_received(data)
        else:
            self._unset_keepalive_if_required()
            self._held = data
            # In place of uvicorn's own timer, and taken back like that: by what comes next.
            self.timeout_keep_alive_task = self.loop.call_later(HELD_FOR, self._hand_on)

    def _hand_on(self) -> None:
        """Let uvicorn begin what was held: whoever waits for the rest of it knows when to give up."""
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            super().data_received(held)

    def shutdown(self) -> None:
        """See `HttpToolsProtocol`; what is under way is answered."""
        self._hand_on()
        super().shutdown()
        if isinstance(self.cycle, _DirectCycle) and not self.cycle.response_complete:
            self.tasks.add(self.cycle)

    def default_fields(self) -> bytes:
        """Return what uvicorn says in every answer, such as the date; the same bytes for about a second."""
        fields = self.server_state.default_headers
        if self._default_fields[0] is not fields:
            text = b"".join([b"%b: %b\r\n" % field for field in fields])
            type(self)._default_fields = (fields, text)
        return self._default_fields[1]
