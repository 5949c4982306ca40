"""The pages of devices, in a real browser; and what holds for those of keys, groups and sites, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lastseen.activity.status import ClientStatus
from tests.server import people
from tests.server.looking import DEVICES, Opened, audit, carry_over, fleet, opener, status_of
from tests.server.running import DEADLINE, ServerProcess
from tests.server.world import World

# One server a module, and a module a process.

PAGE_WEIGHT = 150_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Fill a server with two of everything, and sixty vans."""
    with fleet(tmp_path_factory.mktemp("devices")) as world:
        yield world


@pytest.fixture
def at(world: World, page: Page, context: BrowserContext) -> Opened:
    """Return what opens a path as the administrator."""
    return opener(world, page, context)


def names(page: Page) -> list[str]:
    return page.locator("tbody .client a").all_inner_texts()


# The list of devices


def test_an_empty_page_says_what_to_paste_and_fills_itself(new_server: ServerProcess, page: Page) -> None:
    """The line works as it stands, and the device that it registers appears without a reload."""
    page.goto(f"{new_server.address}/devices")
    line = page.locator("#empty code").first.inner_text()
    found = re.search(r"-d '(.+)' (http\S+)", line)
    assert found is not None
    assert "LASTSEEN_KEY" not in line
    page.evaluate("window.sameDocument = true")
    sent = httpx.post(found[2], content=found[1], headers={"content-type": "application/json"}, timeout=DEADLINE)
    assert sent.status_code == 200, sent.text
    expect(page.locator("tbody .client a")).to_have_text(["Van 7"])
    expect(page.locator("#summary")).to_have_text("1 of 1 online")
    assert page.evaluate("window.sameDocument")
    page.goto(f"{new_server.address}/keys")
    expect(page.locator("#empty code").first).to_contain_text("lastseen keys create")


@pytest.mark.parametrize("path", ["/devices", "/keys"])
def test_a_line_to_paste_is_seen_whole_on_a_phone(new_server: ServerProcess, browser: Browser, path: str) -> None:
    """It wraps; the negative control is the same line without that."""
    window = browser.new_context(viewport={"width": 390, "height": 800})
    page = window.new_page()
    page.goto(new_server.address + path)
    line = page.locator("#empty pre")
    assert line.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert line.evaluate("one => { one.classList.remove('wraps'); return one.scrollWidth > one.clientWidth }")
    window.close()


def test_status_never_and_group_are_filters_with_addresses(world: World, at: Opened) -> None:
    """A click shows one status or those never seen, a choice one group; the counts are those of the group."""
    page = at("/devices")
    page.locator("#group").select_option("vans")
    expect(page).to_have_url(re.compile(r"group=vans"))
    expect(page.locator("#tab-total b")).to_have_text(str(DEVICES))
    page.locator("#tab-never").click()
    expect(page.locator("tbody tr")).to_have_count(DEVICES // 3)
    assert set(page.locator("tbody .seen").all_inner_texts()) == {"never"}
    expect(page.locator("#tab-never b")).to_have_text(str(DEVICES // 3))
    page.locator("#tab-online").click()
    expect(page.locator("tbody tr")).to_have_count(DEVICES - DEVICES // 3)
    expect(page.locator("tbody .seen time").first).to_have_attribute("title", re.compile(r"^\d{4}-.* UTC$"))
    shown = names(page)
    page.reload()
    assert names(page) == shown
    counted = world.ada.get("/api/v1/devices?group_id=vans&status=online&limit=1000").json()["devices"]
    assert len(counted) == len(shown)


def test_search_sort_and_pages(at: Opened) -> None:
    """What is typed is found as one types; names and moments are sorted both ways; pages follow without a gap."""
    page = at("/devices?group=vans&order=name")
    first = names(page)
    assert first == sorted(first)
    page.locator("#next-page").click()
    expect(page.locator("tbody tr")).to_have_count(DEVICES - 50)
    assert len(set(first + names(page))) == DEVICES
    page.locator("#first-page").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.locator("#sort-name").click()
    expect(page.locator("thead .client")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("tbody .client a").first).to_have_text(f"Van {DEVICES - 1}")
    page.locator("#sort-last_seen").click()
    expect(page.locator("thead .seen")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("tbody .client a").first).to_have_text(f"Van {DEVICES - 1}")
    page.locator("#sort-last_seen").click()
    expect(page.locator("thead .seen")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("tbody .client a").first).to_have_text("Van 01")
    page.locator("#search").press_sequentially("van-17")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("#search").fill("nobody like this")
    expect(page.locator("#none")).to_contain_text("No device matches")


def test_it_updates_live(world: World, at: Opened) -> None:
    """A device that is seen for the first time leaves *never* by itself, and its key was used just now."""
    page = at("/devices?search=far-device")
    expect(page.locator("tbody .status")).to_have_text("never")
    page.evaluate("window.sameDocument = true")
    world.with_key(world.far).post("/api/v1/devices/far-device/seen")
    expect(page.locator("tbody .status")).to_have_text(ClientStatus.ONLINE.value)
    expect(page.locator("tbody .seen")).not_to_have_text("never")
    assert page.evaluate("window.sameDocument")
    assert "far-device" in at("/devices?search=far-device").locator("tbody").inner_text()


# One device


def test_a_device_from_its_registration_to_its_end(world: World, at: Opened) -> None:
    """Registered by hand it was never seen; renamed, moved, given properties; deleted after a second question."""
    page = at("/devices")
    page.locator("#new").click()
    page.get_by_label("Id", exact=True).fill("till/7 & co")
    page.get_by_label("Name", exact=True).fill("Till 7")
    page.get_by_label("Group").select_option("far")
    page.get_by_role("button", name="Register it").click()
    expect(page.get_by_role("heading", name="Till 7")).to_be_visible()
    expect(page.locator(".heading .status")).to_have_text("never")
    page.get_by_label("Name", exact=True).fill("Till seven")
    page.get_by_label("Group").select_option("vans")
    page.get_by_label("Properties").fill('{"floor": 3, "tags": ["new"]}')
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Till seven")).to_be_visible()
    expect(page.locator("dl")).to_contain_text("floor")
    device = world.ada.get(page.get_by_role("link", name="This device as JSON").get_attribute("href") or "").json()
    assert (device["name"], device["group_id"], device["properties"]["floor"]) == ("Till seven", "vans", 3)
    page.locator("#delete").click()
    expect(page.get_by_role("heading", name="Delete Till seven?")).to_be_visible()
    assert world.ada.get("/device", params={"id": "till/7 & co"}).status_code == 200
    page.locator("#confirm").click()
    expect(page).to_have_url(f"{world.server.address}/devices")
    assert world.ada.get("/device", params={"id": "till/7 & co"}).status_code == 404
    assert "device deleted Till seven by ada" in audit(world)


WRONG = [
    ("/devices/new", {"id": ""}, "id", "empty"),
    ("/devices/new", {"id": "van-00"}, "id", "There is a device"),
    ("/devices/new", {"id": "x", "name": "x" * 201}, "name", "200"),
    ("/devices/new", {"id": "x", "platform": "x" * 101}, "platform", "100"),
    ("/devices/new", {"id": "x", "group_id": "nowhere"}, "group_id", "no such group"),
    ("/devices/new", {"id": "x", "properties": "[1]"}, "properties", "object"),
    ("/devices/new", {"id": "x", "properties": "{floor"}, "properties", "no JSON"),
    ("/device?id=van-01", {"name": "x", "group_id": "nowhere"}, "group_id", "no such group"),
    ("/device?id=van-01", {"owner_id": "x" * 256}, "owner_id", "255"),
    ("/keys/new", {"name": ""}, "name", "empty"),
    ("/keys/new", {"name": "x", "owner": "device nothing"}, "owner", "no such device"),
    ("/keys/new", {"name": "x", "owner": "site nothing"}, "owner", "no such site"),
    ("/keys/new", {"name": "x", "owner": "planet mars"}, "owner", "one of the list"),
    ("/keys/new", {"name": "x", "expires": "2001-01-01"}, "expires", "over"),
    ("/keys/new", {"name": "x", "expires": "soon"}, "expires", "2027-01-31"),
    ("/keys/new", {"name": "x", "owner": "group vans", "scope clients:read": "on"}, "scopes", "clients:read"),
    ("/groups", {"name": ""}, "name", "empty"),
    ("/groups", {"name": "Vans", "id": "vans"}, "id", "this id already"),
    ("/group?id=vans", {"name": "x" * 201}, "name", "200"),
    ("/sites", {"id": "Not One"}, "id", "lower-case"),
    ("/sites", {"id": "other"}, "id", "other"),
    ("/sites", {"id": "new", "domains": "x..y"}, "domains", "x..y"),
    ("/site?id=other", {"name": "x", "timeout": "soon", "max_duration": "1d"}, "timeout", "30m"),
    ("/site?id=other", {"name": "x", "timeout": "0s", "max_duration": "1d"}, "timeout", "longer than nothing"),
]


@pytest.mark.parametrize(("path", "fields", "field", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_named(world: World, path: str, fields: dict[str, str], field: str, words: str) -> None:
    """Nothing is kept, what was typed stays, and the field that is wrong says so to eyes and to screen readers."""
    answer = world.ada.post(path, data=fields)
    assert answer.status_code == 422, answer.text
    told = re.search(rf'id="{field}-problem" role="alert">([^<]+)<', answer.text)
    assert told, answer.text
    assert words in told[1]
    if field != "scopes":
        control = re.search(rf'<(?:input|select|textarea) id="{field}"[^>]*>', answer.text)
        assert control
        assert 'aria-invalid="true"' in control[0]
        assert f'aria-describedby="{field}-problem' in control[0]
    kept = unescape(answer.text)
    assert all(value in kept for name, value in fields.items() if name not in {"owner", "group_id"})


# Who may


def test_a_member_of_a_group_finds_nothing_else(world: World) -> None:
    """The way in leads to the devices; lists hold the group's; everything of another is 404, whatever the verb."""
    bob = world.bob
    assert bob.get("/").headers["location"] == "/devices"
    header = people.words(bob.get("/devices").text)
    assert "Devices Keys" in header
    assert "Clients" not in header
    assert "near-device" in bob.get("/devices").text
    for path in ("/devices", "/devices/rows", "/keys", "/keys/rows", "/groups", "/keys/new", "/devices/new"):
        text = bob.get(path).text
        assert "far" not in text, path
        assert "van-" not in text, path
    far_key = world.key_id("far")
    gets = ["/devices?group=far", "/keys?group=far", "/keys?device=far-device", "/group?id=far"]
    gets += [f"/device{what}?id=far-device" for what in ("", "/delete")]
    gets += [f"/key{what}?id={far_key}" for what in ("", "/revoke")]
    posts = [
        ("/device?id=far-device", {"name": "stolen"}),
        ("/device/delete?id=far-device", {}),
        (f"/key/rotate?id={far_key}", {"overlap": "0"}),
        (f"/key/revoke?id={far_key}", {}),
        ("/group?id=far", {"name": "stolen"}),
        ("/group/delete?id=far", {}),
    ]
    assert {bob.get(path).status_code for path in gets} == {404}
    assert {bob.post(path, data=fields or {"x": ""}).status_code for path, fields in posts} == {404}
    assert bob.post("/device?id=near-device", data={"group_id": "far"}).status_code == 422
    assert bob.post("/device?id=near-device", data={"group_id": ""}).status_code == 422
    for owner in ("", "group far", "device far-device", "site default"):
        answer = bob.post("/keys/new", data={"name": "x", "owner": owner})
        assert (answer.status_code, 'id="owner-problem"' in answer.text) == (422, True), owner
    answer = bob.post("/keys/new", data={"name": "x", "owner": "group near", "scope clients:read": "on"})
    assert answer.status_code in {403, 422}
    assert world.ada.get("/api/v1/devices/far-device").json()["name"] == ""
    assert status_of(world, world.far) == 200


def test_a_member_of_a_group_works_within_it(world: World) -> None:
    """Registers, changes, and makes keys for the group; but makes and deletes no groups, and sees no sites."""
    bob = world.bob
    assert bob.post("/devices/new", data={"id": "bobs"}).status_code == 303
    assert world.ada.get("/api/v1/devices/bobs").json()["group_id"] == "near"
    made = bob.post("/keys/new", data={"name": "bobs", "owner": "group near", "scope devices:read": "on"})
    secret = re.search(r'id="secret">([^<]+)<', made.text)
    assert secret
    assert [device["id"] for device in world.with_key(secret[1]).get("/api/v1/devices").json()["devices"]] == [
        "bobs",
        "near-device",
    ]
    assert bob.post("/device/delete?id=bobs").status_code == 303
    assert bob.post("/groups", data={"name": "Mine"}).status_code == 403
    assert bob.get("/group/delete?id=near").status_code == 403
    assert bob.post("/group/delete?id=near").status_code == 403
    assert {bob.get(path).status_code for path in ("/sites", "/site?id=default")} == {403}


def test_who_is_not_signed_in_is_led_to_the_sign_in(world: World) -> None:
    """Every page of these; and what a page asks by itself is refused, not redirected."""
    with closing(people.browser(world.server)) as stranger:
        for path in ("/devices", "/device?id=van-00", "/keys", "/keys/new", "/groups", "/sites"):
            answer = stranger.get(path)
            assert answer.status_code == 307, path
            assert answer.headers["location"].startswith("/sign-in"), path
        assert {stranger.get(path).status_code for path in ("/devices/rows", "/keys/rows", "/visits/rows")} == {401}
        assert stranger.post("/device/delete?id=van-00").status_code in {303, 307, 401}
    assert world.ada.get("/device?id=van-00").status_code == 200


def test_another_site_cannot_send_these_forms(world: World) -> None:
    """A form that another origin made the browser send changes nothing, whatever the cookie."""
    for path in (
        "/device/delete?id=van-03",
        "/groups",
        "/keys/new",
        "/site/rotate?id=default",
        "/site/delete?id=default",
    ):
        answer = world.ada.post(path, data={"name": "x"}, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403, path
    assert world.ada.get("/device?id=van-03").status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/devices?status=asleep", 400, "status"),
        ("/devices?cursor=nonsense", 400, "cursor"),
        ("/devices?order=colour", 400, "order"),
        ("/devices?group=nowhere", 404, "group"),
        ("/device?id=nothing", 404, "device"),
        ("/device", 404, "device"),
        ("/device?id=%00", 404, "device"),
        ("/key?id=nothing", 404, "key"),
        ("/keys?cursor=nonsense", 400, "cursor"),
        ("/group?id=nothing", 404, "group"),
        ("/site?id=No+Such", 404, "site"),
        ("/site/delete?id=nothing", 404, "site"),
    ],
)
def test_a_bad_address_is_a_page_that_says_so(world: World, path: str, status: int, words: str) -> None:
    """Whoever mistypes an address reads which part is wrong, and finds the way back."""
    answer = world.ada.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.text
    assert 'href="/"' in answer.text


# For everybody


AWKWARD = "x" * 255


@pytest.fixture
def awkward(world: World) -> Iterator[str]:
    """Register a device with the longest id and an unbreakable name; its page."""
    world.make("devices", id=AWKWARD, name="<b>a" + "b" * 190, group_id="vans", properties={"k" * 40: "v" * 400})
    yield f"/device?id={AWKWARD}"
    assert world.ada.delete(f"/api/v1/devices/{AWKWARD}").is_success


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 360)])
def test_every_page_is_accessible_and_fits(
    world: World, browser: Browser, awkward: str, scheme: Any, width: int
) -> None:
    """No violation that axe knows, light and dark; nothing needs scrolling sideways, also at the most awkward name."""
    window = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    carry_over(world.ada, window, world.server.address)
    page = window.new_page()

    def check(*, looks: bool = True) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        if looks:
            found = Axe().run(page)
            assert found.violations_count == 0, (page.url, found.generate_report())

    key = f"/key?id={world.key_id('near device')}"
    wide = ("/devices?status=online", awkward, "/keys", "/site?id=default")
    narrow = ("/devices?status=never", "/keys?group=near", key, "/groups", "/sites", "/device/delete?id=van-01")
    chosen = wide if width == 1200 else narrow
    for path in dict.fromkeys((*wide, *narrow)):
        page.goto(world.server.address + path)
        check(looks=path in chosen)
    page.goto(f"{world.server.address}/keys/new?group=vans")
    page.get_by_label("Name", exact=True).fill("x")
    page.locator("input[name='scope clients:read']").check()
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#scopes-problem")).to_be_visible()
    check()
    page.locator("input[name='scope clients:read']").uncheck()
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#secret")).to_be_visible()
    check()
    window.close()


def test_the_keyboard_reaches_everything(at: Opened) -> None:
    """Tab goes through skip link, header, filters, search, group and sorting to the rows; Enter follows."""
    page = at("/devices?group=vans")
    reached = []
    for _ in range(26):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    expected = ["skip", "groups", "new", "tab-total", "tab-never", "search", "group", "sort-name", "sort-last_seen"]
    assert [name for name in reached if name in expected] == expected
    page.locator("#tab-never").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("status=never"))


def test_without_a_script_everything_works(world: World, browser: Browser) -> None:
    """Filters, search, group and pages are links and a form; so is a whole life of a device and its key."""
    window = browser.new_context(java_script_enabled=False)
    carry_over(world.ada, window, world.server.address)
    page = window.new_page()
    page.goto(f"{world.server.address}/devices")
    page.locator("#tab-never").click()
    page.locator("#group").select_option("vans")
    page.locator("#search").fill("van-0")
    with page.expect_navigation():
        page.locator("#find").click()
    assert sorted(names(page)) == ["Van 00", "Van 03", "Van 06", "Van 09"]
    page.locator("#new").click()
    page.get_by_label("Id", exact=True).fill("by-hand")
    page.get_by_role("button", name="Register it").click()
    page.locator("#new-key").click()
    page.get_by_label("Name", exact=True).fill("by hand")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#secret")).to_contain_text("ls_")
    page.goto(f"{world.server.address}/device?id=by-hand")
    page.locator("#delete").click()
    page.locator("#confirm").click()
    expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    assert world.ada.get("/api/v1/devices/by-hand").status_code == 404
    window.close()


def test_strange_names_do_no_harm(world: World, at: Opened) -> None:
    """Markup, quotes and template braces are shown as they are; nothing runs."""
    strange = ['<img src=x onerror="document.title=1">', "a'b\"c&amp;", "{{ 7*7 }}", "مرحبا"]
    for number, name in enumerate(strange):
        world.make("devices", id=f"strange {number} {name}", name=name, group_id="far")
    page = at("/devices?search=strange&order=name")
    assert sorted(names(page)) == sorted(strange)
    page.locator("tbody .client a").first.click()
    expect(page.locator("h1")).to_have_text(re.compile("|".join(re.escape(name) for name in strange)))
    assert page.title().endswith("· lastseen")
    for number, name in enumerate(strange):
        assert world.ada.post("/device/delete", params={"id": f"strange {number} {name}"}).status_code == 303


def test_the_pages_are_light(world: World, at: Opened) -> None:
    """Everything that the page loads is under 150 KB, compressed, and comes from this server alone."""
    urls: list[str] = []
    page = at("/devices/new")
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{world.server.address}/devices", wait_until="networkidle")
    assert all(url.startswith(world.server.address) for url in urls)
    weight = 0
    for url in set(urls):
        with world.ada.stream("GET", url, headers={"accept-encoding": "gzip"}) as answer:
            weight += sum(len(piece) for piece in answer.iter_raw())
    assert 5_000 < weight < PAGE_WEIGHT


def test_rows_are_not_sent_again(world: World) -> None:
    """A page that shows what is current already is answered 304, and that is no activity of a person."""
    for path in ("/devices/rows?group=vans&status=never", "/keys/rows?group=vans"):
        tag = world.ada.get(path).headers["etag"]
        again = world.ada.get(path, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
