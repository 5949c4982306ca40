"""Who may see what: login sessions and API keys, between the gate and the routes."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from lastseen.accounts.manager import Accounts
from lastseen.app import LastSeen
from lastseen.devices.key import ApiKey, Scope
from lastseen.errors import StoreError
from lastseen.server.body import AsgiApp, Receive, Send
from lastseen.server.body import Scope as Connection
from lastseen.server.limits import RateLimits, network_of
from lastseen.server.pages.frame import IS_SET_UP, VIEWER
from lastseen.server.problem import Problem, problem_of
from lastseen.server.receive import PATH as ACTIVITY
from lastseen.server.receive import ActivityRoute, answer
from lastseen.server.rights import ANYBODY, MONITOR, PRINCIPAL, STRANGER, Principal, refusal
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
API = "/api/"
API_PAGE = "/api/v1/docs"

_LOOPBACK = {b"localhost", b"127.0.0.1", b"[::1]"}
BY_PROXIES = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)
_is_without_session = excluded_paths(("/static/*", "/health/live", "/health/ready"))
_is_public = excluded_paths((SIGN_IN, "/sign-out", "/set-up/*", "/welcome/*"))
_is_for_programs = excluded_paths(("/api/*", "/rows", "*/rows", "/metrics", "/health/*"))
_is_for_watching = excluded_paths(("/rows", "*/rows"))
_is_for_monitoring = excluded_paths(("/metrics", "/health/activity"))

_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="lastseen"')
NEEDS_CREDENTIAL = Refusal(
    status=HTTPStatus.UNAUTHORIZED,
    code="credential_required",
    detail="Sign in, or send an API key as `Authorization: Bearer ls_…` or `X-API-Key: ls_…`. An administrator makes "
    "one with `lastseen keys create`.",
    headers=(_CHALLENGE,),
)
NEEDS_KEY = Refusal(
    status=HTTPStatus.UNAUTHORIZED,
    code="credential_required",
    detail="Activity is recorded without a credential only from the server's own machine, while it listens on a "
    "loopback address. Elsewhere, send an API key with the scope activity:write as `Authorization: Bearer ls_…` or "
    "`X-API-Key: ls_…`. An administrator makes one with `lastseen keys create --scope activity:write`.",
    headers=(_CHALLENGE,),
)

NOT_SET_UP = Refusal(
    status=HTTPStatus.FORBIDDEN,
    code="not_set_up",
    detail="There is no account yet: this server answers its own machine alone. Open the set-up link that it prints, "
    "from elsewhere through an SSH tunnel.",
)
"""A proxy would open to everybody what is open on this machine."""


class Access:
    """Finds out who asks and lets the request through to the routes, which say what they need; or not.

    As long as there is no administrator, everything is open to requests that come from this machine itself, and to no
    other. From then on everything needs an API key or the session of an enabled account, but: signing in, static files,
    liveness and readiness; and, for requests that come from this machine itself, recording and what monitoring reads.
    Behind a proxy a request does not come from this machine, whoever passes it on. A key is looked at by the API alone;
    one that is presented decides, whatever session comes with it, and a wrong one is refused also where none is needed.
    """

    def __init__(
        self,
        pages: AsgiApp,
        activity: ActivityRoute,
        accounts: Accounts,
        seen: LastSeen,
        limits: RateLimits,
        *,
        is_loopback: bool,
    ) -> None:
        self._pages = pages
        self._activity = activity
        self._accounts = accounts
        self._seen = seen
        self._limits = limits
        self.is_loopback = is_loopback
        self._used = SessionMiddleware(self._admit, _options(accounts.sessions, refresh=True))
        # A page that keeps itself current is no activity of a person: it neither extends nor records anything.
        self._watched = SessionMiddleware(self._admit, _options(accounts.watching_sessions, refresh=False))

    def is_open_here(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether activity may be posted and figures may be read without a session; no store is asked."""
        return self.is_loopback and _is_direct(headers)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http" or _is_without_session(scope["path"]):
            await self._pages(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        secret = presented_key(headers) if scope["path"].startswith(API) else None
        if secret is not None:
            await self._with_key(secret, scope, receive, send)
        elif self._is_monitored(scope, headers):
            scope[PRINCIPAL] = MONITOR
            await self._pages(scope, receive, send)
        elif scope["path"] == ACTIVITY and self.is_open_here(headers):
            await self._record(scope, receive, send)
        else:
            watches = _is_for_watching(scope["path"]) and b"if-none-match" in headers
            await (self._watched if watches else self._used)(scope, receive, send)

    # Keys

    async def _with_key(self, secret: str, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve a request that presents a key; what is wrong with it leaves no trace on any timestamp."""
        try:
            key = self._seen.keys.remembered(secret) or await in_thread(self._seen.keys.verify, secret)
        except StoreError as error:
            await answer(problem_of(error), send)
            return
        if key is None:
            await answer(self._limits.failed(_network(scope)) or _wrong_key(), send)
            return
        self._record_use(key)
        principal = scope[PRINCIPAL] = Principal.of_key(key)
        is_activity = scope["path"] == ACTIVITY
        problem = self._limits.problem(
            principal.name, RateLimits.ACTIVITY_COST if is_activity else RateLimits.REQUEST_COST
        )
        if problem is None and is_activity and not principal.may(Scope.ACTIVITY_WRITE):
            problem = refusal(Scope.ACTIVITY_WRITE, principal)
        if problem is not None:
            await answer(problem, send)
        elif is_activity:
            await self._record(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def _record_use(self, key: ApiKey) -> None:
        self._seen.keys.record_used(key.id)
        if key.device_id is not None:
            self._seen.devices.record_seen(key.device_id)

    async def _record(self, scope: Connection, receive: Receive, send: Send) -> None:
        scope["path_template"] = ACTIVITY
        await self._activity(scope, dict(scope["headers"]), receive, send)

    # Sessions

    async def _admit(self, scope: Connection, receive: Receive, send: Send) -> None:
        request = request_session(scope)
        if scope["path"] == ACTIVITY and not request.is_signed_in:
            raise RequestRefused(NEEDS_KEY)
        if not scope["path"].startswith(API):
            # The API needs this with a session only, and there it has been done.
            _refuse_forgery(request)
        scope[IS_SET_UP] = await self._is_set_up(request)
        if not scope[IS_SET_UP] and not _is_public(scope["path"]) and not _is_direct(dict(scope["headers"])):
            raise RequestRefused(NOT_SET_UP)
        if scope[IS_SET_UP] and not request.is_signed_in and not _is_public(scope["path"]):
            is_page = scope["path"] == API_PAGE
            if scope["path"].startswith(API) and not is_page:
                raise RequestRefused(NEEDS_CREDENTIAL)
            request.require(redirect=is_page or not _is_for_programs(scope["path"]))
        principal = scope[PRINCIPAL] = await self._principal(request, scope)
        problem = self._limits.problem(_network(scope) if principal.is_nobody else principal.name)
        if problem is None and scope["path"] == ACTIVITY and not principal.may(Scope.ACTIVITY_WRITE):
            problem = refusal(Scope.ACTIVITY_WRITE, principal)
        if problem is not None:
            await answer(problem, send)
        elif scope["path"] == ACTIVITY:
            await self._record(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def _is_monitored(self, scope: Connection, headers: dict[bytes, bytes]) -> bool:
        """Return whether this is open for monitoring on this machine, which must work while the store is away."""
        return _is_for_monitoring(scope["path"]) and self.is_open_here(headers)

    async def _is_set_up(self, request: RequestSession) -> bool:
        if self._accounts.is_known_to_be_set_up:
            return True
        return await in_thread(request.guarded, self._accounts.is_set_up)

    async def _principal(self, request: RequestSession, scope: Connection) -> Principal:
        if not request.is_signed_in:
            return STRANGER if scope[IS_SET_UP] else ANYBODY
        session = request.require()
        account = await in_thread(request.guarded, lambda: self._accounts.find(session.user_id))
        if account is None or not account.is_enabled:
            raise RequestRefused(session_required((), presented=True))
        scope[VIEWER] = account
        return Principal.of_account(account)


def presented_key(headers: dict[bytes, bytes]) -> str | None:
    """Return what a request presents as an API key, None when it presents none; another scheme is none."""
    given = headers.get(b"x-api-key")
    if given is None:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
    return given.strip().decode("latin-1")


def _wrong_key() -> Problem:
    return Problem(
        401,
        "this API key is unknown, expired or revoked",
        headers={"www-authenticate": f'{_CHALLENGE[1]}, error="invalid_token"'},
        code="invalid_key",
    )


def _network(scope: Connection) -> str:
    client = scope.get("client")
    return network_of(client[0] if client else None)


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
    return BY_PROXIES.isdisjoint(headers) and is_loopback_name(headers.get(b"host", b""))


@lru_cache(maxsize=256)
def is_loopback_name(host: bytes) -> bool:
    """Return whether a `Host` header, in any case and with any port, names the machine itself."""
    try:
        netloc = urlsplit(b"//" + host.lower()).netloc
    except ValueError:
        return False
    name = netloc[: netloc.rindex(b"]") + 1] if netloc.startswith(b"[") else netloc.partition(b":")[0]
    return name in _LOOPBACK
