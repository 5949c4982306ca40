"""Login sessions for WSGI: Flask and any other (PEP 3333).

`request` is the framework's own request, or the environ. A refusal is an exception, `RequestRefused`, that the
middleware answers; a framework that answers every exception itself is told to use `answer`:

```python
app.register_error_handler(RequestRefused, answer)   # Flask
```
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Header, RequestHead
from lastseen.sessions.session import IssuedSession, Session
from lastseen.web.sessions.gate import KEY, Gate
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused
from lastseen.web.sessions.request import RequestSession
from lastseen.web.wsgi import Environ, StartResponse, WSGIApp, native_text


class SessionMiddleware:
    """Authenticates every request that carries a credential; see `WebSessions` for what it does beside.

    With `require`, every path but the login page and the `public` ones needs a session. Within another one, it does not
    authenticate again, but may require.
    """

    def __init__(
        self, app: WSGIApp, sessions: WebSessions, *, require: bool = False, public: Iterable[str] = ()
    ) -> None:
        self.app = app
        self._gate = Gate(sessions, require=require, public=public)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        is_outermost = KEY not in environ
        if is_outermost:
            environ[KEY] = RequestSession.begin(self._gate.options, head_of(environ))
        request: RequestSession = environ[KEY]
        self._gate.check(request)
        start = _finishing(request, start_response) if is_outermost else start_response
        if request.refusal is not None:
            return _refuse(request, request.refusal, start)
        try:
            body = self.app(environ, start)
        except RequestRefused as refused:
            return _refuse(request, refused.refusal, start)
        # An application that is a generator itself begins only when it is asked for its first piece.
        return _answered(request, body, start) if isinstance(body, Generator) else body


def head_of(environ: Environ) -> RequestHead:
    """Return what sessions need to know of a request."""
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    native_path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query: str = environ.get("QUERY_STRING", "")
    target = quote(native_path.encode("latin-1"))
    return RequestHead(
        method=environ["REQUEST_METHOD"],
        scheme=environ["wsgi.url_scheme"],
        host=headers.get("host", ""),
        path=native_text(environ.get("PATH_INFO", "")),
        target=f"{target}?{query}" if query else target,
        headers=headers,
        address=environ.get("REMOTE_ADDR", ""),
    )


def _finishing(request: RequestSession, start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[Header], *exc_info: Any) -> Any:
        return start_response(status, [*headers, *request.finish(headers)], *exc_info)

    return start


def _answered(request: RequestSession, body: Iterable[bytes], start: StartResponse) -> Iterator[bytes]:
    try:
        yield from body
    except RequestRefused as refused:
        yield from _refuse(request, refused.refusal, start)


def _refuse(request: RequestSession, refusal: Refusal, start_response: StartResponse) -> Iterable[bytes]:
    headers, body = refusal.answer(request.head)
    start_response(f"{refusal.status.value} {refusal.status.phrase}", list(headers))
    return [] if request.head.method == "HEAD" else [body]


def answer(refused: RequestRefused) -> WSGIApp:
    """Return the answer to a refusal, as an application: what Flask takes from an error handler."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return _refuse(environ[KEY], refused.refusal, start_response)

    return app


def request_session(request: Any) -> RequestSession:
    """Return everything that is known of the request's session; `ConfigurationError` without the middleware."""
    environ = request if isinstance(request, dict) else request.environ
    found = environ.get(KEY)
    if found is None:
        raise ConfigurationError("SessionMiddleware is not installed around this application")
    return found  # type: ignore[no-any-return]


def current_session(request: Any) -> Session | None:
    """Return the valid session of the request, or None."""
    return request_session(request).session


def require_session(request: Any, *, redirect: bool = True) -> Session:
    """Return the session, or end the request: browsers go to the login page, others get 401."""
    return request_session(request).require(redirect=redirect)


def require_recent(request: Any, max_age: timedelta) -> Session:
    """Return the session of a user who proved who they are within the span, or end the request with 403."""
    return request_session(request).require_recent(max_age)


def sign_in(
    request: Any, user_id: str, *, credential: str | None = None, device: str | None = None, label: str = ""
) -> IssuedSession:
    """Make a session for a user who has just proved who they are, and hand it out with the answer.

    See `RequestSession.sign_in`.
    """
    return request_session(request).sign_in(user_id, credential=credential, device=device, label=label)


def rotate(request: Any) -> IssuedSession:
    """Give the session a new token, after a change of privilege."""
    return request_session(request).rotate()


def reauthenticate(request: Any) -> IssuedSession:
    """Note that the user has just proved again who they are."""
    return request_session(request).reauthenticate()


def sign_out(request: Any) -> bool:
    """End the session and clear its credential; by POST only."""
    return request_session(request).sign_out()


def return_target(request: Any, given: str | None = None) -> str:
    """Return where to go after signing in, always a safe place; asked for once, when the user has signed in."""
    return request_session(request).return_target(given)
