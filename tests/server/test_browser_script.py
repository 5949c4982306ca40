"""The script that counts, in a real browser, on pages of another origin."""

from __future__ import annotations

import gzip
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from lastseen import server as server_room
from tests.server.running import DEADLINE, ServerProcess, eventually

SCRIPT = Path(server_room.__file__).parent / "ingest/lastseen.js"
MOST_BYTES = 1_536
STRICT = "default-src 'none'; script-src {server}; connect-src {server}"


class Pages(BaseHTTPRequestHandler):
    """A shop of a few pages that carry the line to paste, and nothing else."""

    def __init__(self, tag: str, server: str, *rest: Any) -> None:
        self._tag, self._server = tag, server
        super().__init__(*rest)

    def do_GET(self) -> None:  # the name that the standard library calls
        body = f"<!doctype html><title>{self.path}</title><p>A page{self._tag}".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-security-policy", STRICT.format(server=self._server))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Shop:
    """Pages of another origin that count into a site of their own."""

    address: str
    site: str
    server: ServerProcess

    def events(self, count: int) -> list[dict[str, Any]]:
        """Wait for that many events, and return all, in the order in which they happened."""

        def found() -> list[dict[str, Any]]:
            listed: list[dict[str, Any]] = self.ask("events")["events"]
            return listed if len(listed) >= count else []

        return eventually(found, f"{count} events")[::-1]

    def ask(self, what: str) -> Any:
        """Return what the server's API answers about the site."""
        return self.server.http.get(f"/api/v1/{what}?site={self.site}").json()


@pytest.fixture
def shop(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """Serve pages of another origin that count into a new site."""
    site = f"s{zlib.crc32(request.node.name.encode()):x}"
    key = server.http.post("/api/v1/sites", json={"id": site}).json()["write_key"]
    tag = f'<script defer src="{server.address}/lastseen.js" data-site="{key}"></script>'
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, tag, server.address))
    thread = threading.Thread(target=pages.serve_forever, args=(0.02,))
    thread.start()
    yield Shop(f"http://127.0.0.1:{pages.server_port}", site, server)
    pages.shutdown()
    thread.join()
    pages.server_close()


def names(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["name"], event["url"].rpartition(":")[2].partition("/")[2]) for event in found]


def has_seen(shop: Shop, page_views: int) -> bool:
    return [event["name"] for event in shop.ask("events")["events"]].count("$pageview") == page_views


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """Open a window of somebody whose browser does not say that it is driven."""
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    context = browser.new_context(user_agent=agent)
    yield context
    context.close()


@pytest.fixture
def page(visitor: BrowserContext) -> Iterator[Page]:
    """Open a page; whatever it complains about, a refused script too, fails the test."""
    complaints: list[str] = []
    page = visitor.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type != "info" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert [one for one in complaints if "favicon" not in one and "503" not in one] == []


def test_it_is_small_and_may_be_kept(server: ServerProcess) -> None:
    """Under 1.5 KB compressed, cached for a day, asked about by its tag, and loadable by pages of every origin."""
    answer = server.http.get("/lastseen.js", headers={"accept-encoding": "gzip"})
    assert answer.content == SCRIPT.read_bytes()
    assert int(answer.headers["content-length"]) < MOST_BYTES
    assert len(gzip.compress(SCRIPT.read_bytes())) < MOST_BYTES
    assert "max-age=86400" in answer.headers["cache-control"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    again = server.http.get("/lastseen.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.http.post("/lastseen.js").status_code == 405


def test_page_views_make_one_visit(shop: Shop, page: Page) -> None:
    """Two pages, the second by a link: two page views of one visitor, in one visit, under a strict policy."""
    page.goto(f"{shop.address}/tea?utm_source=letter&utm_medium=email&utm_campaign=spring")
    shop.events(1)
    page.evaluate("location.href = '/cups'")
    shop.events(2)
    (visit,) = eventually(lambda: [v for v in shop.ask("visits")["visits"] if v["page_views"] == 2], "a visit")
    assert visit["utm"] == {"source": "letter", "medium": "email", "campaign": "spring"}
    assert visit["landing_page"].startswith(f"{shop.address}/tea")
    assert visit["exit_page"] == f"{shop.address}/cups"
    assert visit["device"]["browser"] == "Chrome"
    assert visit["device"]["screen_resolution"] == "1280x720"


def test_ids_begin_with_their_moment(shop: Shop, page: Page) -> None:
    """A database adds such ids behind the others, and no two are the same."""
    page.goto(shop.address)
    page.evaluate("for (let number = 0; number < 20; number++) lastseen('once', { number })")
    events = shop.events(21)
    assert len({event["id"] for event in events}) == 21
    for event in events:
        assert re.fullmatch("[0-9a-f]{32}", event["id"])
        # The server corrects moments by what its own clock says.
        at = datetime.fromtimestamp(int(event["id"][:12], 16) / 1_000, UTC)
        assert abs(at - datetime.fromisoformat(event["happened_at"])) < timedelta(minutes=1)


def test_two_tabs_from_two_campaigns_are_two_visits(shop: Shop, visitor: BrowserContext, page: Page) -> None:
    """Clicking in both in turn, and loading one again, begins no visit: only coming does."""
    other = visitor.new_page()
    page.goto(f"{shop.address}/?utm_source=a")
    other.goto(f"{shop.address}/?utm_source=b")
    for each in (page, other, page, other):
        each.evaluate("lastseen('clicked')")
    shop.events(6)
    page.reload()
    eventually(partial(has_seen, shop, 3), "the page is seen again")
    newest, first = shop.ask("visits")["visits"]
    assert [first["utm"]["source"], newest["utm"]["source"]] == ["a", "b"]
    assert newest["start_reason"] == "campaign"


def test_a_second_campaign_in_the_same_tab_begins_a_visit(shop: Shop, page: Page) -> None:
    """The control of the test above: coming again, even from the first campaign, is coming."""
    for turn, source in enumerate("aba", 1):
        page.goto(f"{shop.address}/?utm_source={source}")
        eventually(partial(has_seen, shop, turn), "the page is seen")
    assert len(shop.ask("visits")["visits"]) == 3


def test_single_page_applications_are_followed(shop: Shop, page: Page) -> None:
    """A pushed, a replaced and a popped state are page views; another fragment, or the same address again, is none."""
    page.goto(f"{shop.address}/app")
    shop.events(1)
    for step in (
        "history.pushState(null, '', '/app/one')",
        "location.hash = 'part'",
        "history.replaceState(null, '', '/app/one#other')",
        "history.replaceState(null, '', '/app/two?page=2')",
        "history.back()",
    ):
        page.evaluate(step)
    page.evaluate("lastseen('end')")
    found = eventually(lambda: [e for e in shop.events(1) if e["name"] == "end"] and shop.events(5), "end")
    views = [url for name, url in names(found) if name == "$pageview"]
    assert views[:3] == ["app", "app/one", "app/two"]
    assert found[-1]["name"] in {"end", "$pageview"}


def test_custom_events_and_engaged_time(shop: Shop, page: Page) -> None:
    """An event has its properties; leaving tells by a beacon how long the page was looked at since then."""
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    page.goto(f"{shop.address}/tea")
    page.clock.run_for(4_000)
    page.evaluate("lastseen('order', {plan: 'monthly'})")
    page.clock.run_for(3_000)
    page.goto("about:blank")
    found = shop.events(3)
    assert sorted(name for name, _ in names(found)) == ["$pageleave", "$pageview", "order"]
    order = next(event for event in found if event["name"] == "order")
    assert order["properties"]["plan"] == "monthly"
    assert order["engaged_ms"] == 4_000
    leave = next(event for event in found if event["name"] == "$pageleave")
    assert leave["engaged_ms"] == 3_000


@pytest.mark.parametrize(
    "wish",
    [
        "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})",
        "Object.defineProperty(navigator, 'doNotTrack', {value: '1'})",
    ],
    ids=["global-privacy-control", "do-not-track"],
)
def test_who_does_not_want_to_be_counted_is_not(shop: Shop, visitor: BrowserContext, page: Page, wish: str) -> None:
    """With either signal nothing is sent, and the page's own calls do no harm; without it they are sent (control)."""
    page.add_init_script(wish)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    page.goto(f"{shop.address}/tea", wait_until="networkidle")
    page.evaluate("lastseen('order')")
    page.goto("about:blank")
    assert "POST" not in asked
    willing = visitor.new_page()
    willing.goto(f"{shop.address}/tea")
    assert names(shop.events(1)) == [("$pageview", "tea")]


def test_nothing_is_stored_and_nothing_need_be(shop: Shop, page: Page) -> None:
    """No cookie, nothing in the browser's storage; where storage is blocked it counts all the same."""
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage', 'indexedDB'])"
        " Object.defineProperty(window, name, {get() { throw new DOMException('blocked', 'SecurityError'); }})"
    )
    page.goto(f"{shop.address}/tea")
    assert names(shop.events(1)) == [("$pageview", "tea")]
    assert page.context.cookies() == []


def test_a_page_that_is_prerendered_counts_when_it_is_seen(shop: Shop, page: Page) -> None:
    """Before that nothing is sent."""
    page.add_init_script("Object.defineProperty(document, 'prerendering', {value: true, configurable: true})")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    page.goto(f"{shop.address}/tea", wait_until="networkidle")
    assert "POST" not in asked
    page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    assert names(shop.events(1)) == [("$pageview", "tea")]


def test_a_page_from_the_back_forward_cache_is_seen_again(shop: Shop, page: Page) -> None:
    """Coming back to a kept page is another page view of the same visit."""
    page.goto(f"{shop.address}/tea")
    shop.events(1)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    found = shop.events(2)
    assert [name for name, _ in names(found)].count("$pageview") == 2
    assert len(shop.ask("visits")["visits"]) == 1


def test_what_could_not_be_sent_comes_with_the_next(shop: Shop, page: Page) -> None:
    """A refusal for overload loses nothing: the same event, with its own moment, comes with the one after, once."""
    refused = threading.Event()

    def refuse_once(route: Any) -> None:
        if route.request.method == "POST" and not refused.is_set():
            refused.set()
            route.fulfill(status=503, headers={"access-control-allow-origin": "*"})
        else:
            route.continue_()

    page.route("**/api/v1/events", refuse_once)
    with page.expect_response(lambda answer: answer.status == 503):
        page.goto(f"{shop.address}/tea")
    page.evaluate("lastseen('order')")
    # The refusal may be heard after the order was sent; leaving sends whatever still waits.
    page.goto("about:blank")
    found = [name for name, _ in names(shop.events(2)) if name != "$pageleave"]
    assert found == ["$pageview", "order"]


def test_another_origin_may_read_the_answer_and_nothing_else(server: ServerProcess) -> None:
    """Events are taken from every origin; reading them is not for pages."""
    headers = {"origin": "https://shop.example"}
    assert httpx.options(f"{server.address}/api/v1/events", headers=headers, timeout=DEADLINE).status_code == 200
    listed = server.http.get("/api/v1/events", headers=headers)
    assert "access-control-allow-origin" not in listed.headers
