"""A load generator for events: so many connections, each with one request under way, for so many seconds.

Run as `python -m benchmarks.event_load PORT PATH KEY EVENTS CONNECTIONS SECONDS PID`; every event has an id of its own,
happens when it is sent, and belongs to one of 400 visitors. Prints the number of answers a second, and the processor
time of the server for each: from one rest to the next, so that what it does later for these events is in it, and what
it did for the load before is not. Every answer is checked to be a 200; else the run fails.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import msgspec
import psutil  # type: ignore[import-untyped] # it publishes no types
import uvloop

VISITORS = 400
QUIET = 6.0
"""Seconds in which a server that is at rest does next to nothing: longer than the copy for reports pauses."""
NEXT_TO_NOTHING = 0.05
"""Seconds of processor time."""
LONGEST_WORK = 60.0
"""Seconds after a load; a server that works longer has fallen behind for good."""
_TURN = b"~" * 24
_NOW = b"2026-01-01T00:00:00.000000+00:00"
"""Stands for the moment of sending, which is of the same length."""
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


def event(number: int, event_id: str) -> dict[str, object]:
    """Return an event of about 500 bytes, such as a page sends."""
    return {
        "id": event_id,
        "client_id": "for the echo",
        "name": "$pageview",
        "distinct_id": f"visitor-{number % VISITORS:06d}",
        "at": _NOW.decode(),
        "url": f"https://shop.example/products/{number % 50}?utm_source=letter&utm_medium=mail&utm_campaign=spring",
        "referrer": "https://www.search.example/",
        "session_id": f"session-{number % VISITORS:06d}",
        "screen": "1920x1080",
        "properties": {"title": "A product that everybody wants", "price": 19.5, "currency": "EUR", "in_stock": True},
    }


def requests_to(port: int, path: str, key: str, events: int, first: int) -> Iterator[bytes]:
    """Return requests without end, none like another: all is made before, but ids and moments."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: {_AGENT}\r\nAccept: */*\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    ).encode()
    templates = [_template(head, events, first + turn) for turn in range(VISITORS if events == 1 else 20)]
    mark = os.urandom(4).hex().encode()
    for turn, template in enumerate(itertools.cycle(templates)):
        now = datetime.now(UTC).isoformat(timespec="microseconds").encode()
        yield template.replace(_TURN, b"%b%016d" % (mark, turn)).replace(_NOW, now)


def _template(head: bytes, events: int, number: int) -> bytes:
    turn = _TURN.decode()
    if events == 1:
        body = msgspec.json.encode(event(number, turn))
    else:
        # One visitor's events rarely come together; a batch of a server has many visitors.
        body = msgspec.json.encode([event(number * 7 + place, f"{turn}{place:03d}") for place in range(events)])
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last is complete."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.answers = 0
        self.failure = ""
        self.is_ending = False
        """Whether nothing more is to be sent."""
        self.has_ended = False
        self._requests = requests
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but type.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        length = _LENGTH.search(received, 0, end) if end >= 0 else None
        if length is None or len(received) < end + 4 + int(length[1]):
            self._received = received
            return
        self._received = b""
        if received[9:12] != b"200":
            self.failure = received.decode("latin-1")
            self.has_ended = True
            self._transport.close()
            return
        self.answers += 1
        if self.is_ending:
            self.has_ended = True
        else:
            self._transport.write(next(self._requests))

    def connection_lost(self, _: Exception | None) -> None:
        if not self.has_ended:
            self.failure = "the server closed the connection"
            self.has_ended = True


async def load(sources: list[Iterator[bytes]], port: int, seconds: float, pid: int) -> list[float]:
    """Send from each source over a connection of its own; return answers a second and processor time an answer."""
    server = psutil.Process(pid)
    # At rest since the load before, or since the start.
    worked_before = _work(server)
    loop = asyncio.get_running_loop()
    protocols = [Connection(source) for source in sources]
    for protocol in protocols:
        await loop.create_connection(lambda protocol=protocol: protocol, "127.0.0.1", port)  # type: ignore[misc]
    await _pass(0.5)
    before, began = _answers(protocols), time.perf_counter()
    await _pass(seconds)
    speed = (_answers(protocols) - before) / (time.perf_counter() - began)
    for protocol in protocols:
        protocol.is_ending = True
    while not all(protocol.has_ended for protocol in protocols):
        await _pass(0.01)
    if failures := [protocol.failure for protocol in protocols if protocol.failure]:
        raise RuntimeError(f"not a 200: {failures[0]}")
    worked = await _work_at_rest(server) - worked_before
    return [speed, worked / _answers(protocols)]


async def _work_at_rest(server: psutil.Process) -> float:
    """Return the server's processor time when it does nothing more."""
    work, began = _work(server), time.monotonic()
    until = began + LONGEST_WORK
    while time.monotonic() < began + QUIET:
        await _pass(0.1)
        now = _work(server)
        if now - work > NEXT_TO_NOTHING:
            work, began = now, time.monotonic()
            if began > until:
                raise RuntimeError("the server does not come to rest")
    return _work(server)


def _work(server: psutil.Process) -> float:
    return float(sum(server.cpu_times()[:2]))


async def _pass(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


def _answers(protocols: list[Connection]) -> int:
    return sum(protocol.answers for protocol in protocols)


def main() -> None:
    """Read the arguments, print the figures."""
    port, path, key, events, connections, seconds, pid = sys.argv[1:]
    sources = [requests_to(int(port), path, key, int(events), 13 * number) for number in range(int(connections))]
    figures = uvloop.run(load(sources, int(port), float(seconds), int(pid)))
    sys.stdout.write(" ".join(map(str, figures)) + "\n")


if __name__ == "__main__":
    main()
