"""The page to try the API, in a real browser."""

from __future__ import annotations

from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.server import people
from tests.server.running import ServerProcess

# One server a module, and a module a process.

PAGE = "/api/v1/docs"


def test_the_page_lists_and_tries_operations(server: ServerProcess, page: Page) -> None:
    """Every operation is there; one is sent and its answer shown. Nothing is refused by the page's own policy."""
    page.goto(f"{server.address}{PAGE}")
    expect(page.get_by_role("heading", name="lastseen")).to_be_visible()
    page.locator("#operations-groups-CreateGroup").get_by_role("button").first.click()
    operation = page.locator("#operations-groups-CreateGroup")
    operation.get_by_role("textbox").last.fill('{"name": "Made in a browser", "id": "browser"}')
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("201")
    assert server.http.get("/api/v1/groups/browser").json()["name"] == "Made in a browser"


@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_is_accessible(new_server: ServerProcess, page: Page, width: int) -> None:
    """axe-core finds nothing in what Swagger UI draws, open and answered; nothing scrolls the page sideways."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{new_server.address}{PAGE}")
    operation = page.locator("#operations-groups-CreateGroup")
    operation.get_by_role("button").first.click()
    operation.get_by_role("textbox").last.fill('{"name": "Made in a browser", "id": "browser"}')
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("201")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_keeps_the_policy(server: ServerProcess) -> None:
    """Scripts and styles come from this server alone, none is inline; only pictures may be in the style sheet."""
    answer = server.http.get(PAGE)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy == server.http.get("/").headers["content-security-policy"].replace(
        "img-src 'self'", "img-src 'self' data:"
    )
    assert "//" not in answer.text.replace("http://www.w3.org", "")


def test_the_page_is_for_who_is_signed_in(new_server: ServerProcess) -> None:
    """A browser is sent to the sign-in page; a program is told what to send."""
    with closing(people.set_up(new_server)) as ada:
        assert ada.get(PAGE).status_code == 200
        with people.browser(new_server) as stranger:
            sent = stranger.get(PAGE)
            assert (sent.status_code, sent.headers["location"].partition("?")[0]) == (307, "/sign-in")
        assert new_server.http.get(PAGE).status_code == 401
        assert new_server.http.get("/api/v1/openapi.json").status_code == 401
