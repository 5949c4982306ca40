"""How a web application uses login sessions: made once, handed to every adapter."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Cookie, RequestHead
from lastseen.sessions.credentials import CookieSource, CredentialSource, sources_of
from lastseen.sessions.csrf import origin_of
from lastseen.sessions.manager import SessionManager
from lastseen.web.exclude import excluded_paths


class WebSessions:
    """The manager, the credentials, and the options of every middleware and helper.

    - `credentials`: a `CookieSource` unless told otherwise. Sources with a policy of their own need a manager that
      knows it: `SessionManager(store, policies=policies_of(credentials))`; `ConfigurationError` otherwise.
    - `refresh`: requests extend their session as its policy says; without it they only read.
    - `login_url`: browsers without a session are sent there, with the way back in the parameter and in the short-lived
      cookie that are both called `next` unless `next_parameter` and `next_cookie` say otherwise.
    - `origin`: this site's own, `https://example.com`; needed behind a proxy that hides scheme or host.
    - `trusted_origins` may send requests with the session's cookie; `redirect_origins` may be redirected to.
    - `csrf_exempt`: patterns of paths where a request from another site goes on, without its session, instead of 403.
    - `cache_control`: what answers that carry or depend on a session get when the application says nothing; None for
      no header.
    - `clear_site_data`: signing out makes the browser drop what this site stored there.
    """

    def __init__(
        self,
        manager: SessionManager,
        *,
        credentials: CredentialSource | None = None,
        refresh: bool = True,
        login_url: str | None = None,
        next_parameter: str = "next",
        next_cookie: str = "next",
        origin: str | None = None,
        trusted_origins: Collection[str] = (),
        redirect_origins: Collection[str] = (),
        csrf_exempt: Iterable[str] = (),
        cache_control: str | None = "no-store",
        clear_site_data: bool = False,
        logger: logging.Logger | None = None,
    ) -> None:
        self.manager = manager
        self.credentials = credentials or CookieSource()
        self.sources = sources_of(self.credentials)
        for source in self.sources:
            if source.policy is not None and manager.policy_of(source.name) != source.policy:
                raise ConfigurationError("hand the deadlines to the manager too: policies=policies_of(credentials)")
        self.refresh = refresh
        self.login_url = login_url
        self.next_parameter = next_parameter
        self.next_cookie = self._next_cookie(next_cookie)
        self.trusted_origins = _origins("trusted_origins", trusted_origins)
        self.redirect_origins = _origins("redirect_origins", redirect_origins)
        self.is_csrf_exempt = excluded_paths(csrf_exempt)
        self.cache_control = cache_control
        self.clear_site_data = clear_site_data
        self.logger = logger or logging.getLogger("lastseen")
        self._origin = None if origin is None else next(iter(_origins("origin", (origin,))))
        self._login_path = None if login_url is None else unquote(urlsplit(login_url).path)

    def _next_cookie(self, name: str) -> Cookie:
        for source in self.sources:
            if isinstance(source, CookieSource):
                return replace(source.cookie, name=name, same_site="lax")
        return Cookie(name=name)

    def origin_of(self, request: RequestHead) -> str:
        """Return this site's own origin: the one that was configured, or where the request was sent to."""
        return self._origin or origin_of(request.scheme, request.host)

    def is_login_page(self, request: RequestHead) -> bool:
        """Return whether this is the page that browsers are sent to: by its address, wherever this is mounted."""
        return self._login_path is not None and unquote(request.target.partition("?")[0]) == self._login_path

    def login_location(self, target: str) -> str:
        """Return the address of the login page, with the way back."""
        assert self.login_url is not None  # noqa: S101 - only asked for with a login page
        separator = "&" if "?" in self.login_url else "?"
        return f"{self.login_url}{separator}{quote(self.next_parameter)}={quote(target, safe='/')}"


def _origins(option: str, origins: Collection[str]) -> frozenset[str]:
    if isinstance(origins, str):
        raise ConfigurationError(f"{option} must be a list of origins, not one text")
    found = set()
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ConfigurationError(f"{option}: {origin!r} is no origin; write https://example.com")
        found.add(origin_of(parts.scheme, parts.netloc))
    return frozenset(found)
