"""Which paths need a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lastseen.web.exclude import excluded_paths
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import RequestRefused
from lastseen.web.sessions.request import RequestSession

KEY = "lastseen.session"
"""Where an adapter keeps the request's session, in the ASGI scope and in the WSGI environ."""


class Gate:
    """Lets a request through to the application, or not.

    With `require` every path but the login page and the `public` ones (patterns as in a shell) needs a session.
    """

    def __init__(self, options: WebSessions, *, require: bool = False, public: Iterable[str] = ()) -> None:
        self.options = options
        self._require = require
        self._is_public: Callable[[str], bool] = excluded_paths(public)

    def check(self, request: RequestSession) -> None:
        """Set the request's refusal when it must not pass."""
        if request.refusal is not None or not self._require or self._is_public(request.head.path):
            return
        if self.options.is_login_page(request.head):
            return
        try:
            request.require()
        except RequestRefused as refused:
            request.refusal = refused.refusal
