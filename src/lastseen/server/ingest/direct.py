"""Events that come as they came before: the head of the request is known, byte by byte, so it need not be read again.

A program that sends events sends the same head each time, but for the length of the body. Such a request is answered
as `EventsRoute` answers it, at half the cost; whatever is not plain goes to `EventsRoute` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter

from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Overloaded, Unacceptable
from lastseen.ingest.own import Received
from lastseen.ingest.service import Ingest
from lastseen.server.ingest.events import (
    IN_A_THREAD_FROM,
    ONE,
    PATH,
    Decoder,
    Reply,
    decoder_for,
    plain_key,
    refusal_of,
    told,
)
from lastseen.server.ingest.replies import Headers, json_start, user_agent_of
from lastseen.server.limits import InFlight
from lastseen.server.metrics import Metrics
from lastseen.server.problem import MEDIA_TYPE, stopping

FIRST_LINE = b"POST %b HTTP/1.1\r\n" % PATH.encode()
MOST_KNOWN = 1_000
"""Heads; of more the oldest is forgotten."""
LONGEST_KNOWN = 4_096
"""Bytes of a head."""
LARGEST = IN_A_THREAD_FROM - 1
"""Bytes of a body."""

_END = b"\r\n\r\n"
_LENGTHS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
"""As programs write it; whoever writes it in another way is answered by the route."""
_MOST_DIGITS = len(str(LARGEST))
_NOT_PLAIN = {
    b"content-encoding",
    b"expect",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"x-api-key",
}
"""What changes how a body is read, or takes a look at the database."""

Fields = list[tuple[bytes, bytes]]
Answer = tuple[bytes, bytes, bytes]
"""The status line, the fields and the body, each complete."""
Done = Callable[[bytes, bytes, bytes], object]
"""Called with the answer."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownHead:
    """What the fields of a head say."""

    before: bytes
    """What is written before the digits of the length."""
    after: bytes
    """What is written behind them, with the empty line."""
    headers: Headers
    key: str | None
    """The write key; see `plain_key`."""
    user_agent: str | None
    decode: Decoder
    fields_for_one: bytes
    """The fields of the answer to one event."""

    def rest_of(self, data: bytes) -> tuple[bytes, int] | None:
        """Return body and missing bytes as `split` does where it finds this very head, in half the time; else None."""
        if not data.startswith(self.before):
            return None
        first = len(self.before)
        last = data.find(b"\r", first, first + _MOST_DIGITS + 1)
        if last < 0 or not data.startswith(self.after, last):
            return None
        return _measured(data[first:last], data[last + len(self.after) :])


def split(data: bytes) -> tuple[bytes, bytes, int] | None:
    """Return head and body of a request for events, and how many bytes of the body are still to come.

    The head is without the digits of the length. None for anything else, and for more than one request.
    """
    # First of all, as most requests of a server may be others.
    if not data.startswith(FIRST_LINE):
        return None
    end = data.find(_END, 0, LONGEST_KNOWN)
    if end < 0:
        return None
    for name in _LENGTHS:
        found = data.find(name, 0, end)
        if found >= 0:
            break
    else:
        return None
    first = found + len(name)
    last = data.find(b"\r\n", first, end + 2)
    rest = _measured(data[first:last], data[end + 4 :])
    return None if rest is None else (data[:first] + data[last:end], *rest)


def _measured(digits: bytes, body: bytes) -> tuple[bytes, int] | None:
    """Return the body and how many bytes it lacks of this length; None for more than that, and for no plain length."""
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    length, there = int(digits), len(body)
    return None if length < there or length > LARGEST else (body, length - there)


class DirectEvents:
    """Answers plain requests for events without the machinery of an ASGI application. For one event loop."""

    def __init__(self, ingest: Ingest, metrics: Metrics, in_flight: InFlight) -> None:
        self._ingest = ingest
        self.in_flight = in_flight
        self.metrics = metrics
        self._usual_times = metrics.series("POST", PATH, 200)
        self._heads: dict[bytes, KnownHead] = {}

    def recall(self, head: bytes) -> KnownHead | None:
        """Return what is known of a head."""
        return self._heads.get(head)

    def learn(self, head: bytes, fields: Fields) -> None:
        """Remember a head that was read by whoever may say what it means; nothing where it is not plain.

        `fields` have their names in lower case. They are believed when they are what is written in the head, one a
        line: whatever the head means, it means the same the next time.
        """
        headers = dict(fields)
        if (
            len(headers) < len(fields)
            or b"content-length" not in headers
            or not _NOT_PLAIN.isdisjoint(headers)
            or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
            or fields_of(head) != [(name, b"" if name == b"content-length" else value) for name, value in fields]
        ):
            return
        try:
            decoder = decoder_for(headers)
        except Unacceptable:
            return
        if len(self._heads) >= MOST_KNOWN:
            del self._heads[next(iter(self._heads))]
        first = _place_of_length(head)
        self._heads[head] = KnownHead(
            before=head[:first],
            after=head[first:] + _END,
            headers=headers,
            key=plain_key(headers, Received()),
            user_agent=user_agent_of(headers),
            decode=decoder,
            fields_for_one=_written(json_start(headers, 200, ONE)["headers"]),
        )

    def address_of(self, known: KnownHead, client: tuple[str, int] | None) -> str | None:
        """Return whose requests they are that this client sends with this head."""
        return self._ingest.proxies.visitor(client[0] if client else None, known.headers.get(b"x-forwarded-for"))

    def take(self, known: KnownHead, address: str | None, body: bytes, done: Done) -> bool:
        """Take a request and call `done` later, when its events are durable; False: nothing was done, ask the route.

        `address` is that of `address_of`.
        """
        began = perf_counter()
        ingest, size = self._ingest, len(body)
        try:
            origin = Origin(
                received_at=round(ingest.clock.now() * 1_000_000), address=address, user_agent=known.user_agent
            )
            received = known.decode(body, origin)
            intake = ingest.sites.recall_fresh(plain_key(known.headers, received) if received.write_key else known.key)
            if intake is None or received.dropped or not received.events:
                return False
            self.in_flight.enter(size)
        except Exception:  # noqa: BLE001 - whatever it is, the route says it
            return False

        def answer(refused: Sequence[int], error: Exception | None) -> None:
            self.in_flight.leave(size)
            if error is None and not refused and len(received.events) == 1:
                done(_OK, known.fields_for_one, ONE)
                self._usual_times.observe(perf_counter() - began)
                return
            reply = told(received, refused) if error is None else refusal_of(error)
            done(*_answer(known.headers, reply))
            self.metrics.request("POST", PATH, reply.status, perf_counter() - began)

        loop = asyncio.get_running_loop()
        try:
            ingest.commit.offer(intake.make, received.events, loop, answer)
        except Overloaded as error:
            loop.call_soon(answer, (), error)
        return True


def _place_of_length(head: bytes) -> int:
    """Return where the digits of the length were in a head that is without them."""
    return next(head.find(name) + len(name) for name in _LENGTHS if name in head)


def fields_of(head: bytes) -> Fields:
    """Return the fields of a head as they are written, the names in lower case."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in lines]


def stopping_answer(headers: Headers) -> Answer:
    """Return what is told of a request that takes longer than the end of the server waits."""
    return _answer(headers, Reply(503, stopping().body(), MEDIA_TYPE.encode()))


def _answer(headers: Headers, reply: Reply) -> Answer:
    status_line = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n".encode()
    return status_line, _written(json_start(headers, reply.status, reply.body, reply.media_type)["headers"]), reply.body


def _written(fields: Fields) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


_OK = b"HTTP/1.1 200 OK\r\n"
