"""Accounts in two real browsers, from the set-up link to a device that is signed out from the other one."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.server import people
from tests.server.running import ServerProcess

# One server a module, and a module a process.
pytestmark = pytest.mark.xdist_group("server-accounts-page")


def fill(page: Page, name: str | None, password: str) -> None:
    if name is not None:
        page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)


def test_from_the_set_up_to_a_revoked_device(new_server: ServerProcess, page: Page, browser: Browser) -> None:
    """The whole journey: set up, sign in elsewhere, see both devices, sign the other out; the trail shows it."""
    page.goto(new_server.address)
    page.get_by_role("link", name="Set up an account").click()
    expect(page.get_by_role("heading")).to_have_text("Set up an account")
    page.goto(new_server.address + people.set_up_link(new_server))
    fill(page, "ada", people.PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page.locator("#connection")).to_have_text("Live")

    phone = browser.new_context(java_script_enabled=False, user_agent="Mozilla/5.0 (iPhone) Safari/605").new_page()
    phone.goto(f"{new_server.address}/audit")
    fill(phone, "ada", "a wrong password")
    phone.get_by_role("button", name="Sign in").click()
    expect(phone.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    fill(phone, None, people.PASSWORD)
    phone.get_by_role("button", name="Sign in").click()
    expect(phone.get_by_role("heading", name="Audit trail")).to_be_visible()

    page.get_by_role("link", name="ada").click()
    expect(page.locator(".list li")).to_have_count(2)
    expect(page.locator(".list li", has_text="this device")).to_contain_text("Linux")
    page.locator(".list li", has_text="Safari on iPhone").get_by_role("button").click()
    expect(page.locator(".list li")).to_have_count(1)

    phone.reload()
    expect(phone.get_by_role("heading")).to_have_text("Sign in")
    phone.context.close()

    page.get_by_role("link", name="Audit trail").click()
    expect(page.locator(".trail li").first).to_contain_text("session revoked")
    expect(page.locator(".trail li").first).to_contain_text("Safari on iPhone")
    expect(page.locator(".trail")).to_contain_text("sign-in failed")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("Sign in")
    page.go_back()
    expect(page.get_by_role("heading")).to_have_text("Sign in")


def test_an_open_page_notices_that_it_was_signed_out(new_server: ServerProcess, browser: Browser) -> None:
    """A page that keeps itself current goes to the sign-in by itself when its session has ended elsewhere."""
    with closing(people.set_up(new_server)) as ada:
        window = browser.new_context()
        page = window.new_page()
        page.goto(f"{new_server.address}/sign-in")
        fill(page, "ada", people.PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#connection")).to_have_text("Live")
        assert ada.post("/account/devices/revoke-others").status_code == 303
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        window.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_every_page_is_accessible_and_fits(
    new_server: ServerProcess, browser: Browser, scheme: str, width: int
) -> None:
    """No violation that axe knows, light and dark; nothing needs scrolling sideways, on a phone neither."""
    window = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = window.new_page()

    def check() -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url

    def follow(role: Any, name: str) -> None:
        with page.expect_navigation():
            page.get_by_role(role, name=name).first.click()

    page.goto(new_server.address + people.set_up_link(new_server))
    check()
    fill(page, "a-rather-long-name-that-is-one-word-and-must-not-break-the-page", "twelve letters and more")
    follow("button", "Create the account")
    for path in ("/", "/account/devices", "/account/password", "/users", "/audit"):
        page.goto(new_server.address + path)
        check()
    page.goto(f"{new_server.address}/users")
    page.get_by_label("Name", exact=True).fill("Bob")
    follow("button", "Add user")
    check()
    follow("link", "Done")
    check()
    follow("button", "Sign out")
    fill(page, "nobody", "a wrong password")
    follow("button", "Sign in")
    check()
    window.close()
