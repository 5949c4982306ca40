"""Chromium on what these tests rely on: how it reads addresses, keeps cookies, and says where it comes from."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser as Chromium

from lastseen.sessions.cookie import Cookie
from lastseen.sessions.credentials import CookieSource
from lastseen.sessions.redirect import safe_redirect
from lastseen.web.sessions import WebSessions
from tests.server.conftest import browser as _chromium
from tests.sessions.test_redirect import ATTACKS, ATTACKS_ON_WHOM_WE_REDIRECT, GOOD, OWN, browsers_origin
from tests.web.sessions.apps import flask_app
from tests.web.sessions.serving import Switch
from tests.web.sessions.world import World

chromium = _chromium

WHERE_TO = """([targets, base]) => targets.map(target => {
    try { return new URL(target, base + "/login").origin } catch { return "refused" }
})"""
SEND_FORM = """action => {
    const form = document.createElement("form")
    form.method = "post"; form.action = action
    document.body.append(form); form.submit()
}"""
PERSISTENT = CookieSource(cookie=Cookie(name="id", plain_http_on_localhost=True), persistent=True)


@pytest.fixture
def world(wsgi_switch: Switch) -> World:
    """Serve an application for development over plain http."""
    world = World(credentials=PERSISTENT)
    world.sessions = WebSessions(world.manager, credentials=PERSISTENT, login_url="/login")
    wsgi_switch.app = flask_app.build(world)
    return world


def test_addresses_are_read_as_these_tests_say(chromium: Chromium) -> None:
    """No vector that is refused was harmless by mistake, and what is let through stays here, in Chromium too."""
    page = chromium.new_page()
    targets = [*ATTACKS, *GOOD]
    found = dict(zip(targets, page.evaluate(WHERE_TO, [targets, OWN]), strict=True))
    page.close()
    led_away = [target for target in ATTACKS if found[target] not in {OWN, "refused"}]
    assert len(led_away) >= 35
    assert {found[target] for target in GOOD} == {OWN}
    harmless_here = [target for target in ATTACKS if browsers_origin(target) == OWN]
    assert {found[target] for target in harmless_here} <= {OWN, "refused"}
    kept = {safe_redirect(target, "/") for target in [*ATTACKS, *ATTACKS_ON_WHOM_WE_REDIRECT]}
    assert kept == {"/"}


def test_a_login_in_chromium(chromium: Chromium, world: World, wsgi_switch: Switch) -> None:
    """Sent to the login page, signed in by a form, known; no script sees the cookie; signed out, it is gone."""
    context = chromium.new_context()
    page = context.new_page()
    here = f"http://localhost:{wsgi_switch.port}"
    page.goto(f"{here}/private")
    assert page.url == f"{here}/login?next=/private"
    with page.expect_navigation():
        page.evaluate(SEND_FORM, "/login?name=alice&next=/private")
    assert '"to":"/private"' in page.inner_text("body")
    page.goto(f"{here}/private")
    assert '"alice"' in page.inner_text("body")
    [cookie] = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("id", True, "Lax")
    assert page.evaluate("document.cookie") == ""
    with page.expect_navigation():
        page.evaluate(SEND_FORM, "/logout")
    assert '"ended":true' in page.inner_text("body")
    assert context.cookies() == []
    context.close()


def test_a_form_of_another_site_in_chromium(chromium: Chromium, world: World, wsgi_switch: Switch) -> None:
    """It can neither sign anybody in, nor out, nor act: Chromium says where the form was."""
    context = chromium.new_context()
    page = context.new_page()
    here, elsewhere = f"http://localhost:{wsgi_switch.port}", f"http://127.0.0.1:{wsgi_switch.port}"
    page.goto(f"{elsewhere}/public")
    with page.expect_navigation():
        page.evaluate(SEND_FORM, f"{here}/login?name=attacker")
    assert "another site" in page.inner_text("body")
    page.goto(f"{here}/login")
    with page.expect_navigation():
        page.evaluate(SEND_FORM, "/login?name=alice")
    page.goto(f"{elsewhere}/public")
    with page.expect_navigation():
        page.evaluate(SEND_FORM, f"{here}/logout")
    page.goto(f"{here}/private")
    assert '"alice"' in page.inner_text("body")
    context.close()
