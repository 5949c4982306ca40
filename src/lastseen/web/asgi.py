"""ASGI: Starlette, FastAPI, Litestar, Quart and any other (https://asgi.readthedocs.io/en/latest/specs/)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, Unpack

from lastseen.activity.identify import authenticated
from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send
from lastseen.web.environment import open_from_env
from lastseen.web.facts import RequestTracking, Tracker, TrackingOptions, header_text, is_json
from lastseen.web.lifespan import serve_lifespan

Channels = tuple[Receive, Send]

READ_AHEAD_DEADLINE = 1.0
"""Seconds that an answer waits at most for the rest of a body that the application did not read."""


class ActivityMiddleware:
    """Records the client of every request to `app`; the application and its answers stay exactly as they are.

    `tracker` is the `clients` of a `LastSeen`, or an `ActivityTracker`; the options are `TrackingOptions`.
    The time recorded is the request's arrival. It is recorded as soon as the client is known: on arrival for query,
    header and path; when the last of the body has passed for a client in the body; when the answer starts for a
    principal or a function of your own. Nothing that tracking does reaches the request or its answer.

    A JSON body is noted while the application reads it. What it has not read when it starts its answer is read ahead
    and kept for it, when the length is declared, within the peek limit, and arrives within a second.

    When the server shuts down, what waits is saved before the application's own shutdown and once more after it.
    """

    def __init__(self, app: ASGIApp, tracker: Tracker, **options: Unpack[TrackingOptions]) -> None:
        self.app = app
        self._tracking = RequestTracking(tracker, **options)

    @classmethod
    def from_env(cls, app: ASGIApp, *, migrate: bool = False, **options: Unpack[TrackingOptions]) -> ActivityMiddleware:
        """Return the middleware with the database and the settings that the environment names (`LASTSEEN_…`).

        `migrate=True` creates the tables. The database may be missing or unreachable: that is logged, not raised.
        """
        return cls(app, open_from_env(migrate=migrate).clients, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, self._tracking.tracker, scope, receive, send)
            return
        request = self._begin(scope, receive, send)
        if request is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, request.receive, request.send)
        finally:
            request.finish()

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> _WatchedRequest | None:
        """Record at once what can be; return what must be watched for the rest."""
        tracking = self._tracking
        try:
            path = _path_below_root(scope)
            if tracking.excludes(path):
                return None
            headers = _headers_of_peekable(scope, tracking) if tracking.reads_body else None
            if headers is not None or tracking.reads_principal:
                return _WatchedRequest(scope, path, headers, tracking, (receive, send))
            tracking.record(ASGIFacts(scope, path, tracking.now()))
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            tracking.tell(error)
        return None


def _path_below_root(scope: Scope) -> str:
    """Return the path without the `root_path` that the server or a mount put before it."""
    path: str = scope["path"]
    root: str | None = scope.get("root_path")
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :]
    return path


def _headers_of_peekable(scope: Scope, tracking: RequestTracking) -> dict[bytes, bytes] | None:
    """Return the headers of a body to look at; None for no body, not JSON, compressed, or declared too large."""
    if scope["type"] != "http":
        return None
    headers: dict[bytes, bytes] = dict(scope["headers"])
    content_type = headers.get(b"content-type")
    if content_type is None:
        return None
    if content_type != b"application/json" and not is_json(content_type.decode("latin-1")):
        return None
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        return None
    if b"content-length" in headers and not 0 < int(headers[b"content-length"]) <= tracking.peek_limit:
        return None
    return headers


class ASGIFacts:
    """See `RequestFacts`."""

    def __init__(self, scope: Scope, path: str, arrived_at: float) -> None:
        self.native = scope
        self.path = path
        self.arrived_at = arrived_at
        self.body: bytes | None = None
        self.refused = False

    @property
    def method(self) -> str:
        """See `RequestFacts`."""
        return str(self.native.get("method", "GET"))

    @property
    def query_string(self) -> bytes:
        """See `RequestFacts`."""
        return self.native.get("query_string", b"")  # type: ignore[no-any-return]

    @property
    def principal(self) -> Any:
        """Return the scope's `user`, which Starlette's and Litestar's authentication set, or the state's."""
        if self.refused:
            return None
        user = self.native.get("user")
        if user is None:
            user = self.native.get("state", {}).get("user")
        return authenticated(user)

    def header(self, name: str) -> str | None:
        """See `RequestFacts`."""
        wanted = name.lower().encode("latin-1")
        for key, value in self.native["headers"]:
            if key == wanted:
                return header_text(value)
        return None


class _WatchedRequest(ASGIFacts):
    """A request whose facts are still coming in: its body passes by, its answer has not started.

    One object is both the facts and the pair of channels, and what is rare has its default in the class, because one is
    made for every request.
    """

    body: bytes | None = None
    refused = False
    _recorded = False
    # The body: what was seen of it, and whether there is anything left to see.
    _chunks: list[bytes] | None = None
    _settled = False
    # Read for the application before it asked: messages it has yet to see, and the receive that is under way.
    _app_reads = False
    _replay: deque[Message] | None = None
    _ahead: asyncio.Task[Message] | None = None

    def __init__(
        self, scope: Scope, path: str, headers: dict[bytes, bytes] | None, tracking: RequestTracking, channels: Channels
    ) -> None:
        self.native = scope
        self.path = path
        self.arrived_at = tracking.now()
        self._headers = headers
        self._tracking = tracking
        self._receive, self._send = channels
        if headers is None:
            self._settled = True

    async def receive(self) -> Message:
        """Hand the next message to the application."""
        if self._replay:
            return self._replay.popleft()
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return await ahead
        self._app_reads = True
        try:
            message = await self._receive()
        finally:
            self._app_reads = False
        if not self._settled:
            self._note(message)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Hand the application's message to the server."""
        if not self._recorded:
            kind = message["type"]
            if kind == "http.response.start":
                self.refused = message.get("status") == 401  # noqa: PLR2004 - 401 Unauthorized
                if not self._settled and not self._app_reads and self._may_read_ahead():
                    return self._read_ahead_and_send(message)
                self._answer_starts()
            elif kind == "websocket.accept":
                self._answer_starts()
            elif kind in ("websocket.close", "websocket.http.response.start"):
                # Closed before it was accepted: refused.
                self.refused = True
        return self._send(message)

    def finish(self) -> None:
        """Record what could not be recorded before: the body never came to its end, or no answer was started."""
        if not self._recorded:
            self._record()
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead.add_done_callback(_forget)

    def _note(self, message: Message) -> None:
        """Take in one message of the body; record when nothing more is to be learned from it."""
        try:
            if message["type"] == "http.request":
                chunk: bytes = message.get("body", b"")
                if self._chunks is not None or message.get("more_body", False):
                    self._note_chunk(chunk, more=message.get("more_body", False))
                else:
                    self._settled = True
                    if len(chunk) <= self._tracking.peek_limit:
                        self.body = chunk
            else:
                self._settled = True
            if self._settled and not self._tracking.reads_principal:
                self._recorded = True
                self._tracking.record(self)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._settled = True
            self._tracking.tell(error)

    def _note_chunk(self, chunk: bytes, *, more: bool) -> None:
        if self._chunks is None:
            self._chunks = []
            self._left = self._tracking.peek_limit
        self._left -= len(chunk)
        self._chunks.append(chunk)
        if not more and self._left >= 0:
            self.body = b"".join(self._chunks)
        if not more or self._left < 0:
            self._settled = True
            self._chunks.clear()

    def _may_read_ahead(self) -> bool:
        """Return whether the rest of the body has a known end and is on its way.

        A client that expects "100 Continue" sends its body only when the application asks for it.
        """
        headers = self._headers or {}
        return self._tracking.finish_reading and b"content-length" in headers and b"expect" not in headers

    def _answer_starts(self) -> None:
        if self._settled:
            self._record()

    def _record(self) -> None:
        self._recorded = True
        self._tracking.record(self)

    async def _read_ahead_and_send(self, message: Message) -> None:
        try:
            await self._read_ahead()
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._tracking.tell(error)
        if not self._recorded:
            self._answer_starts()
        await self._send(message)

    async def _read_ahead(self) -> None:
        """Read the rest of the body, for the tracking now and for the application whenever it asks.

        A receive is never cancelled, as it might take a message with it: one that comes too late is left to the
        application. When the application starts to read meanwhile, it gets that one and reads on by itself.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # trio or another loop: only what the application reads is seen
        self._replay = deque()
        until = loop.time() + READ_AHEAD_DEADLINE
        while not self._settled:
            ahead = self._ahead = asyncio.ensure_future(self._receive_and_note())
            await asyncio.wait((ahead,), timeout=until - loop.time())
            if self._ahead is not ahead or not ahead.done() or ahead.cancelled() or ahead.exception() is not None:
                return
            self._ahead = None
            self._replay.append(ahead.result())

    async def _receive_and_note(self) -> Message:
        message = await self._receive()
        if not self._settled:
            self._note(message)
        return message


def _forget(task: asyncio.Task[Message]) -> None:
    if not task.cancelled():
        task.exception()
