"""ASGI: Starlette, FastAPI, Litestar, Quart and any other (https://asgi.readthedocs.io/en/latest/specs/)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Unpack

from lastseen.activity.identify import authenticated
from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send
from lastseen.web.environment import open_from_env
from lastseen.web.facts import RequestTracking, Tracker, TrackingOptions, content_length, header_text, is_json
from lastseen.web.lifespan import serve_lifespan

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
        # In one piece: every call would cost a thirtieth of all this, at every request.
        kind = scope["type"]
        if kind == "lifespan":
            await serve_lifespan(self.app, self._tracking.tracker, scope, receive, send)
            return
        app, tracking = self.app, self._tracking
        request: _WatchedRequest | None = None
        try:
            path = _path_below_root(scope) if scope.get("root_path") else scope["path"]
            # Before the first of the excluded ones in the alphabet there is none.
            if path < tracking.first_excluded or not tracking.excludes(path):
                headers = scope["headers"]
                has_body = tracking.reads_body and kind == "http" and (_JSON in headers or _has_json(headers))
                now = tracking.now
                if has_body or tracking.reads_principal:
                    request = _WatchedRequest()
                    request.native, request.tracking, request.arrived_at = scope, tracking, now()
                    request.server_receive, request.server_send = receive, send
                    request.recorded = request.app_reads = False
                    request.decode_text = tracking.decode_text
                    if not has_body or tracking.decode_text is None:
                        request.look_closely(settled=not has_body)
                else:
                    tracking.record(ASGIFacts(scope, now()))
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            tracking.tell(error)
            request = None
        if request is None:
            await app(scope, receive, send)
            return
        try:
            await app(scope, request.receive, request.send)
        finally:
            if not request.recorded or request.decode_text is None:
                request.finish()


def _path_below_root(scope: Scope) -> str:
    """Return the path without the `root_path` that the server or a mount put before it."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :]
    return path


# To search for a pair takes half the time of a loop, and most bodies are declared like this.
_JSON = (b"content-type", b"application/json")


def _has_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a body to look at may follow. A compressed one is no JSON, whatever the headers say of it."""
    # One look at each is cheaper than a dictionary of all.
    for name, value in headers:
        if name == b"content-type":
            return is_json(value.decode("latin-1"))
    return False


class _ScopeFacts:
    """What a scope tells; see `RequestFacts`."""

    __slots__ = ("arrived_at", "native")

    native: Scope
    arrived_at: float
    refused = False

    @property
    def path(self) -> str:
        """See `RequestFacts`."""
        return _path_below_root(self.native)

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


class ASGIFacts(_ScopeFacts):
    """The facts of a request whose body is of no interest."""

    __slots__ = ()

    body: bytes | None = None

    def __init__(self, scope: Scope, arrived_at: float) -> None:
        self.native = scope
        self.arrived_at = arrived_at


class _WatchedRequest(_ScopeFacts):
    """A request whose facts are still coming in: its body passes by, its answer has not started.

    One object is both the facts and the pair of channels. Whoever makes one fills in the first eight attributes; nearly
    every body comes in one message and names the client by a text, for which they will do. `look_closely` makes ready
    for whatever else comes.
    """

    __slots__ = (
        "_chunks",
        "_left",
        "_replay",
        "_settled",
        "ahead",
        "app_reads",
        "body",
        "decode_text",
        "recorded",
        "refused",
        "server_receive",
        "server_send",
        "tracking",
    )

    tracking: RequestTracking
    server_receive: Receive
    server_send: Send
    recorded: bool
    app_reads: bool
    decode_text: Callable[[bytes], Any] | None
    """See `RequestTracking`; None from the moment on that a glance is not enough."""

    def look_closely(self, *, settled: bool = False) -> None:
        """Make ready for any body and any order of messages. Settled: there is no body to see."""
        self.decode_text = None
        self.body: bytes | None = None
        self.refused = False
        # What was seen of the body, and whether there is anything left to see.
        self._chunks: list[bytes] | None = None
        self._settled = settled
        # Read for the application before it asked: messages it has yet to see, and the receive that is under way.
        self._replay: deque[Message] | None = None
        self.ahead: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """Hand the next message to the application."""
        if self.decode_text is None and self._replay is not None:
            if self._replay:
                return self._replay.popleft()
            if self.ahead is not None:
                ahead, self.ahead = self.ahead, None
                return await ahead
        # What is called is named first: CPython 3.11 calls an attribute that is no method of the class the slow way.
        receive = self.server_receive
        self.app_reads = True
        try:
            message = await receive()
        finally:
            self.app_reads = False
        if not self.recorded:
            tracking, decode, client = self.tracking, self.decode_text, None
            try:
                if (
                    decode is not None
                    and not message["more_body"]
                    and len(body := message["body"]) <= tracking.peek_limit
                ):
                    client = decode(body).client
            except Exception:  # noqa: BLE001 - whatever it is, it is looked at closely
                client = None
            try:
                if client:
                    self.recorded = True
                    record = tracking.record_client
                    record(client, self.arrived_at)
                else:
                    self._note(message)
            except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
                tracking.tell(error)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Hand the application's message to the server."""
        if not self.recorded:
            return self._send_unrecorded(message)
        send = self.server_send
        return send(message)

    def _send_unrecorded(self, message: Message) -> Awaitable[None]:
        if self.decode_text is not None:
            self.look_closely()
        kind = message["type"]
        if kind == "http.response.start":
            self.refused = message.get("status") == 401  # noqa: PLR2004 - 401 Unauthorized
            if not self._settled and not self.app_reads and self._may_read_ahead():
                return self._read_ahead_and_send(message)
            self._answer_starts()
        elif kind == "websocket.accept":
            self._answer_starts()
        elif kind in ("websocket.close", "websocket.http.response.start"):
            # Closed before it was accepted: refused.
            self.refused = True
        return self.server_send(message)

    def finish(self) -> None:
        """Record what could not be recorded before: the body never came to its end, or no answer was started."""
        if self.decode_text is not None:
            self.look_closely()
        if not self.recorded:
            self._record()
        if self.ahead is not None:
            self.ahead.cancel()
            self.ahead.add_done_callback(_forget)

    def _note(self, message: Message) -> None:
        """Take in one message; record when nothing more is to be learned from the body."""
        if self.decode_text is not None:
            self.look_closely()
        if self._settled:
            return
        tracking = self.tracking
        try:
            if message["type"] != "http.request":
                self._settled = True
            elif message.get("more_body") or self._chunks is not None:
                self._note_chunk(message.get("body", b""), more=message.get("more_body", False))
            else:
                self._settled = True
                body: bytes = message.get("body", b"")
                if len(body) <= tracking.peek_limit:
                    self.body = body
                    if tracking.decode_text is not None and self._record_text(tracking.decode_text, body):
                        return
            if self._settled and not tracking.reads_principal:
                self.recorded = True
                tracking.record(self)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self._settled = True
            tracking.tell(error)

    def _record_text(self, decode: Callable[[bytes], Any], body: bytes) -> bool:
        """Record at once the client that the body names by a text, as most do; False: nothing was done."""
        try:
            client = decode(body).client
        except (ValueError, RecursionError):
            return False
        if not client:
            return False
        self.recorded = True
        self.tracking.record_client(client, self.arrived_at)
        return True

    def _note_chunk(self, chunk: bytes, *, more: bool) -> None:
        if self._chunks is None:
            self._chunks = []
            self._left = self.tracking.peek_limit
        self._left -= len(chunk)
        self._chunks.append(chunk)
        if not more and self._left >= 0:
            self.body = b"".join(self._chunks)
        if not more or self._left < 0:
            self._settled = True
            self._chunks.clear()

    def _may_read_ahead(self) -> bool:
        """Return whether the rest of the body has a known end within the peek limit and is on its way.

        A client that expects "100 Continue" sends its body only when the application asks for it.
        """
        if not self.tracking.finish_reading or self.header("expect") is not None:
            return False
        length = content_length(self.header("content-length"))
        return length is not None and 0 < length <= self.tracking.peek_limit

    def _answer_starts(self) -> None:
        if self._settled:
            self._record()

    def _record(self) -> None:
        self.recorded = True
        self.tracking.record(self)

    async def _read_ahead_and_send(self, message: Message) -> None:
        try:
            await self._read_ahead()
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            self.tracking.tell(error)
        if not self.recorded:
            self._answer_starts()
        await self.server_send(message)

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
            ahead = self.ahead = asyncio.ensure_future(self._receive_and_note())
            await asyncio.wait((ahead,), timeout=until - loop.time())
            if self.ahead is not ahead or not ahead.done() or ahead.cancelled() or ahead.exception() is not None:
                return
            self.ahead = None
            self._replay.append(ahead.result())

    async def _receive_and_note(self) -> Message:
        message = await self.server_receive()
        self._note(message)
        return message


def _forget(task: asyncio.Task[Message]) -> None:
    if not task.cancelled():
        task.exception()
