"""B3: what the ASGI middleware adds to a request, called in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.measure import Rounds, Row, microseconds, take_turns
from lastseen import ClientActivity, TrackerSettings
from lastseen.activity.identify import header
from lastseen.stores.memory import MemoryStore
from lastseen.web.asgi import ActivityMiddleware

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CLIENTS = [f"client-{number:06d}" for number in range(400)]
LAPS = 4
ROUNDS = 25
MOST = 5e-6
MOST_BESIDE_DECODING = 2e-6
QUIET = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestKind:
    """Where the client is named."""

    name: str
    options: dict[str, Any]
    scope: dict[str, Any]
    query: Callable[[str], bytes] = lambda _: b""
    headers: Callable[[str], list[tuple[bytes, bytes]]] = lambda _: []
    body: Callable[[str], bytes] = lambda _: b""

    def requests(self) -> list[tuple[dict[str, Any], bytes]]:
        """Return one request a client: the scope and the body."""
        return [
            (
                {**self.scope, "query_string": self.query(client), "headers": [*HEADERS, *self.headers(client)]},
                self.body(client),
            )
            for client in CLIENTS
        ]


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "scheme": "http",
    "path": "/api/orders/17",
    "raw_path": b"/api/orders/17",
    "root_path": "",
    "client": ("127.0.0.1", 50_000),
    "server": ("127.0.0.1", 8_000),
    "state": {},
}
HEADERS = [(b"host", b"example.org"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")]


def body_of(client: str) -> bytes:
    """Return 1 KB of JSON with the client in the middle."""
    items = [{"sku": f"item-{number:04d}", "quantity": number} for number in range(10)]
    body = msgspec.json.encode({"order": 17, "items": items, "client_id": client, "note": ""})
    note = "x" * (1024 - len(body))
    return msgspec.json.encode({"order": 17, "items": items, "client_id": client, "note": note})


def _body_headers(client: str) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body_of(client))).encode())]


KINDS = (
    RequestKind(
        name="client in the query",
        options={},
        scope={**SCOPE, "method": "GET"},
        query=lambda client: f"page=2&client_id={client}".encode(),
    ),
    RequestKind(
        name="client in a header",
        options={"source": header("X-Client-ID")},
        scope={**SCOPE, "method": "GET"},
        headers=lambda client: [(b"x-client-id", client.encode())],
    ),
    RequestKind(
        name="client in a JSON body of 1 KB",
        options={},
        scope={**SCOPE, "method": "POST"},
        headers=_body_headers,
        body=body_of,
    ),
)


def run() -> list[Row]:
    """Compare with the raw application, with a trivial middleware and with Starlette's BaseHTTPMiddleware."""
    rows = []
    for kind in KINDS:
        requests = kind.requests()
        clients = ClientActivity(MemoryStore().clients, QUIET)
        for client in CLIENTS:
            clients.record(client)
        applications: dict[str, App] = {
            "raw": application,
            "trivial": TrivialMiddleware(application),
            "base": BaseHTTPMiddleware(application, dispatch=_pass_on),
            "ours": ActivityMiddleware(application, clients, **kind.options),
        }
        if kind.body(CLIENTS[0]):
            applications["least"] = LeastMiddleware(application, clients)
            applications["decoding"] = decoding_application
        contenders: dict[str, Callable[[], float]] = {
            name: partial(_timed, app, requests) for name, app in applications.items()
        }
        has_body = bool(requests[0][1])
        if has_body:
            contenders["decode"] = partial(_decode, [body for _, body in requests])
        rounds = take_turns(contenders, ROUNDS)
        rows += _rows(kind, rounds, has_body=has_body)
        clients.close()
    return rows


def _rows(kind: RequestKind, rounds: Rounds, *, has_body: bool) -> list[Row]:
    most = MOST_BESIDE_DECODING + rounds.median("decode") if has_body else MOST
    limit = f"at most 2 µs + a typed decode, {microseconds(most)}" if has_body else f"at most {microseconds(most)}"
    raw = rounds.median("raw")
    rows = []
    for name, case in (
        ("ours", "ActivityMiddleware"),
        ("trivial", "a trivial pure-ASGI middleware"),
        ("base", "Starlette's BaseHTTPMiddleware"),
    ):
        added = rounds.median_difference(name, "raw")
        rows.append(
            Row(
                bar="B3",
                case=f"{case}, {kind.name}",
                figure=f"adds {microseconds(added)}",
                limit=limit if name == "ours" else "",
                peer=f"raw application {microseconds(raw)}",
                ratio=f"{rounds.ratio(name, 'raw'):.2f}",
                spread=rounds.ratio_spread(name, "raw"),
                met=added <= most if name == "ours" else None,
            )
        )
    if has_body:
        rows.append(
            Row(bar="B3", case="typed decode of one field of that body", figure=microseconds(rounds.median("decode")))
        )
        rows.append(
            Row(
                bar="B3",
                case="the same decode by the application itself, with other work between one and the next",
                figure=f"adds {microseconds(rounds.median_difference('decoding', 'raw'))}",
                peer=f"raw application {microseconds(raw)}",
                ratio=f"{rounds.ratio('decoding', 'raw'):.2f}",
                spread=rounds.ratio_spread("decoding", "raw"),
            )
        )
        rows.append(
            Row(
                bar="B3",
                case="the least that can do it: pass on, decode, record; no path, header or length is looked at",
                figure=f"adds {microseconds(rounds.median_difference('least', 'raw'))}",
                peer=f"raw application {microseconds(raw)}",
                ratio=f"{rounds.ratio('least', 'raw'):.2f}",
                spread=rounds.ratio_spread("least", "raw"),
            )
        )
    return rows


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Read the body and answer."""
    del scope
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def decoding_application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Do the same, and take the one field out of the body."""
    del scope
    while (message := await receive()).get("more_body"):
        pass
    _decode_one(message["body"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


class TrivialMiddleware:
    """Wraps `send` and looks at nothing."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def pass_on(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, pass_on)


class LeastMiddleware:
    """Takes the client out of any body: what remains of the middleware when everything that may be left out is."""

    def __init__(self, app: App, clients: ClientActivity) -> None:
        self.app = app
        self.record = clients.record

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        watched = _Watched(self.record, receive, send)
        await self.app(scope, watched.receive, watched.send)


class _OneField(msgspec.Struct):
    client_id: str


_decode_one: Callable[[bytes], _OneField] = msgspec.json.Decoder(_OneField).decode


class _Watched:
    def __init__(self, record: Callable[[str, float], object], receive: Receive, send: Send) -> None:
        self._at = time.time()
        self._record, self._receive, self._send = record, receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        self._record(_decode_one(message["body"]).client_id, self._at)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        return self._send(message)


async def _pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def _timed(app: App, requests: list[tuple[dict[str, Any], bytes]]) -> float:
    return asyncio.run(_serve(app, requests)) / (LAPS * len(requests))


async def _serve(app: App, requests: list[tuple[dict[str, Any], bytes]]) -> float:
    began = time.process_time()
    for _ in range(LAPS):
        for scope, body in requests:
            messages = iter(({"type": "http.request", "body": body, "more_body": False},))
            await app(scope.copy(), partial(_receive, messages), _send)
    return time.process_time() - began


async def _receive(messages: Any) -> Message:
    for message in messages:
        return dict(message)
    # What a server's receive does until the client is gone.
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


async def _send(message: Message) -> None:
    del message


def _decode(bodies: list[bytes]) -> float:
    decode = _decode_one
    began = time.process_time()
    for _ in range(LAPS):
        for body in bodies:
            decode(body)
    return (time.process_time() - began) / (LAPS * len(bodies))
