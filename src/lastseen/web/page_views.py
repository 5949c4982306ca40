"""Page views counted on the server, without a script in the pages: for ASGI and WSGI applications.

```python
seen = LastSeen.open("sqlite:///lastseen.db", migrate=True)
app = PageViewMiddleware(app, PageViews(seen))              # ASGI
app = WSGIPageViewMiddleware(app, PageViews(seen))          # WSGI
```

A page view is a GET that is answered with success and HTML, and that no browser made ahead of its reader. Requests
never wait: what was seen is put down in memory, and one thread saves it. Visitors are named without a cookie, see
`lastseen.visits.cookieless`; addresses are not kept.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from lastseen.activity.backoff import retry_delay
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import InvalidData, StoreError, missing_extra
from lastseen.forking import reset_in_forked_children
from lastseen.visits.cookieless import CookielessVisitors, Salts, open_visits
from lastseen.visits.event import PAGEVIEW, Event
from lastseen.visits.making import EventMaker, Places, RawEvent, is_prefetch
from lastseen.visits.proxies import TrustedProxies
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.web.asgi_types import ASGIApp, Message, Receive, Scope, Send
from lastseen.web.exclude import DEFAULT_EXCLUDED, excluded_paths

MOST_WAITING = 10_000
_SAVED_AT_ONCE = 1_000
SAVE_INTERVAL = 0.5
CLOSE_DEADLINE = 5.0
_MICROS = 1_000_000


def _import_libraries() -> None:
    """Say at the start what is missing: the thread that saves would meet it only when somebody has come."""
    try:
        # Imported and not only looked for: a library that is there and broken says why.
        import publicsuffixlist  # noqa: F401 - to see whether it is there
        import ua_parser  # noqa: F401 - to see whether it is there
    except ImportError as error:
        words = "page views need their extra: pip install 'lastseen[server]'"
        raise missing_extra(error, words, "publicsuffixlist", "ua_parser") from error


class PageViews:
    """Takes page views without waiting, and saves them from a thread of its own. Any thread may call.

    While the database is away they wait in memory, `MOST_WAITING` at most; what is dropped is counted by its reason:
    `full`, `unreadable` (the request, or where it came from), `refused` (the database refuses it for ever) and
    `unsaved` (at the end).

    `trusted_proxies` are addresses and networks of proxies whose `X-Forwarded-For` says whose request it is; without
    them all visitors behind a proxy have its address. Raises `ConfigurationError` for what is no network, and
    `MissingExtra` without the extra `server`, whose libraries tell devices, robots and domains.
    """

    def __init__(
        self,
        seen: LastSeen,
        *,
        site: str = DEFAULT_SITE_ID,
        exclude: Iterable[str] = DEFAULT_EXCLUDED,
        geography: Places | None = None,
        kept_parameters: frozenset[str] = frozenset(),
        trusted_proxies: Iterable[str] = (),
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
    ) -> None:
        _import_libraries()
        self.proxies = TrustedProxies(trusted_proxies)
        self.excludes = excluded_paths(exclude)
        self.dropped: Counter[str] = Counter()
        self.saved = 0
        self._seen = seen
        self._site_id = site
        self._geography = geography
        self._kept = kept_parameters
        self._clock = clock
        self._logger = logger or logging.getLogger("lastseen")
        self._salts = Salts(seen.store.salts)
        self._begin()
        reset_in_forked_children(self)

    def _begin(self) -> None:
        self._waiting: deque[RawEvent] = deque()
        self._made: list[Event] = []
        self._wake = threading.Event()
        self._closing = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._visitors: CookielessVisitors | None = None
        self._rule = VisitRule()

    def reset_after_fork(self) -> None:
        """Begin anew: what waits is the parent's to save."""
        self._begin()

    def now(self) -> int:
        """Return the moment in microseconds."""
        return int(self._clock.now() * _MICROS)

    def count(self, raw: RawEvent) -> bool:
        """Take one page view; False when it is dropped. Never waits and never raises."""
        if self._closing or len(self._waiting) + len(self._made) >= MOST_WAITING:
            self.dropped["full"] += 1
            return False
        self._waiting.append(raw)
        if self._thread is None:
            self._start()
        return True

    def count_by(self, counting: Callable[[], object]) -> None:
        """Run what counts one request; whatever is wrong with that, the request goes on."""
        try:
            counting()
        except Exception as error:  # noqa: BLE001 - a request never fails for its counting
            self._drop_unreadable(error)

    def _drop_unreadable(self, error: Exception) -> None:
        self.dropped["unreadable"] += 1
        self._logger.debug("a page view could not be counted", exc_info=error)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing:
                thread = threading.Thread(target=self._run, name="lastseen-page-views", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # too many threads, or the interpreter is on its way out: the next one tries again
                    return
                self._thread = thread

    def _run(self) -> None:
        failures = 0
        while not (self._closing and not self._waiting and not self._made):
            try:
                self._save()
                failures = 0
            except Exception as error:  # noqa: BLE001 - the thread goes on; what it could not save waits
                failures += 1
                self._logger.warning("page views could not be saved; they wait: %s", error)
                if self._closing:
                    return
            delay = SAVE_INTERVAL if not failures else retry_delay(failures, random.random)
            if not self._closing:
                self._clock.wait(self._wake, delay)

    def _save(self) -> None:
        if not self._waiting and not self._made:
            return
        site = self._seen.sites.get(self._site_id)
        self._rule = site.rule
        if self._visitors is None:
            is_open = open_visits(self._seen.store.visits, self._rule_of)
            self._visitors = CookielessVisitors(site.id, self._salts, is_open)
        maker = EventMaker(site, visitors=self._visitors, geography=self._geography, kept_parameters=self._kept)
        while self._waiting:
            self._make(maker, self._waiting[0])
            self._waiting.popleft()
        while self._made:
            self._save_batch(self._made[:_SAVED_AT_ONCE])

    def _make(self, maker: EventMaker, raw: RawEvent) -> None:
        try:
            self._made.append(maker.make(raw))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a geography may be anybody's; tried again it would be in the way for ever
            self._drop_unreadable(error)

    def _save_batch(self, batch: list[Event]) -> None:
        try:
            self._seen.store.visits.save(batch, self._rule_of)
        except InvalidData:
            self._save_one_by_one(batch)
        else:
            self.saved += len(batch)
            del self._made[: len(batch)]

    def _save_one_by_one(self, batch: list[Event]) -> None:
        # Each is counted once, also where the database goes away in between and the others wait.
        for event in batch:
            try:
                self._seen.store.visits.save([event], self._rule_of)
                self.saved += 1
            except InvalidData:
                self.dropped["refused"] += 1
            del self._made[0]

    def _rule_of(self, _site_id: str) -> VisitRule:
        return self._rule

    def close(self, deadline: float = CLOSE_DEADLINE) -> int:
        """Save what waits, within so many seconds; return how many page views could not be saved. Safe twice."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(deadline)
        unsaved = len(self._waiting) + len(self._made)
        self.dropped["unsaved"] = unsaved
        return unsaved


def page_view(views: PageViews, url: str, headers: Callable[[str], str | None], address: str | None) -> RawEvent | None:
    """Return what one request says, or None for one that nobody looks at yet."""
    if is_prefetch(headers("sec-purpose") or headers("purpose")):
        return None
    now = views.now()
    forwarded_for = headers("x-forwarded-for")
    return RawEvent(
        name=PAGEVIEW,
        at=now,
        received_at=now,
        id=f"{random.getrandbits(128):032x}",
        url=url,
        referrer=headers("referer"),
        user_agent=headers("user-agent"),
        address=views.proxies.visitor(address, None if forwarded_for is None else forwarded_for.encode("latin-1")),
    )


def quoted(path: str) -> str:
    """Return a path, which servers hand on decoded, as a browser writes it: as the script counts the same page."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="replace")


def is_page(status: int, content_type: str | None) -> bool:
    """Return whether an answer shows a page: success, and HTML."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return 200 <= status < 300 and media_type in ("text/html", "application/xhtml+xml")  # noqa: PLR2004 - HTTP


class PageViewMiddleware:
    """ASGI: counts the page views of `app`, whose requests and answers stay exactly as they are.

    What waits is saved when the server shuts down.
    """

    def __init__(self, app: ASGIApp, views: PageViews) -> None:
        self.app = app
        self._views = views

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        views = self._views
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
            return
        if scope["type"] != "http" or scope["method"] != "GET" or views.excludes(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                views.count_by(lambda: self._look(scope, message))
            await send(message)

        await self.app(scope, receive, watched)

    def _look(self, scope: Scope, start: Message) -> None:
        if is_page(start["status"], _ASGIHeaders(start.get("headers", ()))("content-type")):
            self._count(scope)

    def _count(self, scope: Scope) -> None:
        headers = _ASGIHeaders(scope["headers"])
        client = scope.get("client")
        query = scope.get("query_string", b"").decode("latin-1")
        host = headers("host") or ""
        path = quoted(scope["path"])
        url = f"{scope.get('scheme', 'http')}://{host}{path}" if host else path
        raw = page_view(self._views, f"{url}?{query}" if query else url, headers, client[0] if client else None)
        if raw is not None:
            self._views.count(raw)

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                import asyncio

                await asyncio.to_thread(self._views.close)
            await send(message)

        return closing


class _ASGIHeaders:
    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            self._headers.setdefault(bytes(name).lower(), []).append(bytes(value))

    def __call__(self, name: str) -> str | None:
        values = self._headers.get(name.encode())
        # RFC 9110, 5.3: several are one list.
        return None if values is None else b", ".join(values).decode("latin-1")


class WSGIPageViewMiddleware:
    """WSGI: counts the page views of `app`, whose requests and answers stay exactly as they are.

    Call `close` of its `PageViews` at the end of the process: `atexit.register(views.close)`.
    """

    def __init__(self, app: Callable[..., Any], views: PageViews) -> None:
        self.app = app
        self._views = views

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Serve one request."""
        if environ["REQUEST_METHOD"] != "GET" or self._views.excludes(environ.get("PATH_INFO", "")):
            return self.app(environ, start_response)

        def starting(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            self._views.count_by(lambda: self._look(environ, status, headers))
            return start_response(status, headers, *error)

        return self.app(environ, starting)

    def _look(self, environ: dict[str, Any], status: str, headers: list[tuple[str, str]]) -> None:
        kinds = {name.lower(): value for name, value in headers}
        if is_page(int(status[:3]), kinds.get("content-type")):
            count_wsgi(self._views, environ)


def count_wsgi(views: PageViews, environ: Mapping[str, Any]) -> None:
    """Count the page that the environ of a WSGI request asks for."""
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace")
    host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    query = environ.get("QUERY_STRING")
    url = f"{environ.get('wsgi.url_scheme', 'http')}://{host}{quoted(path)}{f'?{query}' if query else ''}"

    def header(name: str) -> str | None:
        return environ.get(f"HTTP_{name.upper().replace('-', '_')}")

    raw = page_view(views, url, header, environ.get("REMOTE_ADDR"))
    if raw is not None:
        views.count(raw)
