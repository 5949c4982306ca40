"""The pages of API keys, groups and sites, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from lastseen.devices.key import Scope
from tests.server.looking import DEVICES, Opened, audit, fleet, opener, status_of
from tests.server.running import eventually
from tests.server.world import World

# One server a module, and a module a process.


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Fill a server with two of everything, and sixty vans."""
    with fleet(tmp_path_factory.mktemp("devices")) as world:
        yield world


@pytest.fixture
def at(world: World, page: Page, context: BrowserContext) -> Opened:
    """Return what opens a path as the administrator."""
    return opener(world, page, context)


# Keys


def test_a_key_from_its_making_to_its_end(world: World, at: Opened) -> None:
    """The secret is shown once and works; its successor too, beside it; revoked, both are refused; the trail tells."""
    page = at("/device?id=van-02")
    page.locator("#new-key").click()
    expect(page.get_by_label("Belongs to")).to_have_value("device van-02")
    page.get_by_label("Name", exact=True).fill("Van two")
    page.locator("input[name='scope devices:read']").check()
    with page.expect_response(lambda answer: answer.request.method == "POST") as made:
        page.get_by_role("button", name="Make the key").click()
    first = page.locator("#secret").inner_text()
    assert re.fullmatch(r"ls_\w{8}_[\w-]{43}", first)
    assert (made.value.status, made.value.headers["cache-control"]) == (200, "no-store")
    assert first not in page.url
    assert status_of(world, first) == 200

    page.locator("#done").click()
    expect(page.locator(".heading .status")).to_have_text("valid")
    assert first not in page.content()
    old_address = page.url
    page.get_by_label("The old secret ends").select_option("in an hour")
    page.locator("#rotate").click()
    second = page.locator("#secret").inner_text()
    assert second != first
    expect(page.locator("#old")).to_contain_text(first[3:11])
    assert (status_of(world, first), status_of(world, second)) == (200, 200)

    for address in (page.locator("#done").get_attribute("href") or "", old_address.removeprefix(world.server.address)):
        at(address)
        page.locator("#revoke").click()
        page.locator("#confirm").click()
        expect(page.locator(".heading .status")).to_have_text("revoked")
        expect(page.locator("#rotate")).to_have_count(0)
    assert (status_of(world, first), status_of(world, second)) == (401, 401)

    at("/keys?device=van-02")
    expect(page.locator("tbody .status")).to_have_text(["revoked", "revoked"])
    expect(page.locator("tbody .seen time")).to_have_count(2)
    trail = audit(world)
    for words in ("API key created Van two", "API key rotated Van two", "API key revoked Van two"):
        assert words in trail
    for place in (trail, world.server.log, world.ada.get("/keys").text):
        assert first not in place
        assert second not in place


def test_keys_are_filtered_by_status(world: World, at: Opened) -> None:
    """A click shows what is valid, expired or revoked, of what is shown already; the address and the JSON say so."""
    for name in ("stays", "rotated", "revoked"):
        world.key(name, scopes={Scope.DEVICES_READ}, device_id="van-04")
    world.ada.post(f"/api/v1/keys/{world.key_id('rotated')}/rotate", json={"overlap_seconds": 0})
    keys = world.ada.get("/api/v1/keys?device_id=van-04").json()["keys"]
    world.ada.delete(f"/api/v1/keys/{next(key['id'] for key in keys if key['name'] == 'revoked')}")
    page = at("/keys?device=van-04")
    expect(page.locator("#status-all")).to_have_attribute("aria-current", "page")
    for status, expected in {"valid": ["rotated", "stays"], "expired": ["rotated"], "revoked": ["revoked"]}.items():
        page.locator(f"#status-{status}").click()
        expect(page.locator("tbody .client a")).to_have_text(expected)
        expect(page.locator(f"#status-{status}")).to_have_attribute("aria-current", "page")
        assert page.url.endswith(f"/keys?device=van-04&status={status}")
        answer = world.ada.get(page.locator(".json a").first.get_attribute("href") or "").json()
        assert [key["name"] for key in answer["keys"]] == expected
    page.locator("#status-all").click()
    expect(page.locator("tbody .client a")).to_have_count(4)
    at("/keys?device=van-05&status=expired")
    expect(page.locator("#none")).to_contain_text("No key matches")
    assert world.ada.get("/keys?status=lost").status_code == 400


def test_a_rotation_at_once_ends_the_old_key(world: World) -> None:
    """The overlap is what was chosen from the list; another one is refused and changes nothing."""
    secret = world.key("short", scopes=["devices:read"])  # type: ignore[list-item]  # their names do
    key_id = world.key_id("short")
    assert world.ada.post(f"/key/rotate?id={key_id}", data={"overlap": "5"}).status_code == 422
    assert status_of(world, secret) == 200
    assert world.ada.post(f"/key/rotate?id={key_id}", data={"overlap": "0"}).status_code == 200
    assert status_of(world, secret) == 401


def test_the_day_on_which_a_key_expires(world: World) -> None:
    """It is the last second of the day that was chosen, and the list shows that day."""
    fields = {"name": "until", "expires": "2099-02-28", "scope devices:read": "on"}
    assert world.ada.post("/keys/new", data=fields).status_code == 200
    key = next(key for key in world.ada.get("/api/v1/keys").json()["keys"] if key["name"] == "until")
    assert (key["expires_at"], key["scopes"]) == ("2099-02-28T23:59:59Z", ["devices:read"])
    assert ">2099-02-28<" in world.ada.get("/keys").text


# Groups and sites


def test_a_group_from_its_making_to_its_end(world: World, at: Opened) -> None:
    """Made, renamed, its devices counted, deleted after a second question: the device stays, in no group."""
    page = at("/groups")
    expect(page.locator(".list li", has_text="Vans")).to_contain_text(f"{DEVICES} devices")
    page.get_by_label("Name", exact=True).fill("Tillls")
    page.get_by_label("Id", exact=True).fill("tills")
    page.get_by_role("button", name="Make the group").click()
    page.get_by_label("Name", exact=True).fill("Tills")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Tills")).to_be_visible()
    world.make("devices", id="till-1", group_id="tills")
    page.locator("#devices").click()
    expect(page.locator("tbody .client a")).to_have_text(["till-1"])
    page.go_back()
    page.locator("#delete").click()
    page.locator("#confirm").click()
    expect(page.get_by_role("heading", name="Groups", exact=True)).to_be_visible()
    expect(page.locator(".list")).not_to_contain_text("Tills")
    assert world.ada.get("/api/v1/devices/till-1").json()["group_id"] is None
    trail = audit(world)
    assert "group of devices renamed Tills by ada, was Tillls" in trail
    assert "group of devices deleted Tills" in trail


def test_a_site_from_its_making_to_a_new_write_key(world: World, at: Opened) -> None:
    """The line to paste names the key; the rule is what was chosen; a new key takes the place of the old one."""
    page = at("/sites")
    page.get_by_label("Id", exact=True).fill("shop")
    page.get_by_label("Domains").fill("shop.example, pay.example")
    page.get_by_role("button", name="Make the site").click()
    key = page.locator("#write-key").inner_text()
    line = f'<script defer src="{world.server.address}/lastseen.js" data-site="{key}"></script>'
    expect(page.locator("#script-line")).to_have_text(line)
    page.get_by_label("Name", exact=True).fill("The shop")
    page.get_by_label("A visit ends after a silence of").fill("45m")
    page.get_by_label("when somebody comes from another site").uncheck()
    page.get_by_label("Visitors come back from").fill("bank.example")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="The shop")).to_be_visible()
    site = world.ada.get("/api/v1/sites/shop").json()
    assert site["domains"] == ["shop.example", "pay.example"]
    rule = site["rule"]
    assert (rule["timeout_seconds"], rule["max_duration_seconds"]) == (2_700, 86_400)
    assert (rule["new_visit_on_referrer_change"], rule["new_visit_on_utm_change"]) == (False, True)
    assert rule["excluded_referrers"] == ["bank.example"]
    page.locator("#rotate").click()
    page.locator("#confirm").click()
    expect(page.locator("#write-key")).not_to_have_text(key)
    trail = audit(world)
    for words in ("site created shop", "site changed The shop", "write key replaced The shop"):
        assert words in trail


def test_a_deleted_site_leaves_its_visits(world: World, at: Opened) -> None:
    """The question says so; its write key is refused then, and a site with the same id shows the visits again."""
    event = {"name": "$pageview", "url": "https://gone.example/", "distinct_id": "hello"}
    made = world.make("sites", id="gone", name="Gone")
    sent = world.server.http.post("/api/v1/events", json={**event, "write_key": made["write_key"]})
    assert sent.status_code == 200, sent.text
    page = at("/site?id=gone")
    page.locator("#delete").click()
    expect(page.locator("main")).to_contain_text("visits and events are not deleted")
    page.get_by_role("link", name="Keep it").click()
    page.locator("#delete").click()
    page.locator("#confirm").click()
    expect(page.get_by_role("heading", name="Sites")).to_be_visible()
    expect(page.locator("#site-gone")).to_have_count(0)
    assert "site deleted Gone by ada" in audit(world)
    late = {**event, "write_key": made["write_key"]}
    eventually(lambda: world.server.http.post("/api/v1/events", json=late).status_code == 401, "it is refused")
    for path in ("visits", "visits/count", "events", "reports/visits"):
        assert world.ada.get(f"/api/v1/{path}?site=gone").status_code == 404
    world.make("sites", id="gone")
    assert world.ada.get("/api/v1/visits/count?site=gone").json() == {"count": 1}
