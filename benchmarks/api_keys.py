"""B14: what tracking adds to a request that an API key lets in, and what a secret's being right or wrong costs.

`python -m benchmarks.api_keys FOLDER CACHE_SECONDS` is the server of the first: it prints its port and the secrets.
"""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from tests.servers import PostgresServer

from benchmarks.measure import Row, microseconds
from lastseen.activity.buffer import Outcome
from lastseen.activity.flush import FlushResult
from lastseen.devices.key import new_secret
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.stores import open_store
from lastseen.web.keys.asgi import ApiKeyMiddleware

KEYS = 100
REQUESTS = 10_000
"""Tracked ones; as many without tracking are sent in between, one by one, so that both meet the same machine."""
CALLS = 10_000
MOST = 1.05

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Untracked(ApiKeys):
    """The same without tracking."""

    def record_used(self, key_id: str, at: datetime | float | None = None) -> Outcome:
        """Note nothing."""
        del key_id, at
        return Outcome.ACCEPTED


def run() -> list[Row]:
    """Compare over HTTP on a SQLite file, and verifying in this process in every store."""
    rows = _over_http(0, "read from the file") + _over_http(5, "remembered for 5 s")
    return rows + _verifying()


def _over_http(cache_seconds: int, case: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.api_keys", folder, str(cache_seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                port, secrets = json.loads(server.stdout.readline())
                costs, seconds, statements = _ask(port, secrets)
            finally:
                server.terminate()
    tracked, plain = median(costs["/tracked"]), median(costs["/plain"])
    ratio = tracked / plain
    return [
        Row(
            bar="B14",
            case=f"a request over HTTP with an API key of a device, tracked, key {case}",
            figure=microseconds(tracked),
            limit=f"at most {MOST} times",
            peer=f"without tracking {microseconds(plain)}",
            ratio=f"{ratio:.3f}",
            met=ratio <= MOST,
        ),
        Row(
            bar="B14",
            case=f"statements on the table of keys for {REQUESTS:,} requests of {KEYS} keys, key {case}",
            figure=f"{statements} in {seconds:.1f} s",
            limit="at most one a second",
            met=statements <= seconds + 1,
        ),
    ]


def _ask(port: int, secrets: Sequence[str]) -> tuple[Mapping[str, Sequence[float]], float, int]:
    """Send the two kinds of requests in turns; return how long each took, all together, and the statements."""
    costs: dict[str, list[float]] = {"/tracked": [], "/plain": []}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keys = cycle(secrets)
        _exchange(connection, "/statements", next(keys))
        began = time.perf_counter()
        for number in range(REQUESTS):
            key = next(keys)
            for path in ("/tracked", "/plain") if number % 2 else ("/plain", "/tracked"):
                costs[path].append(_exchange(connection, path, key)[0])
        seconds = time.perf_counter() - began
        statements = int(_exchange(connection, "/statements", next(keys))[1])
    return costs, seconds, statements


def _exchange(connection: socket.socket, path: str, secret: str) -> tuple[float, bytes]:
    request = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\nContent-Length: 0\r\n\r\n".encode()
    began = time.perf_counter()
    connection.sendall(request)
    answer = b""
    while True:
        answer += connection.recv(65_536)
        head, separator, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if separator and length is not None and len(body) >= int(length[1]):
            break
    took = time.perf_counter() - began
    assert answer[9:12] == b"200", answer
    return took, body


def _verifying() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        stores = {
            "memory": "memory:",
            "SQLite": f"sqlite:///{Path(folder) / 'keys.db'}",
            "PostgreSQL": server.create_database(),
        }
        return [row for name, url in stores.items() for row in _verifying_in(name, url)]


def _verifying_in(name: str, url: str) -> list[Row]:
    """Verify the three kinds in turns, in any order."""
    store = open_store(url)
    store.migrate()
    keys = ApiKeys(store.devices)
    right = [keys.create(f"key {number}")[1].reveal() for number in range(KEYS)]
    dice = random.Random(5)
    costs: dict[str, list[int]] = {kind: [] for kind in ("right", "wrong", "unknown")}
    for _ in range(CALLS):
        secret, other, unknown = dice.choice(right), new_secret().reveal(), new_secret().reveal()
        halves = {"right": (secret, secret), "wrong": (secret, other), "unknown": (unknown, unknown)}
        # Each text is put together anew, as from a request, and in any order: what was made last is nearest.
        texts = {kind: one[:12] + two[12:] for kind, (one, two) in dice.sample(list(halves.items()), 3)}
        for kind in dice.sample(list(texts), 3):
            began = time.perf_counter_ns()
            keys.verify(texts[kind])
            costs[kind].append(time.perf_counter_ns() - began)
    store.close()
    found = {kind: median(taken) / 1e9 for kind, taken in costs.items()}
    return [
        Row(
            bar="B14",
            case=f"verify() of {words} secret, {name}",
            figure=microseconds(found[kind]),
            peer=f"of a right one {microseconds(found['right'])}",
            ratio=f"{found[kind] / found['right']:.3f}",
        )
        for kind, words in (("wrong", "a wrong"), ("unknown", "an unknown"))
    ]


def _application(statements: Sequence[FlushResult]) -> Callable[..., Any]:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        body = str(len(statements)).encode() if scope["path"] == "/statements" else b"ok"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def serve(folder: str, cache: timedelta) -> None:
    """Serve the same application with and without tracking, until somebody ends this process."""
    store = open_store(f"sqlite:///{Path(folder) / 'keys.db'}")
    store.migrate()
    flushes: list[FlushResult] = []
    devices = Devices(store.devices)
    keys = ApiKeys(store.devices, cache=cache, on_flush=flushes.append)
    secrets = []
    for number in range(KEYS):
        devices.register(f"device-{number:03}", by_device=False)
        secrets.append(keys.create(f"key {number}", device_id=f"device-{number:03}")[1].reveal())
    application = _application(flushes)
    tracked = ApiKeyMiddleware(application, keys, devices, require=True)
    plain = ApiKeyMiddleware(application, Untracked(store.devices, cache=cache), require=True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (tracked if scope["path"] == "/tracked" else plain)(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(json.dumps((listener.getsockname()[1], secrets)) + "\n")
        sys.stdout.flush()
        config = uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(sys.argv[1], timedelta(seconds=int(sys.argv[2])))
