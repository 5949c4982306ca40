"""Django: a middleware for synchronous and asynchronous servers, configured in the project's settings.

```python
MIDDLEWARE = ["lastseen.web.django.ActivityMiddleware", ...]   # first, so that it sees every request
LASTSEEN = {"DATABASE": "postgresql://…"}
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as django_settings
from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty
from django.utils.module_loading import import_string

from lastseen.activity.identify import DEFAULT_SOURCE, authenticated
from lastseen.activity.settings import TrackerSettings
from lastseen.app import LastSeen
from lastseen.errors import ConfigurationError
from lastseen.web.environment import open_for_application, open_from_env
from lastseen.web.exclude import DEFAULT_EXCLUDED
from lastseen.web.facts import DEFAULT_PEEK_LIMIT, RequestTracking
from lastseen.web.wsgi import WSGIFacts, peekable

SETTING = "LASTSEEN"
KEYS = ("DATABASE", "MIGRATE", "TRACKING", "TRACKER", "SOURCE", "EXCLUDE", "SKIP", "PEEK_LIMIT")


class ActivityMiddleware:
    """Records the client of every request; requests and answers stay exactly as they are.

    The setting `LASTSEEN` is a dictionary; every key may be left out, another one raises `ConfigurationError`:

    - `DATABASE`: what `lastseen.stores.open_store` takes, or `"django"`, or `"django:alias"` for the connection of
      Django's own that `DATABASES` names. Left out, the environment says it (`LASTSEEN_DATABASE_URL`).
    - `MIGRATE`: True creates the tables at start; otherwise `lastseen migrate` does.
    - `TRACKING`: the fields of `TrackerSettings`.
    - `TRACKER`: instead of these three, a tracker of your own, or its dotted path.
    - `SOURCE`, `SKIP`: a source and a predicate, or their dotted paths; `EXCLUDE`: patterns of paths;
      `PEEK_LIMIT`: bytes. See `TrackingOptions`.

    A JSON body within the peek limit and `DATA_UPLOAD_MAX_MEMORY_SIZE` is read before the view, which can still read or
    stream all of it. The principal is the logged in user's primary key; it is looked at after the view, and never
    fetched for a request that has no session cookie and that nobody else logged in.

    A subclass may override `make_tracking` to be configured another way.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.tracking = self.make_tracking()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def make_tracking(self) -> RequestTracking:
        """Return the tracking that the setting describes."""
        options = _options()
        return RequestTracking(
            _tracker(options),
            source=_imported(options.get("SOURCE", DEFAULT_SOURCE)),
            exclude=options.get("EXCLUDE", DEFAULT_EXCLUDED),
            skip=_imported(options.get("SKIP")),
            peek_limit=options.get("PEEK_LIMIT", DEFAULT_PEEK_LIMIT),
        )

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request, or return what awaits the answer."""
        if iscoroutinefunction(self):
            return self._answer_async(request)
        facts = self._begin(request)
        response: HttpResponseBase | None = None
        try:
            response = self.get_response(request)
            return response
        finally:
            if facts is not None:
                self._finish(facts, response)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        facts = self._begin(request)
        response: HttpResponseBase | None = None
        try:
            response = await self.get_response(request)
            return response
        finally:
            if facts is not None:
                if self.tracking.reads_principal:
                    await self._fetch_user(facts)
                self._finish(facts, response)

    def _begin(self, request: HttpRequest) -> DjangoFacts | None:
        """Record at once what can be; return what is known of a request that must be watched for the rest."""
        tracking = self.tracking
        try:
            facts = DjangoFacts(request, tracking.now())
            if tracking.excludes(facts.path):
                return None
            if tracking.reads_body and peekable(request.META, _body_limit(tracking)):
                facts.peek()
            elif not tracking.reads_principal:
                tracking.record(facts)
                return None
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            tracking.tell(error)
            return None
        return facts

    async def _fetch_user(self, facts: DjangoFacts) -> None:
        """Ask for the user where waiting is possible; a source is a plain function and cannot."""
        try:
            request = facts.request
            facts.user = await request.auser() if _user_must_be_fetched(request) else _known_user(request)
        except Exception as error:  # noqa: BLE001 - a request never fails for its tracking
            facts.user = None
            self.tracking.tell(error)

    def _finish(self, facts: DjangoFacts, response: HttpResponseBase | None) -> None:
        facts.refused = response is not None and response.status_code == 401  # noqa: PLR2004 - 401 Unauthorized
        if facts.body is None and self.tracking.reads_body:
            # Of unknown length, and perhaps read by the view.
            facts.body = facts.read_by_the_view(self.tracking.peek_limit)
        self.tracking.record(facts)


_NOT_ASKED = object()


class DjangoFacts(WSGIFacts):
    """See `RequestFacts`; `META` is an environ, also under ASGI."""

    __slots__ = ("request", "user")

    def __init__(self, request: HttpRequest, arrived_at: float) -> None:
        super().__init__(request.META, arrived_at)
        self.request = request
        self.user: Any = _NOT_ASKED
        self.path = request.path_info

    @property
    def native(self) -> Any:
        """Return the `HttpRequest`."""
        return self.request

    @property
    def query_string(self) -> bytes:
        """See `RequestFacts`; Django decodes it as UTF-8 under ASGI and leaves it Latin-1 under WSGI."""
        text = str(self.environ.get("QUERY_STRING", ""))
        return text.encode("utf-8" if hasattr(self.request, "scope") else "latin-1", "replace")

    @property
    def principal(self) -> Any:
        """Return the logged in user; looked up at most once, and only when asked for."""
        if self.refused:
            return None
        if self.user is _NOT_ASKED:
            request = self.request
            self.user = request.user if _user_must_be_fetched(request) else _known_user(request)
        return authenticated(self.user)

    def peek(self) -> None:
        """Read the body now when its length is known; Django keeps it for the view."""
        if self.environ.get("CONTENT_LENGTH"):
            self.body = self.request.body

    def read_by_the_view(self, limit: int) -> bytes | None:
        """Return the body that the view has read as a whole, when it is one to look at."""
        body: bytes | None = getattr(self.request, "_body", None)
        return body if body is not None and len(body) <= limit and peekable(self.environ, limit) else None


def _user_must_be_fetched(request: HttpRequest) -> bool:
    """Return whether the user is unknown so far and the request has a session that may name one."""
    user = getattr(request, "user", None)
    if not (isinstance(user, LazyObject) and user._wrapped is empty):
        return False
    return not hasattr(request, "_acached_user") and django_settings.SESSION_COOKIE_NAME in request.COOKIES


def _known_user(request: HttpRequest) -> Any:
    """Return the user that the application has looked up or set, or None."""
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user._wrapped is empty:
        return getattr(request, "_acached_user", None)
    return user


def _body_limit(tracking: RequestTracking) -> int:
    """Return the largest body to read: beyond Django's own limit, reading is an error."""
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return tracking.peek_limit if limit is None else min(tracking.peek_limit, limit)


# One database a process


_lock = threading.RLock()
_opened: dict[str, Any] = {}


def lastseen() -> LastSeen:
    """Return what `DATABASE` names, opened once in a process: `lastseen().clients.active()` in any view.

    Raises `ConfigurationError` for a wrong setting. A database that is missing or unreachable is logged, see
    `open_for_application`.
    """
    with _lock:
        if "seen" not in _opened:
            _opened["seen"] = _open(_options())
        return _opened["seen"]  # type: ignore[no-any-return]


def _tracker(options: Mapping[str, Any]) -> Any:
    given = _imported(options.get("TRACKER"))
    if given is None:
        return lastseen().clients
    return given.clients if isinstance(given, LastSeen) else given


def _open(options: Mapping[str, Any]) -> LastSeen:
    migrate = bool(options.get("MIGRATE", False))
    if "DATABASE" not in options:
        return open_from_env(migrate=migrate)
    tracking = TrackerSettings(**options.get("TRACKING", {}))
    return open_for_application(_source(options["DATABASE"]), migrate=migrate, tracking=tracking)


def _source(database: Any) -> Any:
    if isinstance(database, str) and database.partition(":")[0] == "django":
        return connections[database.partition(":")[2] or "default"]
    return database


def _options() -> Mapping[str, Any]:
    options: Mapping[str, Any] = getattr(django_settings, SETTING, {})
    for key in options:
        if key not in KEYS:
            raise ConfigurationError(f"unknown key {key!r} in the setting {SETTING}; there are: {', '.join(KEYS)}")
    return options


def _imported(given: Any) -> Any:
    """Return what a dotted path names, or what was given instead."""
    return import_string(given) if isinstance(given, str) else given
