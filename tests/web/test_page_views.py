"""Page views counted on the server, without any script."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route

from lastseen import LastSeen
from lastseen.clock import SystemClock
from lastseen.errors import ConfigurationError, InvalidData, StoreUnavailable
from lastseen.testing import ManualClock, moment
from lastseen.visits.event import Event
from lastseen.visits.store import EventQuery, VisitQuery
from lastseen.web.page_views import (
    MOST_WAITING,
    PageViewMiddleware,
    PageViews,
    WSGIPageViewMiddleware,
    _ASGIHeaders,
    page_view,
)
from tests.server.running import eventually

FIREFOX = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[LastSeen]:
    """Open a new SQLite file."""
    with LastSeen.open(f"sqlite:///{tmp_path}/lastseen.db", migrate=True) as opened:
        yield opened


@pytest.fixture
def views(seen: LastSeen) -> Iterator[PageViews]:
    """Count on the site `default`."""
    counted = PageViews(seen)
    yield counted
    counted.close()


def application() -> Starlette:
    async def page(request: Any) -> HTMLResponse:
        return HTMLResponse("<p>hello</p>", status_code=int(request.query_params.get("status", "200")))

    async def data(request: Any) -> JSONResponse:
        return JSONResponse({})

    async def health(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    routes = [Route("/", page, methods=["GET", "POST"]), Route("/a", page), Route("/data", data)]
    return Starlette(routes=[*routes, Route("/healthz", health)])


def ask(views: PageViews, *requests: tuple[str, str, dict[str, str]]) -> list[str]:
    async def run() -> list[str]:
        transport = httpx.ASGITransport(app=PageViewMiddleware(application(), views), client=("198.51.100.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://www.example.org", headers=FIREFOX) as client:
            return [(await client.request(method, path, headers=more)).text for method, path, more in requests]

    return asyncio.run(run())


def events(seen: LastSeen) -> list[Event]:
    return sorted(seen.store.visits.list_events(EventQuery(site_id="default")), key=lambda event: event.at)


def test_pages_make_visits(seen: LastSeen, views: PageViews) -> None:
    """Two pages by one browser are one visit, with where it came from; neither answer nor address are touched."""
    answers = ask(
        views,
        ("GET", "/?utm_source=mail&utm_medium=email&q=1", {"referer": "https://news.example.net/x?y"}),
        ("GET", "/a", {"referer": "http://www.example.org/"}),
    )
    assert answers == ["<p>hello</p>"] * 2
    assert views.close() == 0
    (visit,) = seen.store.visits.list_visits(VisitQuery(site_id="default"))
    assert (visit.page_views, visit.channel, visit.referrer_domain) == (2, "Email", "example.net")
    assert visit.entry_url == "http://www.example.org/?utm_source=mail&utm_medium=email"
    assert visit.device is not None
    assert visit.device.browser == "Firefox"
    assert "198.51.100.7" not in repr(events(seen))
    assert (views.saved, dict(views.dropped)) == (2, {"unsaved": 0})


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/", {}),
        ("HEAD", "/", {}),
        ("GET", "/?status=404", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/data", {}),
        ("GET", "/healthz", {}),
        ("GET", "/", {"sec-purpose": "prefetch;prerender"}),
    ],
)
def test_what_is_no_page_view(
    seen: LastSeen, views: PageViews, method: str, path: str, headers: dict[str, str]
) -> None:
    """Another method, an error, data, a probe, and what a browser fetches ahead of its reader."""
    ask(views, (method, path, headers))
    views.close()
    assert events(seen) == []


def test_two_people_and_a_robot(seen: LastSeen, views: PageViews) -> None:
    """Other user agents are other visitors; a robot is marked."""
    ask(views, ("GET", "/", {}), ("GET", "/", {"user-agent": "Other/1"}), ("GET", "/", {"user-agent": "Googlebot/2.1"}))
    views.close()
    visits = seen.store.visits.list_visits(VisitQuery(site_id="default"))
    assert sorted(visit.is_bot for visit in visits) == [False, False, True]


def wsgi_get(app: Callable[..., Any], path: str, **environ: str) -> bytes:
    answer: list[str] = []
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_HOST": "example.org", "wsgi.url_scheme": "https"}
    body = b"".join(app({**request, **environ}, lambda status, headers, *error: answer.append(status)))
    assert answer == ["200 OK"]
    return body


def test_wsgi(seen: LastSeen, views: PageViews) -> None:
    """The same for a WSGI application, whose addresses may hold any letters."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [b"hello"]

    counted = WSGIPageViewMiddleware(app, views)
    assert wsgi_get(counted, "/ü".encode().decode("latin-1"), QUERY_STRING="utm_source=x&s=1") == b"hello"
    wsgi_get(counted, "/metrics")
    wsgi_get(counted, "/", HTTP_SEC_PURPOSE="prefetch")
    views.close()
    assert [event.url for event in events(seen)] == ["https://example.org/%C3%BC?utm_source=x"]


FORWARDED: list[list[tuple[str, str]]] = [
    [("x-forwarded-for", "203.0.113.1")],
    [("x-forwarded-for", "203.0.113.2")],
    [("x-forwarded-for", "6.6.6.6, 203.0.113.2")],
    [("x-forwarded-for", "203.0.113.2"), ("x-forwarded-for", "198.51.100.8")],
]
"""Two people behind a proxy, or two of them; what a client makes up in front of that does not count."""


def visitors(seen: LastSeen) -> int:
    return len({event.distinct_id for event in events(seen)})


@pytest.mark.parametrize(("trusted", "people"), [(["198.51.100.0/24"], 2), ([], 1), (["192.0.2.1"], 1)])
def test_visitors_behind_a_trusted_proxy_are_told_apart(seen: LastSeen, trusted: list[str], people: int) -> None:
    """By what it says whom it speaks for; whoever is not trusted says nothing."""
    views = PageViews(seen, trusted_proxies=trusted)

    async def run() -> None:
        transport = httpx.ASGITransport(app=PageViewMiddleware(application(), views), client=("198.51.100.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://www.example.org", headers=FIREFOX) as client:
            for fields in FORWARDED:
                assert (await client.get("/", headers=fields)).status_code == 200

    asyncio.run(run())
    assert views.close() == 0
    assert visitors(seen) == people


@pytest.mark.parametrize(("trusted", "people"), [(["198.51.100.0/24"], 2), ([], 1)])
def test_wsgi_behind_a_trusted_proxy(seen: LastSeen, trusted: list[str], people: int) -> None:
    """The same; servers of WSGI join what comes several times."""
    views = PageViews(seen, trusted_proxies=trusted)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"hello"]

    counted = WSGIPageViewMiddleware(app, views)
    for fields in FORWARDED:
        said = ",".join(value for _, value in fields)
        wsgi_get(counted, "/", REMOTE_ADDR="198.51.100.7", HTTP_X_FORWARDED_FOR=said)
    assert views.close() == 0
    assert visitors(seen) == people


def test_a_proxy_that_is_no_network_is_refused(seen: LastSeen) -> None:
    """With the name of the option."""
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        PageViews(seen, trusted_proxies=["the proxy"])


def test_a_request_survives_its_counting(seen: LastSeen, views: PageViews) -> None:
    """What cannot be read is dropped and counted; the answer is there all the same."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"hello"]

    assert wsgi_get(WSGIPageViewMiddleware(app, views), "/\u2028") == b"hello"
    assert views.dropped["unreadable"] == 1


def test_an_answer_without_a_number_goes_out_all_the_same(seen: LastSeen, views: PageViews) -> None:
    """What becomes of an answer that is against the rules is the server's to say, not its counting's."""
    statuses: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("OK", [("Content-Type", "text/html")])
        return [b"hello"]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    answer = WSGIPageViewMiddleware(app, views)(environ, lambda status, _headers: statuses.append(status))
    assert (list(answer), statuses) == ([b"hello"], ["OK"])
    assert views.dropped["unreadable"] == 1


def test_memory_is_bounded(seen: LastSeen) -> None:
    """While the database is away page views wait, so many at most; the rest is counted, and what waits is saved."""
    away = True

    class Away:
        def __getattr__(self, name: str) -> Any:
            if away:
                raise StoreUnavailable("away")
            return getattr(store, name)

    store, seen.store.salts = seen.store.salts, Away()  # type: ignore[misc]
    views = PageViews(seen)
    raw = page_view(views, "/", lambda _name: None, "198.51.100.7")
    assert raw is not None
    taken = sum(views.count(raw) for _ in range(MOST_WAITING + 500))
    assert taken == MOST_WAITING
    assert views.dropped["full"] == 500
    away = False
    assert views.close(60) == 0
    # They all have the same id: the same event.
    assert len(events(seen)) == 1


def test_memory_is_bounded_while_the_disk_is_full(seen: LastSeen) -> None:
    """Then the database can be read and nothing saved: what is ready to be saved counts too."""
    is_full = True

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def save(self, *arguments: Any) -> Any:
            if is_full:
                raise StoreUnavailable("the disk is full")
            return store.save(*arguments)

    store, seen.store.visits = seen.store.visits, Full()  # type: ignore[misc]
    views = PageViews(seen)
    raw = page_view(views, "/", lambda _name: None, "198.51.100.7")
    assert raw is not None
    assert all(views.count(raw) for _ in range(MOST_WAITING))
    eventually(lambda: len(views._made) == MOST_WAITING, "all are ready to be saved")
    assert not views.count(raw)
    assert views.dropped["full"] == 1
    is_full = False
    assert views.close(60) == 0


def test_what_is_refused_is_counted_once_whatever_comes_between(seen: LastSeen) -> None:
    """The database goes away while a batch with a bad page view is saved one by one."""
    calls = 0

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def save(self, made: Any, rules: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise StoreUnavailable("away")
            if any("bad" in event.url for event in made):
                raise InvalidData("refused for ever")
            return store.save(made, rules)

    store, seen.store.visits = seen.store.visits, Refusing()  # type: ignore[misc]
    views = PageViews(seen)
    for path in ("/a", "/bad", "/b"):
        raw = page_view(views, path, lambda _name: None, "198.51.100.7")
        assert raw is not None
        views._waiting.append(raw)
    raw = page_view(views, "/c", lambda _name: None, "198.51.100.7")
    assert raw is not None
    assert views.count(raw)
    eventually(lambda: views.saved == 3, "all but one are saved")
    assert views.close(60) == 0
    assert (views.saved, views.dropped["refused"], len(events(seen))) == (3, 1, 3)


def test_one_page_view_that_cannot_be_made_is_in_nobodys_way(seen: LastSeen) -> None:
    """A geography that fails at one visitor's address costs that page view, not all that come after it."""

    class Places:
        def locate(self, address: str) -> None:
            if address == "2001:db8::1":
                raise ValueError("this database knows IPv4 only")

    views = PageViews(seen, geography=Places())
    for address in ("198.51.100.7", "2001:db8::1", "198.51.100.8"):
        raw = page_view(views, "/", lambda _name: None, address)
        assert raw is not None
        assert views.count(raw)
    assert views.close(60) == 0
    assert (views.saved, views.dropped["unreadable"], len(events(seen))) == (2, 1, 2)


def test_what_waited_long_is_saved_in_batches(seen: LastSeen) -> None:
    """After an outage no transaction is so large that it could never be done in time; what is done is done."""
    sizes: list[int] = []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def save(self, made: Any, rules: Any) -> Any:
            if len(made) > 2_000:
                raise StoreUnavailable("no answer within 5 s")
            sizes.append(len(made))
            return store.save(made, rules)

    store, seen.store.visits = seen.store.visits, Slow()  # type: ignore[misc]
    views = PageViews(seen)
    raw = page_view(views, "/", lambda _name: None, "198.51.100.7")
    assert raw is not None
    views._waiting.extend([raw] * 2_499)
    assert views.count(raw)
    assert views.close(60) == 0
    assert (views.saved, sum(sizes)) == (2_500, 2_500)


def test_a_rule_that_changes_counts_at_midnight_too(seen: LastSeen) -> None:
    """Whether yesterday's visit goes on is asked of the rule as it is now, not as it was at the first page view."""
    manual = ManualClock(moment(hours=11, minutes=40).timestamp())

    class Clock(SystemClock):
        now = staticmethod(manual.now)

    views = PageViews(seen, clock=Clock())

    def look(path: str) -> None:
        before = views.saved
        raw = page_view(views, path, lambda _name: None, "198.51.100.7")
        assert raw is not None
        assert views.count(raw)
        eventually(lambda: views.saved == before + 1, "it is saved")

    look("/a")
    site = seen.sites.get("default")
    seen.sites.change("default", rule=replace(site.rule, timeout=timedelta(minutes=5)))
    manual.advance(minutes=25)
    look("/b")
    views.close()
    assert len({event.distinct_id for event in events(seen)}) == 2, "the visit was over before midnight"


def test_repeated_headers_are_one_list() -> None:
    """RFC 9110, 5.3: in their order, whatever the case of their names."""
    headers = _ASGIHeaders([(b"X-Forwarded-For", b"a"), (b"accept", b"*/*"), (b"x-forwarded-for", b"b")])
    assert (headers("x-forwarded-for"), headers("accept"), headers("referer")) == ("a, b", "*/*", None)


@pytest.mark.parametrize(
    ("path", "url"),
    [("/a b", "/a%20b"), ("/a?b", "/a%3Fb"), ("/50%", "/50%25"), ("/a#b", "/a%23b"), ("/a;b=c,d", "/a;b=c,d")],
)
def test_addresses_are_as_browsers_write_them(seen: LastSeen, views: PageViews, path: str, url: str) -> None:
    """The same page has the same address whether a script counts it or the server, which knows it decoded."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"hello"]

    async def page(request: Any) -> HTMLResponse:
        return HTMLResponse("hello")

    async def get() -> None:
        counted = PageViewMiddleware(Starlette(routes=[Route("/{path:path}", page)]), views)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=counted), base_url="https://example.org"
        ) as client:
            await client.get(url)

    wsgi_get(WSGIPageViewMiddleware(app, views), path)
    asyncio.run(get())
    views.close()
    assert {event.url for event in events(seen)} == {f"https://example.org{url}"}


DJANGO = """
import sys
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=None)
import django
django.setup()
from django.http import HttpResponse
from django.test import RequestFactory
from lastseen import LastSeen
from lastseen.web.page_views import PageViews
from lastseen.web.page_views_django import DjangoPageViewMiddleware

with LastSeen.open(sys.argv[1], migrate=True) as seen:
    class Counted(DjangoPageViewMiddleware):
        views = PageViews(seen)
    answer = Counted(lambda request: HttpResponse("hello"))
    for path in ("/a/\\u00fc?utm_source=x&s=1", "/health"):
        assert answer(RequestFactory().get(path)).content == b"hello"
    async def view(request):
        return HttpResponse("hello")
    import asyncio
    assert asyncio.run(Counted(view)(RequestFactory().get("/b"))).content == b"hello"
    assert Counted.views.close() == 0
"""


def test_django(tmp_path: Path) -> None:
    """The same for Django, with synchronous and asynchronous views."""
    database = f"sqlite:///{tmp_path}/lastseen.db"
    subprocess.run([sys.executable, "-c", DJANGO, database], check=True, timeout=60)
    with LastSeen.open(database) as seen:
        found = {event.url for event in events(seen)}
    assert found == {"http://testserver/a/%C3%BC?utm_source=x", "http://testserver/b"}
