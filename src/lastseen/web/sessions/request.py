"""The session of one request: every decision that the adapters carry out, in one place and without a framework.

Methods that ask the store block; the asynchronous adapters call them through `threads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote

from lastseen.errors import ConfigurationError, SessionNotFound, StoreError
from lastseen.sessions.cookie import CredentialConflict, Header, RequestHead
from lastseen.sessions.credentials import CredentialSource
from lastseen.sessions.csrf import SAFE_METHODS, forgery_problem
from lastseen.sessions.manager import Authentication, Presented
from lastseen.sessions.redirect import safe_redirect
from lastseen.sessions.session import IssuedSession, Session
from lastseen.sessions.token import digest_of
from lastseen.web.sessions import refusal as refusals
from lastseen.web.sessions.device import device_of
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused, accepts_html

Result = TypeVar("Result")

NEXT_LIFE = timedelta(minutes=10)
"""How long a browser remembers where the user wanted to go."""


class RequestSession:
    """Who a request is from, and what its answer must say about it.

    `refusal` is set when the request must not reach the application; `raised` is what a method refused last. Only a
    session that is valid at the end is written to a cookie: nothing brings back one that ended meanwhile.
    """

    def __init__(self, options: WebSessions, head: RequestHead) -> None:
        self.options = options
        self.head = head
        self.refusal: Refusal | None = None
        self.raised: Refusal | None = None
        self.was_asked = False
        self._session: Session | None = None
        self._token: str | None = None
        self._sources: tuple[CredentialSource, ...] = ()
        self._issued: IssuedSession | None = None
        self._clears = False
        self._headers: list[Header] = []

    @classmethod
    def begin(cls, options: WebSessions, head: RequestHead) -> RequestSession:
        """Authenticate a request. Blocks when it carries a credential; never raises."""
        request = cls(options, head)
        request._read_credentials()
        if request._token is not None and request.refusal is None:
            request._authenticate(request._token)
        return request

    def _read_credentials(self) -> None:
        tokens: dict[str, list[CredentialSource]] = {}
        for source in self.options.sources:
            try:
                token = source.read(self.head)
            except CredentialConflict as conflict:
                self.options.manager.conflict(str(conflict))
                continue
            if token is not None:
                tokens.setdefault(token, []).append(source)
        if len(tokens) > 1:
            self.options.manager.conflict("the request has two different credentials")
            self.refusal = refusals.CONFLICT
        elif tokens:
            ((self._token, sources),) = tokens.items()
            self._sources = tuple(sources)

    def _authenticate(self, token: str) -> None:
        problem = self._forgery() if any(source.is_ambient for source in self._sources) else None
        if problem is not None:
            self._token = None
            if not self.options.is_csrf_exempt(self.head.path):
                self.refusal = refusals.forged(problem)
            return
        try:
            found = self._ask(token)
        except RequestRefused as refused:
            self.refusal = refused.refusal
            return
        if found.session is None:
            self._clears = found.presented is not Presented.NOTHING
            return
        self._session = found.session
        if found.extended and any(source.persistent for source in self._sources):
            self._issued = IssuedSession(session=found.session, token=token)

    def _ask(self, token: str, *, refresh: bool | None = None, fresh: bool = False) -> Authentication:
        kinds = {source.name for source in self._sources}
        refresh = self.options.refresh if refresh is None else refresh
        manager = self.options.manager
        return self.guarded(lambda: manager.authenticate(token, kinds=kinds, refresh=refresh, fresh=fresh))

    def _forgery(self) -> str | None:
        return forgery_problem(
            self.head.method,
            fetch_site=self.head.headers.get("sec-fetch-site"),
            origin=self.head.headers.get("origin"),
            own_origin=self.options.origin_of(self.head),
            trusted_origins=self.options.trusted_origins,
        )

    def _refused(self, refusal: Refusal) -> RequestRefused:
        self.raised = refusal
        return RequestRefused(refusal)

    def guarded(self, call: Callable[[], Result]) -> Result:
        """Ask the store; a failure is no sign-out: it is logged, and refused with 503 without touching the cookie."""
        try:
            return call()
        except StoreError as error:
            self.options.logger.error("get session error=%s", error)  # noqa: TRY400 - the store has logged its own
            raise self._refused(refusals.UNAVAILABLE) from error

    @property
    def session(self) -> Session | None:
        """The valid session, or None; the answer is taken to depend on it from now on."""
        self.was_asked = True
        return self._session

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a valid session, without making the answer depend on it."""
        return self._session is not None

    def require(self, *, redirect: bool = True) -> Session:
        """Return the session, or raise `RequestRefused`: to the login page for browsers, else 401."""
        session = self.session
        if session is None:
            raise self._refused(self._sign_in_first(redirect=redirect))
        return session

    def _sign_in_first(self, *, redirect: bool) -> Refusal:
        options = self.options
        if not (redirect and options.login_url is not None and accepts_html(self.head)):
            challenges = tuple(source.challenge for source in options.sources if source.challenge is not None)
            is_invalid = any(source.challenge is not None for source in self._sources)
            return refusals.session_required(challenges, presented=is_invalid)
        is_safe = self.head.method in SAFE_METHODS
        target = safe_redirect(self.head.target) if is_safe else "/"
        value = quote(target, safe="/")
        if is_safe and len(value) <= _LONGEST_REMEMBERED:
            self._headers.append(options.next_cookie.write(value, self.head, NEXT_LIFE))
        return refusals.sent_to_login(options.login_location(target), keeps_method=is_safe)

    def require_recent(self, max_age: timedelta) -> Session:
        """Return the session of a user who proved who they are within the span, else raise `RequestRefused` (403).

        Reads the session afresh, past every cache. Blocks.
        """
        self.require()
        found = self._ask(self._token or "", refresh=False, fresh=True)
        self._session = found.session
        session = self.require()
        if not self.options.manager.is_recent(session, max_age):
            raise self._refused(refusals.recent_sign_in_required(max_age.total_seconds()))
        return session

    def return_target(self, given: str | None = None) -> str:
        """Return where to go after signing in, and forget it: as given, from the query, or from the cookie; else `/`.

        Whatever it says, it is a path of this site, or on one of `redirect_origins`.
        """
        options = self.options
        asked = _parameter(self.head.target, options.next_parameter)
        try:
            remembered = options.next_cookie.read(self.head)
        except CredentialConflict:
            remembered = None
        if remembered is not None:
            self._headers.append(options.next_cookie.delete(self.head))
            remembered = unquote(remembered)
        return safe_redirect(given or asked or remembered, "/", options.redirect_origins)

    def sign_in(
        self, user_id: str, *, credential: str | None = None, device: str | None = None, label: str = ""
    ) -> IssuedSession:
        """Make a session for a user who has just proved who they are; what was presented ends with it.

        `credential` names the kind for a request that came without one: the first that can be written unless told
        otherwise. The token of a kind that cannot be written is the application's to hand out. Blocks; raises
        `RequestRefused`, and what `SessionManager.sign_in` raises.
        """
        source = self._source_for_login(credential)
        problem = self._forgery() if source.is_ambient else None
        if problem is not None:
            raise self._refused(refusals.forged(problem))
        device = device_of(self.head.headers.get("user-agent", "")) if device is None else device
        issued = self.guarded(
            lambda: self.options.manager.sign_in(
                user_id,
                credential_kind=source.name,
                device=device,
                address=self.head.address,
                label=label,
                presented=self._token,
            )
        )
        self._sources = (source,)
        return self._continue_with(issued)

    def _source_for_login(self, credential: str | None) -> CredentialSource:
        if credential is None:
            candidates = self._sources or sorted(self.options.sources, key=lambda source: not source.can_write)
            return candidates[0]
        for source in self._sources or self.options.sources:
            if source.name == credential:
                return source
        raise ConfigurationError(f"this request cannot get a session of kind {credential!r}")

    def rotate(self) -> IssuedSession:
        """Give the session a new token, after a change of privilege. Blocks; `RequestRefused` without a session."""
        return self._renew(self.options.manager.rotate)

    def reauthenticate(self) -> IssuedSession:
        """Note that the user has just proved again who they are: new token, deadlines begin anew. Blocks."""
        return self._renew(self.options.manager.reauthenticate)

    def _renew(self, renew: Callable[[str], IssuedSession]) -> IssuedSession:
        self.require()
        try:
            return self._continue_with(self.guarded(lambda: renew(self._token or "")))
        except SessionNotFound:
            self._session = None
            raise self._refused(self._sign_in_first(redirect=True)) from None

    def _continue_with(self, issued: IssuedSession) -> IssuedSession:
        self._session, self._token, self._issued, self._clears = issued.session, issued.token, issued, False
        return issued

    def sign_out(self) -> bool:
        """End the session, and clear its credential; False when there was none. By POST only. Blocks."""
        if self.head.method in SAFE_METHODS:
            raise self._refused(refusals.NOT_BY_POST)
        token = self._token
        ended = token is not None and self.guarded(lambda: self.options.manager.sign_out(token))
        self._session, self._issued, self._clears = None, None, token is not None
        if self.options.clear_site_data:
            self._headers.append(("Clear-Site-Data", '"cache", "cookies", "storage"'))
        return ended

    @property
    def must_check(self) -> bool:
        """Whether `finish` asks the store."""
        return self._issued is not None and self._writes(self._issued)

    def _writes(self, issued: IssuedSession) -> bool:
        return any(source.can_write for source in self._sources_of_kind(issued.session.credential_kind))

    def _sources_of_kind(self, kind: str) -> Iterable[CredentialSource]:
        return (source for source in self._sources if source.name == kind)

    def finish(self, present: Iterable[Header]) -> list[Header]:
        """Return the headers to add to an answer that has these. Blocks when `must_check`; never raises."""
        names = {name.lower() for name, _ in present}
        added = [*self._headers, *self._credential_headers()]
        depends = self.was_asked or self._token is not None or self.refusal is not None
        if depends:
            added += [("Vary", field) for field in self._missing_vary(present)]
        private = self._session is not None or self.refusal is not None or any(n == "Set-Cookie" for n, _ in added)
        if private and self.options.cache_control is not None and "cache-control" not in names:
            added.append(("Cache-Control", self.options.cache_control))
        return added

    def _credential_headers(self) -> list[Header]:
        if self._issued is not None and self._is_still_there(self._issued):
            now = self.options.manager.now()
            sources = self._sources_of_kind(self._issued.session.credential_kind)
            return [header for source in sources for header in source.write(self._issued, self.head, now)]
        if self._clears:
            return [header for source in self._sources for header in source.clear(self.head)]
        return []

    def _is_still_there(self, issued: IssuedSession) -> bool:
        """Return whether the token is still good: it may have been signed out while the application worked."""
        if not self._writes(issued):
            return False
        try:
            return self.options.manager.store.find_session(digest_of(issued.token)) is not None
        except StoreError as error:
            self.options.logger.error("get session error=%s", error)  # noqa: TRY400 - the store has logged its own
            return False

    def _missing_vary(self, present: Iterable[Header]) -> list[str]:
        said = {
            field.strip().lower() for name, value in present if name.lower() == "vary" for field in value.split(",")
        }
        if "*" in said:
            return []
        needed = dict.fromkeys(source.vary for source in self.options.sources)
        return [field for field in needed if field.lower() not in said]


_LONGEST_REMEMBERED = 3000
_MOST_PARAMETERS = 100


def _parameter(target: str, name: str) -> str | None:
    query = target.partition("?")[2]
    try:
        return dict(parse_qsl(query, max_num_fields=_MOST_PARAMETERS)).get(name)
    except ValueError:
        return None
