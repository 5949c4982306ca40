"""The whole matrix over HTTP: method, `Sec-Fetch-Site`, `Origin`, kind of credential; the same answer everywhere."""

from __future__ import annotations

import itertools

import pytest

from tests.web.sessions import naive
from tests.web.sessions.browser import Browser
from tests.web.sessions.conftest import Stack
from tests.web.sessions.serving import Switch
from tests.web.sessions.world import ORIGIN, World

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SITES = (None, "same-origin", "same-site", "cross-site", "none")
ORIGINS = (None, ORIGIN, "https://evil.example", "null")
CREDENTIALS = ("none", "cookie", "bearer", "both")


# Hundreds of requests: traced they take twice as long, and the others run the same lines.
@pytest.mark.no_cover
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_only_this_site_may_use_the_cookie(browser: Browser, credential: str) -> None:
    """Every combination: 403 with problem details for a cookie from elsewhere, and all else passes."""
    headers: dict[str, str | None] = {"Cookie": None, "Authorization": None}
    if credential == "bearer":
        headers["Authorization"] = f"Bearer {browser.post('/login?name=alice&kind=bearer').json()['token']}"
    elif credential != "none":
        browser.post("/login?name=alice")
        headers["Cookie"] = f"__Host-id={browser.token}"
        headers["Authorization"] = f"Bearer {browser.token}" if credential == "both" else None
    user = None if credential == "none" else "alice"
    for method, site, origin in itertools.product(METHODS, SITES, ORIGINS):
        answer = browser.ask(method, "/who", {**headers, "Sec-Fetch-Site": site, "Origin": origin})
        own = site in {"same-origin", "none"} or (site is None and origin == ORIGIN)
        if method == "GET" or credential in {"none", "bearer"} or own:
            assert (answer.status, answer.json()) == (200, {"user": user}), (method, site, origin)
        else:
            assert (answer.status, answer.json()["code"]) == (403, "cross_site_request"), (method, site, origin)
            assert (answer.cookies, answer.header("content-type")) == ([], "application/problem+json")


def test_a_naive_application_acts_for_another_site(wsgi_switch: Switch) -> None:
    """The negative control: the cookie alone is enough there."""
    wsgi_switch.app = naive.NaiveApp()
    browser = Browser(wsgi_switch.port, strict=False)
    browser.post("/login?name=alice")
    forged = browser.post("/who", Sec_Fetch_Site="cross-site", Origin="https://evil.example")
    assert (forged.status, forged.json()) == (200, {"user": "alice"})


def test_a_trusted_origin_may(stack: Stack) -> None:
    """It is named by an option; its neighbours may not."""
    stack.serve(World(trusted_origins=["https://admin.example"]))
    browser = stack.browser()
    browser.post("/login?name=alice")
    sent = {"Sec_Fetch_Site": "cross-site"}
    assert browser.post("/who", Origin="https://admin.example", **sent).status == 200
    assert browser.post("/who", Origin="https://www.admin.example", **sent).status == 403


def test_an_exempt_path_is_asked_without_its_session(stack: Stack) -> None:
    """A callback from another site gets through, but as nobody, so that it ends nothing; on other paths it does not."""
    stack.serve(World(csrf_exempt=["/who", "/logout"]))
    browser = stack.browser()
    browser.post("/login?name=alice")
    elsewhere = {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"}
    assert browser.post("/who", **elsewhere).json() == {"user": None}
    assert browser.post("/logout", **elsewhere).json() == {"ended": False}
    assert browser.post("/private", **elsewhere).status == 403
    assert browser.post("/who").json() == {"user": "alice"}


def test_people_get_a_page(browser: Browser) -> None:
    """The refusal is HTML for a browser that navigates."""
    browser.post("/login?name=alice")
    answer = browser.post("/who", Sec_Fetch_Site="cross-site", Origin="https://evil.example", Accept="text/html")
    assert (answer.status, answer.header("content-type")) == (403, "text/html; charset=utf-8")
    assert "another site" in answer.text
