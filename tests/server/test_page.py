"""The page, in a real browser."""

from __future__ import annotations

import html
import re
import shlex
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from lastseen.cli.app import run
from tests.server.running import DEADLINE, ServerProcess

# One server a module, and a module a process.

HOUR = 3600
STATUSES = {"online": 0, "recent": 10 * 60, "idle": 3 * HOUR, "inactive": 40 * HOUR}
PAGE_WEIGHT = 150_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with sixty clients, fifteen of each status."""
    # On a busy machine these tests take longer than the five minutes for which a client is online.
    with ServerProcess(tmp_path_factory.mktemp("shop"), None, "--status-online", "9m", measured=True) as server:
        now = time.time()
        items = [
            {"client_id": f"till-{status}-{number:02}", "at": now - age - number}
            for status, age in STATUSES.items()
            for number in range(15)
        ]
        assert server.http.post("/api/v1/activity", json=items).json()["accepted"] == 60
        yield server


def rows(page: Page) -> list[str]:
    return page.locator("tbody .client").all_inner_texts()


def record(server: ServerProcess, client_id: str) -> None:
    assert server.http.post("/api/v1/activity", json={"client_id": client_id}).status_code == 202


def test_an_empty_page_says_what_to_do_and_fills_itself(new_server: ServerProcess, page: Page) -> None:
    """The line to paste names this very server; the first client appears without a reload."""
    page.goto(new_server.address)
    expect(page.locator("#empty code")).to_contain_text(f"{new_server.address}/api/v1/activity")
    page.evaluate("window.sameDocument = true")
    record(new_server, "first")
    expect(page.locator("tbody .client")).to_have_text(["first"])
    expect(page.locator("#summary")).to_have_text("1 of 1 online")
    assert page.evaluate("window.sameDocument")


def test_an_address_that_nothing_has(shop: ServerProcess) -> None:
    """A browser gets a page that leads on, a program problem details; under the API a browser does, too."""
    browsing = {"accept": "text/html,application/xhtml+xml"}
    page = shop.http.get("/nowhere", headers=browsing)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no page &#39;/nowhere&#39;." in page.text
    assert '<a href="/visits">Visits</a>' in page.text
    for path, headers in (("/nowhere", {}), ("/api/v1/nothing", browsing)):
        answer = shop.http.get(path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert "/api/v1/docs" in answer.json()["detail"]
    wrong = shop.http.delete("/api/v1/clients")
    assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "OPTIONS"})
    assert "the header Allow" in wrong.json()["detail"]


def test_the_command_on_the_empty_page_of_keys_makes_one(
    new_server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """It works as it stands."""
    line = re.search(r"<code>lastseen (.+?)</code>", new_server.http.get("/keys").text)
    address = re.search(r"data +(\S+)", new_server.announcement)
    assert line is not None
    assert address is not None
    assert run([*shlex.split(html.unescape(line[1])), "--database", address[1]]) == 0
    assert "secret" in capsys.readouterr().out


def test_it_updates_live_and_disturbs_nobody(shop: ServerProcess, page: Page) -> None:
    """A client that becomes active moves to the top; focus, scroll position and what is typed stay."""
    page.goto(f"{shop.address}/?search=till-idle")
    expect(page.locator("tbody tr")).to_have_count(15)
    search = page.locator("#search")
    search.focus()
    page.evaluate("scrollTo(0, 150)")
    page.evaluate("window.row = document.querySelector('tbody tr:nth-child(3)')")
    record(shop, "till-idle-14")
    expect(page.locator("tbody .client").first).to_have_text("till-idle-14")
    expect(page.locator("tbody tr").first.locator(".status")).to_have_text("online")
    assert page.evaluate("scrollY") == 150
    assert page.evaluate("document.activeElement.id") == "search"
    assert page.evaluate("window.row.isConnected")
    expect(search).to_have_value("till-idle")


def test_a_selection_is_kept(shop: ServerProcess, page: Page) -> None:
    """While text of the table is selected the rows wait; afterwards they go on."""
    page.goto(f"{shop.address}/?search=till-inactive")
    page.locator("tbody .client bdi").first.select_text()
    selected = page.evaluate("getSelection().toString()")
    record(shop, "till-inactive-09")
    with page.expect_response(re.compile("/rows")):
        page.evaluate("getSelection().empty()")
    expect(page.locator("tbody .client").first).to_have_text("till-inactive-09")
    assert selected == "till-inactive-00"


def test_relative_times_tick(new_server: ServerProcess, page: Page) -> None:
    """How long ago goes on without anything new, and the exact moment is in the tooltip."""
    page.clock.install()
    record(new_server, "ticking")
    page.goto(new_server.address)
    seen = page.locator("tbody .seen time")
    # Time goes on by itself meanwhile, and there is a minute less this one for it.
    page.clock.run_for(62_000)
    expect(seen).to_have_text("1 min ago")
    expect(seen).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))


def test_a_hidden_page_asks_nothing(shop: ServerProcess, page: Page) -> None:
    """In a tab that nobody sees the page is quiet, and it looks at once when it is seen again."""
    page.clock.install()
    page.goto(shop.address)
    hide = "value => { Object.defineProperty(document, 'hidden', {value, configurable: true}); }"
    page.evaluate(hide, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/rows" in request.url else None)
    page.clock.run_for(20_000)
    assert asked == []
    page.evaluate(hide, False)
    with page.expect_response(re.compile("/rows")):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_a_filter_with_an_address(shop: ServerProcess, page: Page, status: str) -> None:
    """A click shows one status; the address alone shows the same; going back shows all again."""
    page.goto(shop.address)
    page.locator(f"#tab-{status}").click()
    expect(page).to_have_url(f"{shop.address}/?status={status}")
    expect(page.locator(f"#tab-{status}")).to_have_attribute("aria-current", "page")
    expect(page.locator("tbody .status").first).to_have_text(status)
    assert set(page.locator("tbody .status").all_inner_texts()) == {status}
    shown = rows(page)
    page.reload()
    assert sorted(rows(page)) == sorted(shown)
    page.go_back()
    expect(page.locator("#tab-total")).to_have_attribute("aria-current", "page")


def test_active_and_inactive(shop: ServerProcess, page: Page) -> None:
    """Active in the last hour and inactive for a day, the latter with the longest silence first."""
    page.goto(shop.address)
    page.locator("#chip-active").click()
    expect(page).to_have_url(f"{shop.address}/?active_within=1h")
    expect(page.locator("#chip-active")).to_have_attribute("aria-current", "true")
    expect(page.locator("tbody tr.online").first).to_be_visible()
    assert set(page.locator("tbody .status").all_inner_texts()) == {"online", "recent"}
    page.locator("#chip-inactive").click()
    expect(page.locator("tbody .client").first).to_have_text("till-inactive-14")


def test_search_finds_as_you_type(shop: ServerProcess, page: Page) -> None:
    """What is typed is in the address; nothing found says so and leads back; no page is loaded."""
    page.goto(f"{shop.address}/?order=client_id")
    page.evaluate("window.sameDocument = true")
    page.locator("#search").press_sequentially("recent-0")
    expect(page.locator("tbody tr")).to_have_count(10)
    expect(page).to_have_url(f"{shop.address}/?order=client_id&search=recent-0")
    expect(page.locator("#tab-recent b")).to_have_text("10")
    page.locator("#search").fill("nobody like this")
    expect(page.locator("#none")).to_contain_text("No client matches")
    assert page.evaluate("window.sameDocument")
    page.locator("#none a").click()
    expect(page.locator("tbody tr")).to_have_count(50)


def test_sorting_is_in_the_heads_of_the_columns(shop: ServerProcess, page: Page) -> None:
    """A click sorts, a second one turns the order, and a screen reader is told."""
    page.goto(shop.address)
    head = page.locator("thead .seen")
    expect(head).to_have_attribute("aria-sort", "descending")
    page.locator("#sort-newest").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("tbody .status").first).to_have_text("inactive")
    page.locator("#sort-client_id").click()
    expect(page.locator("thead .client")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("tbody .client").first).to_have_text("till-idle-00")
    assert rows(page) == sorted(rows(page))


def test_pages_follow_each_other(shop: ServerProcess, page: Page) -> None:
    """Fifty a page; the next page goes on, and there is a way back."""
    page.goto(f"{shop.address}/?order=client_id")
    first = rows(page)
    page.locator("#next-page").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    assert len(first + rows(page)) == len(set(first + rows(page))) == 60
    page.locator("#first-page").click()
    expect(page.locator("tbody tr")).to_have_count(50)


def test_the_keyboard_reaches_everything(shop: ServerProcess, page: Page) -> None:
    """Tab goes through skip link, filters, search and sorting; Enter follows."""
    page.goto(shop.address)
    reached = []
    for _ in range(23):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    expected = [
        "skip",
        "tab-total",
        "tab-online",
        "tab-inactive",
        "search",
        "chip-active",
        "sort-client_id",
        "sort-newest",
    ]
    assert [name for name in reached if name in expected] == expected
    page.locator("#tab-idle").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{shop.address}/?status=idle")
    assert page.evaluate("document.activeElement.id") == "tab-idle"


def test_without_a_script_everything_works(shop: ServerProcess, browser: Browser) -> None:
    """Filters, search, sorting and pages are links and a form."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shop.address)
    expect(page.locator("tbody tr")).to_have_count(50)
    page.locator("#tab-recent").click()
    page.locator("#search").fill("till-recent-07")
    page.locator("#find").click()
    expect(page.locator("tbody .client")).to_have_text(["till-recent-07"])
    assert "status=recent" in page.url
    expect(page.locator("tbody .hours svg")).to_have_attribute("aria-label", "active in 1 of the last 48 hours")
    expect(page.locator(".overview .note")).to_contain_text("Busiest hour")
    context.close()


@pytest.mark.parametrize(
    ("scheme", "width", "path"),
    [
        ("light", 1200, "/"),
        ("dark", 360, "/"),
        ("dark", 1200, "/?search=nobody+like+this"),
        ("light", 360, "/?status=idle"),
    ],
)
def test_accessibility(shop: ServerProcess, page: Page, scheme: Any, width: int, path: str) -> None:
    """axe-core finds nothing serious, and at no width must one scroll sideways."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(shop.address + path)
    expect(page.locator("#chart canvas")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_empty_page_is_accessible(new_server: ServerProcess, page: Page) -> None:
    """So is what a newcomer sees first."""
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(new_server.address)
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in {"serious", "critical"}] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_an_inline_script_does_not_run(shop: ServerProcess, browser: Browser) -> None:
    """The negative control of the strict policy: the browser refuses what is not a file of this server."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(shop.address)
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        }""")
    assert page.evaluate("window.ran") is None
    context.close()


def test_strange_client_ids_do_no_harm(new_server: ServerProcess, page: Page) -> None:
    """Markup, quotes, long words and other scripts are shown as they are; nothing runs."""
    names = ['<img src=x onerror="document.title=1">', "a'b\"c&amp;", "x" * 255, "مرحبا", "{{ 7*7 }}", "a b"]
    new_server.http.post("/api/v1/activity", json=[{"client_id": name} for name in names])
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(new_server.address)
    assert sorted(rows(page)) == sorted(names)
    assert page.title() == "Clients · lastseen"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_is_light(shop: ServerProcess, page: Page) -> None:
    """Everything that the first page loads is under 150 KB, compressed, and comes from this server alone."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(shop.address, wait_until="networkidle")
    assert all(url.startswith(shop.address) for url in urls)
    weight = 0
    for url in set(urls):
        with httpx.stream("GET", url, headers={"accept-encoding": "gzip"}, timeout=DEADLINE) as answer:
            weight += sum(len(piece) for piece in answer.iter_raw())
    assert 10_000 < weight < PAGE_WEIGHT


def test_rows_are_not_sent_again(shop: ServerProcess) -> None:
    """A page that shows what is current already is answered 304."""
    answer = shop.http.get("/rows?status=inactive&search=till-inactive-0")
    tag = answer.headers["etag"]
    again = shop.http.get("/rows?status=inactive&search=till-inactive-0", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    other = shop.http.get("/rows?status=recent", headers={"if-none-match": tag})
    assert other.status_code == 200


def test_a_bad_address_is_a_page_that_says_so(shop: ServerProcess) -> None:
    """Whoever mistypes an address reads why, and finds the way back."""
    answer = shop.http.get("/?status=asleep")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert "status" in answer.text
    assert 'href="/"' in answer.text


def test_a_server_that_is_gone_is_told(new_server: ServerProcess, browser: Browser) -> None:
    """While the server cannot be reached the page says so and keeps what it shows."""
    record(new_server, "kept")
    context = browser.new_context()
    page = context.new_page()
    page.goto(new_server.address)
    expect(page.locator("#connection")).to_have_text("Live")
    new_server.stop()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    expect(page.locator("tbody .client")).to_have_text(["kept"])
    context.close()
