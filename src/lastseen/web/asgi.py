"""ASGI: Starlette, FastAPI, Litestar, Quart and any other (https://asgi.readthedocs.io/en/latest/specs/)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

from lastseen.activity.identify import authenticated
from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send
from lastseen.web.environment import open_from_env
from lastseen.web.facts import RequestTracking, Tracker, content_length, header_text, is_json
from lastseen.web.lifespan import serve_lifespan

READ_AHEAD_DEADLINE = 1.0
"""Seconds that an answer waits at most for the rest of a body that the application did not read."""


class ActivityMiddleware:
    """Records the client of every request to `app`; the application and its answers stay exactly as they are.

    `tracker` is the `clients` of a `LastSeen`, or an `ActivityTracker`; the options are those of `RequestTracking`.
    The time recorded is the request's arrival. It is recorded as soon as the client is known: on arrival for query,
    header and path; when the last of the body has passed for a client in the body; when the answer starts for a
    principal or a function of your own. Nothing that tracking does reaches the request or its answer.

    A JSON body is noted while the application reads it. What it has not read when it starts its answer is read ahead
    and kept for it, when the length is declared, within the peek limit, and arrives within a second.

    When the server shuts down, what waits is saved before the application's own shutdown and once more after it.
    """

    def __init__(self, app: ASGIApp, tracker: Tracker, **options: Any) -> None:
        self.app = app
        self._tracking = RequestTracking(tracker, **options)

    @classmethod
    def from_env(cls, app: ASGIApp, *, migrate: bool = False, **options: Any) -> ActivityMiddleware:
        """Return the middleware with the database and the settings that the environment names (`LASTSEEN_…`).

        `migrate=True` creates the tables. The database may be missing or unreachable: that is logged, not raised.
        """
        return cls(app, open_from_env(migrate=migrate).clients, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, self._tracking.tracker, scope, receive, send)
            return
        exchange = self._begin(scope, receive, send)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            exchange.finish()

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> _Exchange | None:
        """Record at once what can be; return what must be watched for the rest."""
        tracking = self._tracking
        try:
            facts = ASGIFacts(scope, tracking.now())
            if facts.path in tracking.excluded:
                return None
            body = _PeekedBody.of(scope, tracking) if tracking.reads_body else None
            if body is not None or tracking.reads_principal:
                return _Exchange(tracking, facts, body, receive, send)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            tracking.tell(error)
            return None
        tracking.record(facts)
        return None


class ASGIFacts:
    """See `RequestFacts`."""

    __slots__ = ("arrived_at", "body", "native", "path", "refused")

    def __init__(self, scope: Scope, arrived_at: float) -> None:
        self.native = scope
        self.arrived_at = arrived_at
        self.body: bytes | None = None
        self.refused = False
        path: str = scope["path"]
        root: str | None = scope.get("root_path")
        self.path = path[len(root) :] if root and path.startswith(root) and path[len(root) :][:1] in ("", "/") else path

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


class _PeekedBody:
    """A JSON body that passes by: what was seen of it, and whether all of it was."""

    __slots__ = ("_chunks", "_left", "complete", "read_ahead", "settled")

    def __init__(self, limit: int, *, read_ahead: bool) -> None:
        self._chunks: list[bytes] = []
        self._left = limit
        self.read_ahead = read_ahead
        self.complete: bytes | None = None
        self.settled = False

    @classmethod
    def of(cls, scope: Scope, tracking: RequestTracking) -> _PeekedBody | None:
        """Return None for a body that is not looked at: none at all, not JSON, compressed, or declared too large."""
        if scope["type"] != "http":
            return None
        headers: dict[bytes, bytes] = dict(scope["headers"])
        content_type = headers.get(b"content-type")
        if content_type is None:
            return None
        if content_type != b"application/json" and not is_json(content_type.decode("latin-1")):
            return None
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return None
        declared = headers.get(b"content-length")
        length = None if declared is None else content_length(declared.decode("latin-1"))
        if length is not None and not 0 < length <= tracking.peek_limit:
            return None
        read_ahead = tracking.finish_reading and length is not None and b"expect" not in headers
        return cls(tracking.peek_limit, read_ahead=read_ahead)

    def note(self, message: Message) -> bool:
        """Note one message to the application; True when nothing more is to be learned."""
        if message["type"] != "http.request":
            self.settled = True
            return True
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        self._left -= len(chunk)
        if self._left < 0:
            self._chunks.clear()
            self.settled = True
        elif not more:
            self.complete = b"".join((*self._chunks, chunk)) if self._chunks else chunk
            self.settled = True
        else:
            self._chunks.append(chunk)
        return self.settled


class _Exchange:
    """One request and its answer, watched until its client is recorded."""

    __slots__ = ("_ahead", "_app_reads", "_body", "_facts", "_receive", "_recorded", "_replay", "_send", "_tracking")

    def __init__(
        self, tracking: RequestTracking, facts: ASGIFacts, body: _PeekedBody | None, receive: Receive, send: Send
    ) -> None:
        self._tracking = tracking
        self._facts = facts
        self._body = body
        self._receive = receive
        self._send = send
        self._recorded = False
        self._app_reads = False
        # Read for the application before it asked: messages it has yet to see, and the receive that is under way.
        self._replay: deque[Message] | None = None
        self._ahead: asyncio.Task[Message] | None = None

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
        self._note(message)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Hand the application's message to the server."""
        if not self._recorded:
            kind = message["type"]
            if kind == "http.response.start":
                self._facts.refused = message.get("status") == 401  # noqa: PLR2004 - 401 Unauthorized
                body = self._body
                if body is not None and body.read_ahead and not body.settled and not self._app_reads:
                    return self._read_ahead_and_send(body, message)
                self._answer_starts()
            elif kind == "websocket.accept":
                self._answer_starts()
            elif kind in ("websocket.close", "websocket.http.response.start"):
                # Closed before it was accepted: refused.
                self._facts.refused = True
        return self._send(message)

    def finish(self) -> None:
        """Record what could not be recorded before: the body never came to its end, or no answer was started."""
        if not self._recorded:
            self._record()
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead.add_done_callback(_forget)

    def _note(self, message: Message) -> None:
        body = self._body
        if body is None or body.settled:
            return
        try:
            if body.note(message):
                self._facts.body = body.complete
                if not self._tracking.reads_principal:
                    self._record()
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._tracking.tell(error)

    def _answer_starts(self) -> None:
        if self._body is None or self._body.settled:
            self._record()

    def _record(self) -> None:
        self._recorded = True
        self._tracking.record(self._facts)

    async def _read_ahead_and_send(self, body: _PeekedBody, message: Message) -> None:
        try:
            await self._read_ahead(body)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._tracking.tell(error)
        if not self._recorded:
            self._answer_starts()
        await self._send(message)

    async def _read_ahead(self, body: _PeekedBody) -> None:
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
        while not body.settled:
            ahead = self._ahead = asyncio.ensure_future(self._receive_and_note())
            await asyncio.wait((ahead,), timeout=until - loop.time())
            if self._ahead is not ahead or not ahead.done() or ahead.cancelled() or ahead.exception() is not None:
                return
            self._ahead = None
            self._replay.append(ahead.result())

    async def _receive_and_note(self) -> Message:
        message = await self._receive()
        self._note(message)
        return message


def _forget(task: asyncio.Task[Message]) -> None:
    if not task.cancelled():
        task.exception()
