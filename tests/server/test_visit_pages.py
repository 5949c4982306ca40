"""The pages about visits, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from lastseen import LastSeen
from lastseen.cli.app import run
from lastseen.cli.demo_visits import demo_visits
from lastseen.reports.terms import Metric
from lastseen.server.pages.visits.words import END_REASONS, START_REASONS, change_words
from lastseen.visits.cookieless import ImportedVisitors
from lastseen.visits.making import EventMaker
from lastseen.visits.visit import EndReason, StartReason
from tests.server.running import DEADLINE, ServerProcess, eventually

PAGE_WEIGHT = 150_000
DAYS = 20


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with some weeks of a small shop's visits."""
    home = tmp_path_factory.mktemp("visits")
    database = f"sqlite:///{home}/shop.db"
    with LastSeen.open(database, migrate=True) as seen:
        site = seen.sites.get("default")
        maker = EventMaker(site, visitors=ImportedVisitors(site.id, site.import_secret), late_limit=None)
        seen.store.visits.save(
            [maker.make(raw) for raw in demo_visits(time.time(), DAYS, Random(1))], lambda _: site.rule
        )
    with ServerProcess(home, database, measured=True) as server:
        report = "/api/v1/reports/visits"
        eventually(lambda: server.http.get(report).json()["is_complete"], "the figures have followed")
        yield server


def tile(page: Page, name: str) -> int:
    return int(page.locator(f"#metric-{name} b").inner_text().replace(",", ""))


def test_an_empty_page_says_what_to_paste(new_server: ServerProcess, page: Page) -> None:
    """The lines name this very server and the site's write key, and the curl call works as it stands."""
    page.goto(f"{new_server.address}/visits")
    lines = page.locator("pre code").all_inner_texts()
    assert re.fullmatch(
        rf'<script defer src="{new_server.address}/lastseen\.js" data-site="wk_[\w-]+"></script>', lines[0]
    )
    body = re.search(r"-d '(.+)' (http\S+)", lines[1])
    assert body is not None
    sent = httpx.post(body[2], content=body[1], headers={"content-type": "application/json"}, timeout=DEADLINE)
    assert sent.json() == {"accepted": 1, "dropped": 0}
    page.reload()
    expect(page.locator("table.visits tbody tr")).to_have_count(1)

    def is_counted() -> bool:
        page.reload()
        return page.locator("#metric-visits b").inner_text() == "1"

    eventually(is_counted, "a visit in the figures, which follow within two seconds")


def test_the_figures_are_those_of_the_reports(shop: ServerProcess, page: Page) -> None:
    """What the tiles show is what the API answers to the question beside them."""
    page.goto(f"{shop.address}/visits")
    expect(page.locator("#chart canvas")).to_be_visible()
    link = page.locator(".overview .note a").first.get_attribute("href")
    assert link is not None
    answer = shop.http.get(link).json()
    assert tile(page, "visitors") == answer["totals"]["visitors"] > 100
    bars = page.locator("#chart").get_attribute("data-values")
    assert bars is not None
    assert [float(value) for value in bars.split(",")] == [row["visitors"] for row in answer["rows"]]


@pytest.mark.parametrize("kind", ["JSON", "CSV", "Parquet"])
def test_every_panel_can_be_taken_away(shop: ServerProcess, page: Page, kind: str) -> None:
    """Each panel, the chart and the latest visits have their API call beside them, in every form."""
    page.goto(f"{shop.address}/visits")
    links = page.get_by_text(kind, exact=True)
    expect(links).to_have_count(7)
    types = {"JSON": "application/json", "CSV": "text/csv", "Parquet": "application/vnd.apache.parquet"}
    for link in links.all():
        answer = shop.http.get(link.get_attribute("href") or "")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(types[kind])
        assert len(answer.content) > 50


def test_a_click_filters_everything(shop: ServerProcess, page: Page) -> None:
    """A click on a value filters figures, chart and panels without a reload; another click takes the filter away."""
    page.goto(f"{shop.address}/visits")
    page.evaluate("window.sameDocument = true")
    everybody = tile(page, "visitors")
    row = page.locator("section[aria-labelledby=panel-place] tbody tr").first
    there = int(row.locator("td").inner_text().replace(",", ""))
    country = row.locator("a").inner_text()
    row.locator("a").click()
    expect(page.locator(".filters .chip")).to_have_text(re.compile(f"Country is {country}"))
    expect(page.locator("#metric-visitors b")).to_have_text(f"{there:,}")
    expect(page.locator("section[aria-labelledby=panel-place] tbody tr")).to_have_count(1)
    page.locator("section[aria-labelledby=panel-machine] tbody a").first.click()
    expect(page.locator(".filters .chip")).to_have_count(2)
    assert 0 < tile(page, "visitors") < there
    page.locator(".filters .chip").first.click()
    expect(page.locator(".filters .chip")).to_have_count(1)
    page.locator(".filters .chip").first.click()
    expect(page.locator("#metric-visitors b")).to_have_text(f"{everybody:,}")
    assert page.evaluate("window.sameDocument")


def test_every_view_has_an_address(shop: ServerProcess, page: Page) -> None:
    """Range, figure, panels and filters are in the address, and the address alone shows the same."""
    page.goto(f"{shop.address}/visits")
    page.locator("#range-7d").click()
    expect(page.locator("#range-7d")).to_have_attribute("aria-current", "true")
    page.locator("#metric-bounce-rate").click()
    expect(page.locator("#metric-bounce-rate")).to_have_attribute("aria-current", "page")
    page.locator("#by-page-exit").click()
    expect(page.locator("#panel-page + .which [aria-current]")).to_have_text("Exit page")
    page.locator("section[aria-labelledby=panel-source] tbody a").nth(1).click()
    expect(page.locator(".filters .chip")).to_have_count(1)
    address, text = page.url, page.locator(".metrics").inner_text()
    page.goto("about:blank")
    page.goto(address)
    assert page.locator(".metrics").inner_text() == text
    expect(page.locator("#range-7d")).to_have_attribute("aria-current", "true")
    expect(page.locator("#metric-bounce-rate")).to_have_attribute("aria-current", "page")
    expect(page.locator("#panel-page + .which [aria-current]")).to_have_text("Exit page")


def test_days_and_zone_can_be_chosen(shop: ServerProcess, page: Page) -> None:
    """Two days in a zone of one's own: hours, on that zone's clocks; days add up to the range."""
    page.goto(f"{shop.address}/visits")
    first = page.locator("input[name=to]").input_value()
    page.locator("input[name=from]").fill(first)
    page.locator("#show-days").click()
    expect(page.locator("figcaption")).to_contain_text("Visitors per hour")
    page.locator("#zone").fill("Asia/Tokyo")
    page.locator("#set-zone").click()
    expect(page.locator("figcaption")).to_contain_text("Asia/Tokyo")
    expect(page).to_have_url(re.compile("tz=Asia%2FTokyo"))
    page.locator("table.visits th a").first.click()
    expect(page.locator("header", has_text="Timeline")).to_contain_text("times in Asia/Tokyo")
    expect(page.locator("dl").first).to_contain_text("JST")


def test_a_zone_leaves_a_range_that_moves(shop: ServerProcess, page: Page) -> None:
    """Thirty days stay thirty days: who opens the address tomorrow sees tomorrow's."""
    page.goto(f"{shop.address}/visits?last=7d")
    page.locator("#zone").fill("Asia/Tokyo")
    page.locator("#set-zone").click()
    expect(page.locator("figcaption")).to_contain_text("Asia/Tokyo")
    expect(page).to_have_url(re.compile("last=7d"))
    assert "from=" not in page.url


def test_figures_say_what_they_are_compared_with(shop: ServerProcess, page: Page) -> None:
    """The days before, beside the chart and at each change."""
    page.goto(f"{shop.address}/visits?from=2026-03-08&to=2026-03-14")
    expect(page.locator("figcaption")).to_contain_text("compared with 01 Mar 2026 to 07 Mar 2026")
    expect(page.locator(".metrics small").first).to_have_attribute("title", "compared with 01 Mar 2026 to 07 Mar 2026")


@pytest.mark.parametrize(("days", "width"), [(3, 1280), (7, 390), (10, 390)])
def test_the_chart_shows_its_labels_whole(shop: ServerProcess, page: Page, days: int, width: int) -> None:
    """The last one too, where few bars are wide apart; and bars of a day have days beneath them, no hours."""
    page.add_init_script(_LABELS)
    page.set_viewport_size({"width": width, "height": 800})
    today = datetime.now(UTC).date()
    page.goto(f"{shop.address}/visits?from={today - timedelta(days=days - 1)}&to={today}")
    page.locator("#chart canvas").wait_for()
    beneath = page.evaluate("() => labels.filter((label) => label.text.includes(' '))")
    assert len({label["text"] for label in beneath}) >= min(days, 3)
    assert [label for label in beneath if label["right"] > label["width"] or label["left"] < 0] == []
    assert page.evaluate("() => labels.filter((label) => label.text.includes(':'))") == []


_LABELS = """
globalThis.labels = [];
const fill = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const { e: across } = this.getTransform();
  const half = this.measureText(text).width / 2;
  globalThis.labels.push({ text, left: across + x - half, right: across + x + half, width: this.canvas.width });
  return fill.call(this, text, x, y);
};
"""


def test_filters_and_days_reach_the_lists(shop: ServerProcess, page: Page) -> None:
    """The latest visits, who is here now, and the list of all are those that the figures count."""
    everybody = len(shop.http.get("/api/v1/visits?limit=1000").json()["visits"])
    query = "filter=source:is:google.com&last=7d"
    page.goto(f"{shop.address}/visits?{query}")
    counted = tile(page, "visits")
    assert 0 < counted < everybody
    sources = page.locator("table.visits tbody td:nth-child(3)").all_inner_texts()
    assert sources
    assert all("google.com" in source for source in sources)
    listed, following = 0, page.get_by_role("link", name="All visits counted here")
    while following.count():
        # What is counted does not wait for the page to be there.
        with page.expect_navigation():
            following.click()
        listed += page.locator("table.visits tbody tr").count()
        following = page.locator("#next-page")
    assert listed == counted
    expect(page.locator(".heading")).to_contain_text("Source is google.com")


def test_who_is_here_now_is_counted_once(new_server: ServerProcess) -> None:
    """Two visits of one person within five minutes are one visitor."""
    key = new_server.http.get("/api/v1/sites/default").json()["write_key"]
    for source in "ab":
        event = {
            "write_key": key,
            "name": "$pageview",
            "distinct_id": "ann",
            "url": f"https://s.test/?utm_source={source}",
        }
        assert new_server.http.post("/api/v1/events", json=event).status_code == 200
    assert len(new_server.http.get("/api/v1/visits").json()["visits"]) == 2
    eventually(lambda: "<b>1</b> visitor in" in new_server.http.get("/visits").text, "one visitor is counted")


def test_a_site_that_only_bots_visited_says_so(new_server: ServerProcess, page: Page) -> None:
    """They are left out until somebody wants to see them, and there is a switch for it."""
    key = new_server.http.get("/api/v1/sites/default").json()["write_key"]
    event = {"write_key": key, "name": "$pageview", "url": "https://s.test/", "user_agent": "Googlebot/2.1"}
    assert new_server.http.post("/api/v1/events", json=event).status_code == 200
    page.goto(f"{new_server.address}/visits")
    expect(page.locator("#others")).to_contain_text("1 visit of bots")
    page.locator("#others a").click()
    expect(page.locator("table.visits tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Bots alone").click()
    expect(page.get_by_role("link", name="Bots alone")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="People", exact=True).click()
    expect(page.locator("#others")).to_be_visible()


def test_without_the_default_site_the_first_one_is_shown(new_server: ServerProcess) -> None:
    """Who deletes it still finds the visits under the same address; without any site the page says so."""
    assert new_server.http.post("/api/v1/sites", json={"id": "shop", "name": "The shop"}).status_code == 201
    assert new_server.http.delete("/api/v1/sites/default").status_code == 204
    answer = new_server.http.get("/visits")
    assert answer.status_code == 200
    key = new_server.http.get("/api/v1/sites/shop").json()["write_key"]
    assert key in answer.text
    assert new_server.http.delete("/api/v1/sites/shop").status_code == 204
    assert new_server.http.get("/visits").status_code == 404


def test_a_visit_that_ended_because_the_next_was_started_is_shown(new_server: ServerProcess) -> None:
    """By hand, which is a reason of its own."""
    key = new_server.http.get("/api/v1/sites/default").json()["write_key"]
    for name, event_id in (("$pageview", "first"), ("$session_start", "second")):
        event = {"write_key": key, "name": name, "id": event_id, "distinct_id": "ann", "url": "https://s.test/"}
        assert new_server.http.post("/api/v1/events", json=event).status_code == 200
    answer = new_server.http.get("/visit?id=first")
    assert answer.status_code == 200
    assert "the next visit was started by hand" in answer.text


def test_a_page_view_without_an_address_is_called_so_everywhere(
    new_server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is on no page: nothing about it is unknown, and where its visit came from nobody can say."""
    key = new_server.http.get("/api/v1/sites/default").json()["write_key"]
    event = {"write_key": key, "name": "$pageview", "id": "first", "distinct_id": "ann"}
    assert new_server.http.post("/api/v1/events", json=event).status_code == 200
    report = "/api/v1/reports/visits?by=page"
    eventually(lambda: len(new_server.http.get(report).json()["rows"]) == 1, "the figures have followed")
    assert new_server.http.get(report).json()["rows"][0]["page"] is None
    figures = new_server.http.get("/visits").text
    assert ">No address</a>" in figures
    assert ">Direct or unknown</a>" in figures
    chosen = new_server.http.get("/visits?filter=page:unknown&filter=utm_campaign:unknown").text
    assert "Page: no address" in chosen
    assert "Campaign: no campaign" in chosen
    assert re.search(r">No address</td>\s*<td>Unknown</td>", new_server.http.get("/visits/list").text)
    assert "Page view</b> No address" in new_server.http.get("/visit?id=first").text

    address = re.search(r"data +(\S+)", new_server.announcement)
    assert address is not None
    at = ("--database", address[1], "--data-folder", str(tmp_path / "copies"))

    def printed(*command: str) -> str:
        assert run([*command, *at]) == 0
        return capsys.readouterr().out

    assert "(no address) " in printed("report", "visits", "--by", "page")
    assert "(direct or unknown) " in printed("report", "visits", "--by", "source")
    listed = printed("visits", "list")
    assert "(unknown)" in listed
    assert "(no address)" in listed
    assert "$pageview   (no address)" in printed("visits", "show", "first")


def test_an_empty_list_says_what_to_do(new_server: ServerProcess) -> None:
    """Nothing was left out: there is nothing yet."""
    empty = new_server.http.get("/visits/list").text
    assert "No visits of people yet." in empty
    assert '<a href="/visits">How to count the first one</a>' in empty
    assert "No visits yet." in new_server.http.get("/visits/list?bots=with").text


@pytest.mark.parametrize(
    ("metric", "now", "before", "words"),
    [
        (Metric.BOUNCE_RATE, 0.11, 0.10, ("+1 point", "down")),
        (Metric.BOUNCE_RATE, 0.10, 0.14, ("\N{MINUS SIGN}4 points", "up")),
        (Metric.BOUNCE_RATE, 0.101, 0.10, ("as before", "")),
        (Metric.VISITS, 3, 2, ("+50%", "up")),
        (Metric.VISITS, 3, 0, ("none before", "")),
        (Metric.BOUNCE_RATE, 0.1, None, ("no period before", "")),
    ],
)
def test_a_change_in_words(metric: Metric, now: float, before: float | None, words: tuple[str, str]) -> None:
    """A share changes by points, anything else by percent; fewer bounces are better."""
    assert change_words(metric, now, before) == words


def test_every_reason_has_words() -> None:
    """Whatever the fold says, a page can say it."""
    assert START_REASONS.keys() == set(StartReason)
    assert END_REASONS.keys() == set(EndReason)


def test_empty_days_say_where_the_visits_are(shop: ServerProcess, page: Page) -> None:
    """As after the import of an old log; the link leads to days with figures, which do not say so."""
    page.goto(f"{shop.address}/visits?from=2015-05-17&to=2015-05-20")
    hint = page.locator("#elsewhere")
    expect(hint).to_contain_text("No visits in these days. The latest are from")
    hint.get_by_role("link").click()
    expect(page.locator("#metric-visits b")).not_to_have_text("0")
    expect(hint).to_have_count(0)
    assert re.search(r"\?from=20\d\d-\d\d-\d\d&to=20", page.url)


def test_it_updates_live(shop: ServerProcess, page: Page) -> None:
    """A new visit appears among the latest by itself, first."""
    page.clock.install()
    page.goto(f"{shop.address}/visits")
    key = shop.http.get("/api/v1/sites/default").json()["write_key"]
    event = {"write_key": key, "name": "$pageview", "url": "https://shop.example/new", "distinct_id": "newcomer"}
    assert shop.http.post("/api/v1/events", json=event).status_code == 200
    page.clock.run_for(11_000)
    expect(page.locator("table.visits tbody th").first).to_contain_text("newcomer")


def test_one_visit_says_what_happened_and_why(shop: ServerProcess, page: Page) -> None:
    """From the list to one visit: its timeline, why it began, and the way to the visit before."""
    page.goto(f"{shop.address}/visits/list")
    expect(page.locator("table.visits tbody tr")).to_have_count(50)
    page.locator("#next-page").click()
    expect(page.locator("table.visits tbody tr")).to_have_count(50)
    back = page.locator("table.visits tbody tr", has_text="back after a silence").first
    pages = int(back.locator(".number").first.inner_text())
    back.locator("th a").click()
    expect(page.locator("dl").first).to_contain_text("back after a silence:")
    expect(page.locator(".trail b.page")).to_have_count(pages)
    page.get_by_role("link", name="the visit before").click()
    expect(page.get_by_role("link", name="the visit after")).to_be_visible()


def test_visits_of_one_visitor_are_found(shop: ServerProcess, page: Page) -> None:
    """Any id of a visitor finds the visits; nobody's finds none and says so."""
    page.goto(f"{shop.address}/visits/list")
    visitor = page.locator("table.visits tbody th a").first.inner_text()
    page.locator("input[name=visitor]").fill(visitor)
    with page.expect_navigation():
        page.get_by_role("button", name="Search").click()
    assert set(page.locator("table.visits tbody th a").all_inner_texts()) == {visitor}
    page.goto(f"{shop.address}/visits/list?visitor=nobody")
    expect(page.locator(".none")).to_contain_text("No visit matches.")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/visits?last=soon", 400, "soon"),
        ("/visits?filter=mood:is:good", 400, "mood"),
        ("/visits?from=2026-01-01", 400, "from and to"),
        ("/visits?tz=Middle/Earth", 400, "Middle/Earth"),
        ("/visits?metric=happiness", 400, "happiness"),
        ("/visits?from=2026-01-01&to=9999-12-31", 400, "2200-01-01"),
        ("/visits?from=0001-01-01&to=2026-01-01", 400, "1970-01-02"),
        ("/visits?last=99999d", 400, "last"),
        ("/visits/list?tz=Mars", 400, "tz"),
        ("/visit?id=nothing&tz=Mars", 400, "tz"),
        ("/visits?filter=country:is:", 400, "country:unknown"),
        ("/visits?site=nowhere", 404, "site"),
        ("/visit?id=nothing", 404, "no such visit"),
        ("/visits/list?after=here", 400, "after"),
        (f"/visits/list?after={'9' * 5000}.x", 400, "after"),
    ],
)
def test_a_bad_address_is_a_page_that_says_so(shop: ServerProcess, path: str, status: int, words: str) -> None:
    """Whoever mistypes an address reads which part is wrong, and finds the way back."""
    answer = shop.http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.text
    assert '<a href="/visits">Show all visits</a>' in answer.text


@pytest.mark.parametrize(
    ("scheme", "width", "path"),
    [
        ("light", 1200, "/visits"),
        ("dark", 360, "/visits"),
        ("dark", 1200, "/visits?filter=country:is:XX"),
        ("light", 360, "/visits/list"),
        ("dark", 1200, "/visit"),
    ],
)
def test_accessibility(shop: ServerProcess, page: Page, scheme: Any, width: int, path: str) -> None:
    """axe-core finds nothing serious, and at no width must one scroll sideways."""
    if path == "/visit":
        path += "?id=" + shop.http.get("/api/v1/visits?limit=1").json()["visits"][0]["id"]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(shop.address + path)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_everything(shop: ServerProcess, page: Page) -> None:
    """Tab goes from the skip link through ranges, days, figures and panels; Enter follows."""
    page.goto(f"{shop.address}/visits")
    reached = []
    for _ in range(45):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    expected = ["skip", "range-1d", "range-30d", "metric-visitors", "metric-average-duration", "by-source-channel"]
    assert [name for name in reached if name in expected] == expected
    page.locator("#metric-events").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{shop.address}/visits?metric=events")


def test_without_a_script_everything_works(shop: ServerProcess, browser: Browser) -> None:
    """Ranges, figures and filters are links, the days a form."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shop.address}/visits")
    page.locator("#range-7d").click()
    page.locator("section[aria-labelledby=panel-machine] tbody a").first.click()
    expect(page.locator(".filters .chip")).to_have_count(1)
    page.locator("#show-days").click()
    expect(page.locator(".filters .chip")).to_have_count(1)
    expect(page.locator(".overview .note")).to_contain_text("Highest")
    context.close()


def test_the_page_is_light(shop: ServerProcess, page: Page) -> None:
    """Everything that the page loads is under 150 KB, compressed, and comes from this server alone."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{shop.address}/visits", wait_until="networkidle")
    assert all(url.startswith(shop.address) for url in urls)
    weight = 0
    for url in set(urls):
        with httpx.stream("GET", url, headers={"accept-encoding": "gzip"}, timeout=DEADLINE) as answer:
            weight += sum(len(piece) for piece in answer.iter_raw())
    assert 10_000 < weight < PAGE_WEIGHT


def test_visits_and_events_can_be_asked_for(shop: ServerProcess) -> None:
    """Pages of visits follow each other without gap or repetition; one comes with its timeline under its wire names."""
    found: list[str] = []
    cursor = ""
    while True:
        answer = shop.http.get(f"/api/v1/visits?limit=200{cursor}").json()
        found += [visit["id"] for visit in answer["visits"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert len(found) == len(set(found)) == shop.http.get("/api/v1/visits/count").json()["count"]
    one = shop.http.get(f"/api/v1/visits/{found[7]}").json()
    visit, events = one["visit"], one["events"]
    assert visit["$session_id"] == visit["id"] == found[7] == events[0]["id"]
    assert visit["$session_page_views"] == sum(event["name"] == "$pageview" for event in events)
    assert visit["$session_duration"] == visit["duration_seconds"]
    inside = shop.http.get(f"/api/v1/visits/{events[-1]['id']}").json()
    assert inside == one
    orders = shop.http.get("/api/v1/events?name=order&limit=3").json()
    assert {event["name"] for event in orders["events"]} == {"order"}
    assert orders["next_cursor"]
    assert shop.http.get("/api/v1/visits?cursor=nonsense").status_code == 400
    assert shop.http.get("/api/v1/visits/nothing").status_code == 404
    for moment in ("2026-01-01T00:00:00", "2026-01-01", "2026", "1.5", "now"):
        refused = shop.http.get(f"/api/v1/visits?from={moment}")
        assert (refused.status_code, refused.json()["parameter"]) == (400, "from"), moment
