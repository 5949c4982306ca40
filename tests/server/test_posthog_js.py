"""The real posthog-js in a real browser: visits are counted as somebody would who looks over the visitor's shoulder."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from scripts.install_browser import find_browser

from lastseen import LastSeen
from lastseen.clock import SystemClock
from lastseen.ingest.service import Ingest
from lastseen.server.body import Receive, Scope, Send
from lastseen.server.ingest.gate import IngestGate
from lastseen.server.limits import RateLimits
from lastseen.server.metrics import Metrics
from lastseen.visits.visit import StartReason, Visit
from tests.server.conftest import BROWSER_OPTIONS
from tests.server.ingesting import Eyes, sqlite_url
from tests.server.running import eventually

LIBRARY = Path(__file__).parent.parent / "data" / "posthog-js" / "array.js"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
MINUTE = 60
DAY = 86_400

PAGE = """<!doctype html><title>Shop {path}</title><script src="/posthog.js"></script>
<script>
posthog.init("{key}", {{
  api_host: "http://ph.shop.test:{port}", request_queue_config: {{flush_interval_ms: 250}}, {options}
}});
</script>
<a href="/second">second</a> <button id="buy">Buy now</button>"""

# The library drops everything from what looks like a program, so the browser says that it is a common one.
OPTIONS = [
    *BROWSER_OPTIONS,
    f"--user-agent={AGENT}",
    "--disable-blink-features=AutomationControlled",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]
SHIFT = """(() => {{
  const shift = {milliseconds}, Real = Date;
  class Shifted extends Real {{
    constructor(...given) {{ given.length ? super(...given) : super(Real.now() + shift); }}
    static now() {{ return Real.now() + shift; }}
  }}
  window.Date = Shifted;
}})()"""


class MovedClock(SystemClock):
    """The machine's clock, a while ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return SystemClock.now() + self.ahead


class Shop:
    """A site that uses posthog-js, and the server that it sends to."""

    def __init__(self, ingest_port: int, eyes: Eyes, clock: MovedClock) -> None:
        self.eyes = eyes
        self.clock = clock
        self.options = ""
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                script = path == "/posthog.js"
                page = PAGE.format(path=path, key=eyes.site.write_key, port=ingest_port, options=shop.options)
                body = LIBRARY.read_bytes() if script else page.encode()
                self.send_response(200)
                self.send_header("content-type", "text/javascript" if script else "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://shop.test:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def views(self) -> int:
        """Return how many page views are stored."""
        return sum(event.name == "$pageview" for event in self.eyes.events())

    def has_names(self, *names: str) -> bool:
        """Return whether events of all these names are stored."""
        return set(names) <= {event.name for event in self.eyes.events()}

    def visit(self, page: Page, path: str, referrer: str | None = None) -> None:
        """Open a page of the site and wait until its view is stored."""
        before = self.views()
        page.goto(self.address + path, referer=referrer)
        eventually(lambda: self.views() == before + 1, f"the view of {path}")

    def visits(self) -> list[Visit]:
        """Return all visits, the oldest first."""
        return self.eyes.all_visits()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def person() -> Iterator[Browser]:
    """Run a browser that looks like a person's; without one the test is skipped, under `CI` it fails."""
    path = find_browser()
    if path is None:
        message = "no Chromium; run: .venv/bin/python scripts/install_browser.py"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def window(person: Browser) -> Iterator[BrowserContext]:
    """Open a browser without any past."""
    context = person.new_context()
    yield context
    context.close()


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what the ingest does not: there are no recorder and no other extensions to load."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def serving(app: IngestGate) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", interface="asgi3"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the server listens")
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Run a shop whose events are taken by a server whose clock can be moved."""
    url = sqlite_url(tmp_path)
    clock, metrics = MovedClock(), Metrics()
    with LastSeen.open(url, migrate=True) as seen:
        ingest = Ingest(seen, tmp_path / "spool", 1_000_000, clock=clock)
        app = IngestGate(nothing_else, ingest, metrics, RateLimits(0))
        with serving(app) as port, Eyes(url) as eyes:
            shop = Shop(port, eyes, clock)
            yield shop
            shop.close()
        ingest.close()


def move_on(shop: Shop, window: BrowserContext, minutes: float) -> None:
    """Let time pass, for the server and for pages that are opened from now on."""
    shop.clock.ahead += minutes * MINUTE
    window.add_init_script(SHIFT.format(milliseconds=round(shop.clock.ahead * 1_000)))


def minutes_to_noon(shop: Shop) -> float:
    """Return how long it is until the middle of a day in UTC."""
    return (DAY / 2 - shop.clock.now()) % DAY / MINUTE


def test_a_visitor_is_followed_as_a_person_would(shop: Shop, window: BrowserContext) -> None:
    """From a letter to a page, a reload, a name, a second tab, a pause: one visit. After 31 minutes another."""
    began = SystemClock.now()
    page = window.new_page()
    shop.visit(page, "/?utm_source=letter&utm_medium=mail&utm_campaign=spring", "https://www.search.example/")
    shop.visit(page, "/second")
    before = shop.views()
    page.reload()
    eventually(lambda: shop.views() == before + 1, "the reload")
    page.evaluate("posthog.identify('user_7')")
    eventually(lambda: shop.has_names("$identify"), "she says who she is")
    page.click("#buy")
    page.evaluate("posthog.capture('bought', {price: 9.5})")
    eventually(lambda: shop.has_names("bought", "$autocapture"), "she buys")

    tab = window.new_page()
    shop.visit(tab, "/")
    move_on(shop, window, 20)
    shop.visit(tab, "/second")
    (visit,) = shop.visits()
    assert visit.visitor_id == "user_7"
    assert visit.page_views == 5
    assert visit.landing_page is not None
    assert visit.landing_page.startswith(f"{shop.address}/?utm_source=letter")
    assert visit.exit_page == f"{shop.address}/second"
    assert visit.utm is not None
    assert visit.utm.key == ("letter", "mail", "spring")
    assert visit.referrer_domain == "search.example"
    assert visit.start_reason is StartReason.FIRST
    assert len(visit.window_ids) == 2
    assert 20 * MINUTE - 1 <= visit.duration.total_seconds() <= 20 * MINUTE + SystemClock.now() - began
    assert not visit.is_bot
    assert visit.device is not None
    assert visit.device.browser == "Chrome"

    tab.close()
    page.close()
    move_on(shop, window, 31)
    later = window.new_page()
    shop.visit(later, "/")
    first, second = shop.visits()
    assert first.page_views == 5
    assert (second.start_reason, second.previous_id) == (StartReason.TIMEOUT, first.id)
    assert (second.visitor_id, second.page_views) == ("user_7", 1)
    assert second.utm is None
    assert second.referrer_domain is None
    shop.eyes.check()


def test_a_browsers_clock_may_be_wrong(shop: Shop, window: BrowserContext) -> None:
    """Two hours slow: the events are placed by the server's clock, to the second, and nothing is late or apart."""
    window.add_init_script(SHIFT.format(milliseconds=-2 * 60 * MINUTE * 1_000))
    page = window.new_page()
    began = SystemClock.now()
    shop.visit(page, "/")
    shop.visit(page, "/second")
    for event in shop.eyes.events():
        assert began - 1 < event.at / 1_000_000 <= SystemClock.now()
    assert len(shop.visits()) == 1


def test_two_people_at_one_browser(shop: Shop, window: BrowserContext) -> None:
    """One signs out, the other signs in: two visitors, each with a visit of their own."""
    page = window.new_page()
    shop.visit(page, "/")
    page.evaluate("posthog.identify('ann'); posthog.capture('by ann')")
    eventually(lambda: shop.has_names("by ann"), "Ann is known")
    page.evaluate("posthog.reset(); posthog.identify('bob'); posthog.capture('by bob')")
    eventually(lambda: shop.has_names("by bob"), "Bob is known")
    assert sorted(visit.visitor_id for visit in shop.visits()) == ["ann", "bob"]
    shop.eyes.check()


def test_without_a_cookie(shop: Shop, window: BrowserContext) -> None:
    """A site that keeps nothing in the browser has one visitor all the same, and one visit."""
    shop.options = "cookieless_mode: 'always'"
    move_on(shop, window, minutes_to_noon(shop))  # at midnight everybody becomes somebody else
    page = window.new_page()
    shop.visit(page, "/")
    shop.visit(page, "/second")
    (visit,) = shop.visits()
    assert visit.page_views == 2
    assert len(visit.visitor_id) == 32


def test_single_pages_that_only_change_their_address(shop: Shop, window: BrowserContext) -> None:
    """With `history_change` each address is a page view of the same visit."""
    shop.options = "capture_pageview: 'history_change'"
    page = window.new_page()
    shop.visit(page, "/")
    page.evaluate("history.pushState({}, '', '/inside')")
    eventually(lambda: shop.views() == 2, "the second address")
    (visit,) = shop.visits()
    assert visit.exit_page == f"{shop.address}/inside"
