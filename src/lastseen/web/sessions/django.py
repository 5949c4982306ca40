"""Login sessions for Django, with its user model, on synchronous and asynchronous servers.

```python
MIDDLEWARE = [..., "django.contrib.auth.middleware.AuthenticationMiddleware",
              "lastseen.web.sessions.django.LoginSessionMiddleware"]
LASTSEEN_SESSIONS = "project.sessions.web_sessions"     # a WebSessions, or its dotted path
```

`request.session` stays Django's own; what is here is `request.login_session`, a `RequestSession`. Who has signed in
through either of the two is `request.user`, so that an existing application moves over as people sign in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from http.cookies import Morsel
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model, logout
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import rotate_token
from django.utils.cache import patch_vary_headers
from django.utils.functional import SimpleLazyObject
from django.utils.module_loading import import_string

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import RequestHead
from lastseen.sessions.session import IssuedSession, Session
from lastseen.web.sessions.gate import Gate
from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused
from lastseen.web.sessions.request import RequestSession
from lastseen.web.sessions.wsgi import head_of as head_of_environ

SETTING = "LASTSEEN_SESSIONS"
REQUIRE = "LASTSEEN_SESSIONS_REQUIRE"
PUBLIC = "LASTSEEN_SESSIONS_PUBLIC"
PROVIDER = "django|"
ATTRIBUTE = "login_session"


class LoginSessionMiddleware:
    """Authenticates every request that carries a credential; see `WebSessions` for what it does beside.

    With the setting `LASTSEEN_SESSIONS_REQUIRE`, every path but the login page and those of `LASTSEEN_SESSIONS_PUBLIC`
    needs a session. A subclass may override `make_gate` to be configured another way.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._gate = self.make_gate()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def make_gate(self) -> Gate:
        """Return the gate that the settings describe."""
        sessions = getattr(django_settings, SETTING, None)
        sessions = import_string(sessions) if isinstance(sessions, str) else sessions
        if not isinstance(sessions, WebSessions):
            raise ConfigurationError(f"the setting {SETTING} must be a WebSessions or its dotted path")
        public: Iterable[str] = getattr(django_settings, PUBLIC, ())
        return Gate(sessions, require=bool(getattr(django_settings, REQUIRE, False)), public=public)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request, or return what awaits the answer."""
        if iscoroutinefunction(self):
            return self._answer_async(request)
        is_outermost = not hasattr(request, ATTRIBUTE)
        found = self._begin(request)
        response = _refusal(found) or self.get_response(request)
        return _finish(found, response) if is_outermost else response

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        is_outermost = not hasattr(request, ATTRIBUTE)
        # In Django's own thread, so that a store on Django's connection meets the one that belongs to the request.
        found: RequestSession = await sync_to_async(self._begin)(request)
        response = _refusal(found) or await self.get_response(request)
        if is_outermost and found.must_check:
            return await sync_to_async(_finish)(found, response)
        return _finish(found, response) if is_outermost else response

    def _begin(self, request: HttpRequest) -> RequestSession:
        if not hasattr(request, ATTRIBUTE):
            setattr(request, ATTRIBUTE, RequestSession.begin(self._gate.options, head_of(request)))
            _attach_user(request)
        found = request_session(request)
        self._gate.check(found)
        return found

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a refusal."""
        if not isinstance(exception, RequestRefused):
            return None
        return _response(exception.refusal, request_session(request).head)


def head_of(request: HttpRequest) -> RequestHead:
    """Return what sessions need to know of a request; `META` is an environ, also under ASGI."""
    meta = {**request.META, "wsgi.url_scheme": request.scheme, "REQUEST_METHOD": request.method or "GET"}
    return head_of_environ({**meta, "PATH_INFO": _native(request.path_info)})


def _native(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _attach_user(request: HttpRequest) -> None:
    found = request_session(request)
    if hasattr(request, "user") and not found.is_signed_in:
        # Whoever is logged in through Django's own session.
        return

    async def auser() -> Any:
        return await sync_to_async(_user_of)(found)

    request.user = SimpleLazyObject(lambda: _user_of(found))
    request.auser = auser


def _user_of(found: RequestSession) -> Any:
    """Return Django's user of the session; nobody when that user is gone or not active any more."""
    session = found.session
    known = None if session is None else found.options.manager.store.get_user(session.user_id)
    if known is None or not known.provider_id.startswith(PROVIDER):
        return AnonymousUser()
    user = get_user_model()._default_manager.filter(pk=known.provider_id.removeprefix(PROVIDER)).first()
    return user if user is not None and user.is_active else AnonymousUser()


def _refusal(found: RequestSession) -> HttpResponse | None:
    return None if found.refusal is None else _response(found.refusal, found.head)


def _response(refusal: Refusal, head: RequestHead) -> HttpResponse:
    headers, body = refusal.answer(head)
    response = HttpResponse(body, status=refusal.status)
    for name, value in headers:
        response[name] = value
    return response


def _finish(found: RequestSession, response: HttpResponseBase) -> HttpResponseBase:
    for name, value in found.finish(list(response.items())):
        if name == "Vary":
            patch_vary_headers(response, [value])
        elif name == "Set-Cookie":
            morsel = _WrittenCookie(value)
            response.cookies[morsel.key] = morsel
        else:
            response[name] = value
    return response


class _WrittenCookie(Morsel[str]):
    """A cookie that goes out exactly as it was written: Django builds the headers of its cookies last of all."""

    def __init__(self, header: str) -> None:
        super().__init__()
        name, _, rest = header.partition("=")
        value = rest.partition(";")[0]
        self.set(name, value, value)
        self._header = header

    def OutputString(self, attrs: Any = None) -> str:  # noqa: ARG002, N802 - the base class's
        """Return the header."""
        return self._header


def request_session(request: HttpRequest) -> RequestSession:
    """Return everything that is known of the request's session; `ConfigurationError` without the middleware."""
    found = getattr(request, ATTRIBUTE, None)
    if found is None:
        raise ConfigurationError("LoginSessionMiddleware is not among Django's middleware")
    return found  # type: ignore[no-any-return]


def current_session(request: HttpRequest) -> Session | None:
    """Return the valid session of the request, or None."""
    return request_session(request).session


def require_session(request: HttpRequest, *, redirect: bool = True) -> Session:
    """Return the session, or end the request: browsers go to the login page, others get 401."""
    return request_session(request).require(redirect=redirect)


def require_recent(request: HttpRequest, max_age: timedelta) -> Session:
    """Return the session of a user who proved who they are within the span, or end the request with 403."""
    return request_session(request).require_recent(max_age)


def session_user_id(request: HttpRequest, user: Any) -> str:
    """Return the id under which sessions know a user of Django's: for `sessions_of`, `revoke` and `revoke_all`."""
    manager = request_session(request).options.manager
    return manager.store.upsert_user(f"{PROVIDER}{user.pk}", manager.now())


def sign_in(
    request: HttpRequest, user: Any, *, credential: str | None = None, device: str | None = None, label: str = ""
) -> IssuedSession:
    """Make a session for a user of Django's who has just proved who they are, and hand it out with the answer.

    Use it where `django.contrib.auth.login` was; the signal `user_logged_in` is sent. See `RequestSession.sign_in`.
    """
    found = request_session(request)
    user_id = found.guarded(lambda: session_user_id(request, user))
    issued = found.sign_in(user_id, credential=credential, device=device, label=label)
    request.user = user
    rotate_token(request)
    user_logged_in.send(sender=user.__class__, request=request, user=user)
    return issued


def rotate(request: HttpRequest) -> IssuedSession:
    """Give the session a new token, after a change of privilege."""
    return request_session(request).rotate()


def reauthenticate(request: HttpRequest) -> IssuedSession:
    """Note that the user has just proved again who they are."""
    return request_session(request).reauthenticate()


def sign_out(request: HttpRequest) -> bool:
    """End the session and clear its credential; by POST only. A login in Django's own session ends too."""
    ended = request_session(request).sign_out()
    if hasattr(request, "session"):
        logout(request)
    else:
        user = request.user if request.user.is_authenticated else None
        user_logged_out.send(sender=user.__class__, request=request, user=user)
        request.user = AnonymousUser()
    return ended


def return_target(request: HttpRequest, given: str | None = None) -> str:
    """Return where to go after signing in, always a safe place; asked for once, when the user has signed in."""
    return request_session(request).return_target(given)


arequire_recent = sync_to_async(require_recent)
asign_in = sync_to_async(sign_in)
arotate = sync_to_async(rotate)
areauthenticate = sync_to_async(reauthenticate)
asign_out = sync_to_async(sign_out)
