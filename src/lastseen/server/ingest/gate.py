"""Before the gate: the roads of the ingest, which are open to pages of every origin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter

from lastseen.ingest.service import Ingest
from lastseen.server.body import AsgiApp, Message, Receive, Scope, Send
from lastseen.server.ingest.direct import DirectEvents
from lastseen.server.ingest.replies import send_json
from lastseen.server.ingest.roads import IngestRoads, Road
from lastseen.server.limits import InFlight, RateLimits
from lastseen.server.metrics import Metrics
from lastseen.server.problem import MEDIA_TYPE, cut_off, problem_of, stopping
from lastseen.server.receive import PATH as ACTIVITY

MOST_REQUESTS = 2_000
MOST_BYTES = 256 * 1024 * 1024
"""Of bodies that are being read or saved at once."""
_RESERVED = 64 * 1024
"""What of a body counts before it has come, at most: some who announce much and send nothing must not be in the way of
all others."""


def _size_of(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length")
    if length is None:
        return _RESERVED if b"transfer-encoding" in headers else 0
    return min(int(length[:12]), _RESERVED) if length.isdigit() else 0


class _Arriving:
    """Counts the bytes of a body beyond those that were reserved, as they come."""

    __slots__ = ("_in_flight", "_receive", "_reserved", "more")

    def __init__(self, receive: Receive, in_flight: InFlight, reserved: int) -> None:
        self._receive = receive
        self._in_flight = in_flight
        self._reserved = reserved
        self.more = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        came = len(message.get("body", b""))
        beyond = max(came - self._reserved, 0)
        self._reserved -= came - beyond
        if beyond:
            self.more += beyond
            self._in_flight.grow(beyond)
        return message


class IngestGate:
    """Serves what comes to the ingest, and passes everything else on.

    What protects the pages is not asked here: events come from other origins by their nature, whoever has a write key
    may send, and nothing can be read. `limits` count wrong API keys, best those that the rest of the server presents
    too.
    """

    def __init__(self, inner: AsgiApp, ingest: Ingest, metrics: Metrics, limits: RateLimits) -> None:
        self._inner = inner
        self._roads = IngestRoads(ingest, limits)
        self._metrics = metrics
        self._in_flight = InFlight(requests=MOST_REQUESTS, size=MOST_BYTES)
        self.direct = DirectEvents(ingest, metrics, self._in_flight)
        """The same for what needs no application; for a server that can ask it first."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection event of ASGI."""
        # What is none of ours is handed on as it is: a coroutine around it would be a cost to every request.
        if scope["type"] != "http" or scope["path"] == ACTIVITY:
            return self._inner(scope, receive, send)
        found = self._roads.find(scope["path"], scope["method"])
        return self._inner(scope, receive, send) if found is None else self._serve(*found, scope, receive, send)

    async def _serve(self, template: str, road: Road, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        headers = dict(scope["headers"])
        size = _size_of(headers)
        try:
            self._in_flight.enter(size)
            # Most bodies are smaller and counted as a whole.
            arriving = _Arriving(receive, self._in_flight, size) if size == _RESERVED else None
            try:
                status = await road(scope, headers, arriving or receive, send)
            finally:
                self._in_flight.leave(size if arriving is None else size + arriving.more)
        except asyncio.CancelledError:
            status = await cut_off(send_json(send, headers, 503, stopping().body(), MEDIA_TYPE.encode()))
        except Exception as error:  # noqa: BLE001 - problem_of logs what is not the client's doing
            problem = problem_of(error)
            status = await send_json(send, headers, problem.status_code, problem.body(), MEDIA_TYPE.encode())
        self._metrics.request(scope["method"], template, status, perf_counter() - began)
