"""Login sessions for ASGI: Starlette, FastAPI, Litestar, Quart and any other, on asyncio.

`request` is the framework's own request or websocket, or the scope.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Header, RequestHead
from lastseen.sessions.session import IssuedSession, Session
from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send
from lastseen.web.sessions.gate import KEY, Gate
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused
from lastseen.web.sessions.request import RequestSession
from lastseen.web.sessions.threads import in_thread

FAILED = 500


class SessionMiddleware:
    """Authenticates every request that carries a credential; see `WebSessions` for what it does beside.

    With `require`, every path but the login page and the `public` ones needs a session. Within another one, it does not
    authenticate again, but may require. The store is asked in a thread; a request without credential asks nothing.
    """

    def __init__(
        self, app: ASGIApp, sessions: WebSessions, *, require: bool = False, public: Iterable[str] = ()
    ) -> None:
        self.app = app
        self._gate = Gate(sessions, require=require, public=public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        is_outermost = KEY not in scope
        if is_outermost:
            scope[KEY] = await _begin(self._gate.options, head_of(scope))
        request: RequestSession = scope[KEY]
        self._gate.check(request)
        answer = _Answer(request, send, is_websocket=scope["type"] == "websocket", finishes=is_outermost)
        if request.refusal is not None:
            await answer.refuse(request.refusal)
            return
        try:
            await self.app(scope, receive, answer.send)
        except RequestRefused as refused:
            await answer.refuse(refused.refusal)


async def _begin(options: WebSessions, head: RequestHead) -> RequestSession:
    if any(name in head.headers for name in ("cookie", "authorization")) or _has_other_sources(options):
        return await in_thread(RequestSession.begin, options, head)
    return RequestSession(options, head)


def _has_other_sources(options: WebSessions) -> bool:
    return any(source.vary.lower() not in {"cookie", "authorization"} for source in options.sources)


def head_of(scope: Scope) -> RequestHead:
    """Return what sessions need to know of a connection."""
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        if name in headers:
            repeated.setdefault(name, [headers[name]]).append(text)
        else:
            headers[name] = text
    # At once: to join one after the other copies the beginning as often as the header is repeated.
    for name, texts in repeated.items():
        headers[name] = ("; " if name == "cookie" else ", ").join(texts)
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    mount = quote(root).encode()
    if raw != mount and not raw.startswith(mount + b"/"):
        # A proxy has taken the mount point away, and the framework was told what it is: FastAPI(root_path="/app").
        raw = mount + raw
    query: bytes = scope.get("query_string", b"")
    client = scope.get("client")
    return RequestHead(
        method="WEBSOCKET" if scope["type"] == "websocket" else scope["method"],
        scheme=scope.get("scheme", "http"),
        host=headers.get("host", ""),
        path=path.removeprefix(root) if path.startswith(f"{root}/") else path,
        target=(raw + b"?" + query if query else raw).decode("latin-1"),
        headers=headers,
        address=client[0] if client else "",
    )


class _Answer:
    """The answer on its way out, with the session's headers added, or replaced by a refusal."""

    def __init__(self, request: RequestSession, send: Send, *, is_websocket: bool, finishes: bool) -> None:
        self._request = request
        self._send = send
        self._is_websocket = is_websocket
        self._finishes = finishes
        self._started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """Hand the application's message on."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            refused = self._request.raised
            if refused is not None and message["status"] == FAILED:
                # The framework made an error of the exception, as it does of those that it does not know.
                await self.refuse(refused)
                return
            self._started = True
            if self._finishes:
                present = [
                    (key.decode("latin-1"), value.decode("latin-1")) for key, value in message.get("headers", ())
                ]
                added = await self._added(present)
                message = {**message, "headers": [*message.get("headers", ()), *_encoded(added)]}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Send the refusal instead of the application's answer, unless that has begun."""
        if self._started:
            return
        self._started = self._replaced = True
        if self._is_websocket:
            # Before it is accepted, the server makes a 403 of it.
            await self._send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
            return
        headers, body = refusal.answer(self._request.head)
        if self._finishes:
            headers = (*headers, *await self._added(headers))
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": _encoded(headers)})
        await self._send({"type": "http.response.body", "body": body})

    async def _added(self, present: Iterable[Header]) -> list[Header]:
        if self._request.must_check:
            return await in_thread(self._request.finish, present)
        return self._request.finish(present)


def _encoded(headers: Iterable[Header]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def request_session(request: Any) -> RequestSession:
    """Return everything that is known of the request's session; `ConfigurationError` without the middleware."""
    scope = request if isinstance(request, MutableMapping) else request.scope
    found = scope.get(KEY)
    if found is None:
        raise ConfigurationError("SessionMiddleware is not installed around this application")
    return found  # type: ignore[no-any-return]


def current_session(request: Any) -> Session | None:
    """Return the valid session of the request, or None."""
    return request_session(request).session


def require_session(request: Any, *, redirect: bool = True) -> Session:
    """Return the session, or end the request: browsers go to the login page, others get 401."""
    return request_session(request).require(redirect=redirect)


async def require_recent(request: Any, max_age: timedelta) -> Session:
    """Return the session of a user who proved who they are within the span, or end the request with 403."""
    return await in_thread(request_session(request).require_recent, max_age)


async def sign_in(
    request: Any, user_id: str, *, credential: str | None = None, device: str | None = None, label: str = ""
) -> IssuedSession:
    """Make a session for a user who has just proved who they are, and hand it out with the answer.

    See `RequestSession.sign_in`.
    """
    begin = request_session(request).sign_in
    return await in_thread(begin, user_id, credential=credential, device=device, label=label)


async def rotate(request: Any) -> IssuedSession:
    """Give the session a new token, after a change of privilege."""
    return await in_thread(request_session(request).rotate)


async def reauthenticate(request: Any) -> IssuedSession:
    """Note that the user has just proved again who they are."""
    return await in_thread(request_session(request).reauthenticate)


async def sign_out(request: Any) -> bool:
    """End the session and clear its credential; by POST only."""
    return await in_thread(request_session(request).sign_out)


def return_target(request: Any, given: str | None = None) -> str:
    """Return where to go after signing in, always a safe place; asked for once, when the user has signed in."""
    return request_session(request).return_target(given)
