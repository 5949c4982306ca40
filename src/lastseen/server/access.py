"""Who may see what: the server's own login sessions, between the gate and the pages."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from lastseen.accounts.manager import Accounts
from lastseen.server.body import AsgiApp, Receive, Scope, Send
from lastseen.server.frame import IS_SET_UP, VIEWER
from lastseen.server.receive import PATH as ACTIVITY
from lastseen.server.receive import ActivityRoute
from lastseen.sessions.cookie import Cookie
from lastseen.sessions.credentials import CookieSource
from lastseen.sessions.csrf import forgery_problem
from lastseen.sessions.manager import SessionManager
from lastseen.web.exclude import excluded_paths
from lastseen.web.sessions.asgi import SessionMiddleware, request_session
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused, forged, session_required
from lastseen.web.sessions.request import RequestSession
from lastseen.web.sessions.threads import in_thread

SIGN_IN = "/sign-in"
COOKIE = "lastseen"

_LOOPBACK = {b"localhost", b"127.0.0.1", b"[::1]"}
_BY_PROXIES = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)
_is_without_session = excluded_paths(("/static/*", "/health/live", "/health/ready"))
_is_public = excluded_paths((SIGN_IN, "/sign-out", "/set-up/*", "/welcome/*"))
_is_for_programs = excluded_paths(("/api/*", "/rows", "/metrics", "/health/*"))
_is_for_monitoring = excluded_paths(("/metrics", "/health/activity"))

NEEDS_KEY = Refusal(
    status=HTTPStatus.UNAUTHORIZED,
    code="session_required",
    detail="Activity is recorded without a session only from the server's own machine, while it listens on a loopback "
    "address. Programs elsewhere will need an API key, which this version does not have yet.",
)


class Access:
    """Lets a request through to the pages, or not.

    As long as there is no administrator, everything is open on a loopback address. From then on everything needs the
    session of an enabled account, but: signing in, static files, liveness and readiness; and, for requests that come
    from this machine itself, recording and what monitoring reads. Behind a proxy a request does not come from this
    machine, whoever passes it on.
    """

    def __init__(self, pages: AsgiApp, activity: ActivityRoute, accounts: Accounts, *, is_loopback: bool) -> None:
        self._pages = pages
        self._activity = activity
        self._accounts = accounts
        self._is_loopback = is_loopback
        self._used = SessionMiddleware(self._admit, _options(accounts.sessions, refresh=True))
        # A page that keeps itself current is no activity of a person: it neither extends nor records anything.
        self._watched = SessionMiddleware(self._admit, _options(accounts.watching_sessions, refresh=False))

    def is_open_here(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether activity may be posted and figures may be read without a session; no store is asked."""
        return self._is_loopback and (not self._accounts.is_known_to_be_set_up or _is_direct(headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http" or _is_without_session(scope["path"]) or self._is_monitored(scope):
            await self._pages(scope, receive, send)
            return
        watches = scope["path"] == "/rows" and any(name == b"if-none-match" for name, _ in scope["headers"])
        await (self._watched if watches else self._used)(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_session(scope)
        if scope["path"] == ACTIVITY:
            if not request.is_signed_in:
                raise RequestRefused(NEEDS_KEY)
            await self._activity(scope, dict(scope["headers"]), receive, send)
            return
        _refuse_forgery(request)
        scope[IS_SET_UP] = await self._is_set_up(request)
        if scope[IS_SET_UP] and not _is_public(scope["path"]):
            request.require(redirect=not _is_for_programs(scope["path"]))
        if request.is_signed_in:
            await self._introduce(request, scope)
        await self._pages(scope, receive, send)

    def _is_monitored(self, scope: Scope) -> bool:
        """Return whether this is open for monitoring on this machine, which must work while the store is away."""
        return _is_for_monitoring(scope["path"]) and self.is_open_here(dict(scope["headers"]))

    async def _is_set_up(self, request: RequestSession) -> bool:
        if self._accounts.is_known_to_be_set_up:
            return True
        return await in_thread(request.guarded, self._accounts.is_set_up)

    async def _introduce(self, request: RequestSession, scope: Scope) -> None:
        session = request.require()
        account = await in_thread(request.guarded, lambda: self._accounts.find(session.user_id))
        if account is None or not account.is_enabled:
            raise RequestRefused(session_required((), presented=True))
        scope[VIEWER] = account


def _options(manager: SessionManager, *, refresh: bool) -> WebSessions:
    # Over plain http a browser keeps the cookie only from this machine; that is for trying things out and for tunnels.
    credentials = CookieSource(cookie=Cookie(name=COOKIE, plain_http_on_localhost=True))
    return WebSessions(
        manager, credentials=credentials, refresh=refresh, login_url=SIGN_IN, next_cookie=f"{COOKIE}-next"
    )


def _refuse_forgery(request: RequestSession) -> None:
    """Refuse what another site made a browser send, also without a session: nobody else may sign a user in."""
    head = request.head
    problem = forgery_problem(
        head.method,
        fetch_site=head.headers.get("sec-fetch-site"),
        origin=head.headers.get("origin"),
        own_origin=request.options.origin_of(head),
    )
    if problem is not None:
        raise RequestRefused(forged(problem))


def _is_direct(headers: dict[bytes, bytes]) -> bool:
    """Return whether a request names this machine by a loopback name and no proxy says that it has passed it on."""
    return _BY_PROXIES.isdisjoint(headers) and _is_loopback_name(headers.get(b"host", b""))


@lru_cache(maxsize=256)
def _is_loopback_name(host: bytes) -> bool:
    try:
        netloc = urlsplit(b"//" + host.lower()).netloc
    except ValueError:
        return False
    name = netloc[: netloc.rindex(b"]") + 1] if netloc.startswith(b"[") else netloc.partition(b":")[0]
    return name in _LOOPBACK
