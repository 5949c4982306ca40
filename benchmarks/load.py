"""A load generator: so many connections, each with one request under way, for so many seconds.

Run as `python -m benchmarks.load PORT PATH CONNECTIONS SECONDS PID`; prints the number of answers a second, and how
much of that time the server's process was busy (0 to 1). Every answer is checked to be a 2xx; else the run fails.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import time
from typing import cast

import msgspec
import psutil  # type: ignore[import-untyped] # it publishes no types
import uvloop

CLIENTS = 400
BODY_SIZE = 500
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


def body_of(client: str) -> bytes:
    """Return 500 bytes of JSON that name the client."""
    body = msgspec.json.encode({"client_id": client, "note": ""})
    return msgspec.json.encode({"client_id": client, "note": "x" * (BODY_SIZE - len(body))})


def requests_to(port: int, path: str) -> list[bytes]:
    """Return one request a client, ready to be sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: benchmark\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {BODY_SIZE}\r\n\r\n"
    ).encode()
    return [head + body_of(f"client-{number:06d}") for number in range(CLIENTS)]


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last is complete."""

    def __init__(self, requests: list[bytes], first: int) -> None:
        self.answers = 0
        self.failure = ""
        self._requests = itertools.cycle(requests[first:] + requests[:first])
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
        if received[9:10] != b"2":
            self.failure = received.decode("latin-1")
            self._transport.close()
            return
        self.answers += 1
        self._transport.write(next(self._requests))


async def load(port: int, path: str, connections: int, seconds: float, pid: int) -> tuple[float, float]:
    """Return answers a second and the busy share of the server."""
    loop = asyncio.get_running_loop()
    requests = requests_to(port, path)
    protocols = [Connection(requests, first=number * CLIENTS // connections) for number in range(connections)]
    for protocol in protocols:
        await loop.create_connection(lambda protocol=protocol: protocol, "127.0.0.1", port)  # type: ignore[misc]
    warmed_up = loop.create_future()
    loop.call_later(0.3, warmed_up.set_result, None)
    await warmed_up
    server = psutil.Process(pid)
    before, worked, began = _answers(protocols), sum(server.cpu_times()[:2]), time.perf_counter()
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done
    elapsed = time.perf_counter() - began
    answers, worked = _answers(protocols) - before, sum(server.cpu_times()[:2]) - worked
    if failures := [protocol.failure for protocol in protocols if protocol.failure]:
        raise RuntimeError(f"not a 2xx: {failures[0]}")
    return answers / elapsed, worked / elapsed


def _answers(protocols: list[Connection]) -> int:
    return sum(protocol.answers for protocol in protocols)


def main() -> None:
    """Read the arguments, print the figures."""
    port, path, connections, seconds, pid = sys.argv[1:]
    answers, busy = uvloop.run(load(int(port), path, int(connections), float(seconds), int(pid)))
    sys.stdout.write(f"{answers} {busy}\n")


if __name__ == "__main__":
    main()
