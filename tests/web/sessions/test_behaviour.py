"""What every framework does alike, seen by a browser or a program over HTTP."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from lastseen.sessions.cookie import Cookie
from lastseen.sessions.credentials import CookieSource
from lastseen.sessions.token import new_token
from tests.web.sessions.browser import HTML, Browser
from tests.web.sessions.conftest import Stack
from tests.web.sessions.world import World


def test_from_sign_in_to_sign_out(browser: Browser, world: World) -> None:
    """Anonymous, signed in with one cookie, known, signed out and forgotten."""
    assert browser.get("/who").json() == {"user": None}
    signed_in = browser.post("/login?name=alice")
    assert signed_in.status == 200
    assert [cookie.name for cookie in signed_in.cookies] == ["__Host-id"]
    assert browser.get("/who").json() == browser.get("/private").json() == {"user": "alice"}
    signed_out = browser.post("/logout")
    assert (signed_out.json(), signed_out.cookies[0].deletes) == ({"ended": True}, True)
    assert browser.token is None
    assert browser.get("/private").status == 401
    assert world.kinds() == ["signed_in", "revoked"]


def test_a_cookie_is_set_only_when_a_session_begins_changes_or_ends(browser: Browser) -> None:
    """Requests that only use the session set nothing, not even one that extends it."""
    browser.post("/login?name=alice")
    assert browser.get("/private").cookies == []
    assert browser.post("/private").cookies == []
    assert [cookie.deletes for cookie in browser.post("/rotate").cookies] == [False]
    assert browser.get("/public").cookies == []
    assert [cookie.deletes for cookie in browser.post("/logout").cookies] == [True]
    assert browser.post("/logout").cookies == []


@pytest.mark.parametrize("token", ["A" * 43, "guess", "x" * 4000, "ünïcode".encode().decode("latin-1")])
def test_a_token_of_no_session_is_anonymous_and_cleared(browser: Browser, world: World, token: str) -> None:
    """Whatever it looks like: unknown, malformed, long, not even ASCII."""
    answer = browser.get("/who", Cookie=f"__Host-id={token}")
    assert answer.json() == {"user": None}
    assert [(cookie.name, cookie.deletes) for cookie in answer.cookies] == [("__Host-id", True)]
    assert world.kinds() == ["refused"]


def test_a_session_expires_for_want_of_activity(
    browser: Browser, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Anonymous from the instant of the deadline on, the cookie cleared, a line in the log at debug."""
    browser.post("/login?name=alice")
    world.clock.advance(minutes=59, seconds=59)
    token = browser.token
    with caplog.at_level(logging.DEBUG, "lastseen"):
        world.sessions.refresh = False
        assert browser.get("/private").status == 200
        world.clock.advance(1)
        expired = browser.get("/private")
    assert (expired.status, expired.cookies[0].deletes, browser.token) == (401, True, None)
    assert token is not None
    [line] = [record for record in caplog.records if record.getMessage().startswith("session idle expired")]
    assert line.levelno == logging.DEBUG
    assert world.kinds() == ["signed_in", "expired"]


def test_a_session_expires_whatever_happens(browser: Browser, world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Activity extends it up to the absolute deadline, where it ends with a warning."""
    browser.post("/login?name=alice")
    for _ in range(26):
        world.clock.advance(minutes=55)
        assert browser.get("/private").status == 200
    world.clock.advance(minutes=24 * 60 - 26 * 55)
    assert browser.get("/private").status == 401
    [line] = [record for record in caplog.records if record.getMessage().startswith("session absolute expired")]
    assert line.levelno == logging.WARNING


def test_a_store_that_is_away_signs_nobody_out(
    browser: Browser, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """503 and a line in the log, the cookie stays; when the store is back, so is the session."""
    browser.post("/login?name=alice")
    world.store.broken = True
    refused = browser.get("/private")
    assert (refused.status, refused.header("retry-after"), refused.cookies) == (503, "5", [])
    assert refused.json()["code"] == "store_unavailable"
    [line] = [record for record in caplog.records if record.getMessage().startswith("get session")]
    assert line.levelno == logging.ERROR
    world.store.broken = False
    assert browser.get("/private").status == 200


def test_a_request_without_credential_asks_no_store(browser: Browser, world: World) -> None:
    """So a store that is away does not matter to it."""
    world.store.broken = True
    assert browser.get("/public").status == browser.get("/who").status == 200
    assert world.store.reads == 0


def test_a_second_middleware_does_not_authenticate_again(stack: Stack) -> None:
    """One read, one cookie, one `Vary`, however often the middleware is in the stack."""
    world = stack.serve(twice=True)
    browser = stack.browser()
    assert len(browser.post("/login?name=alice").cookies) == 1
    before = world.store.reads
    answer = browser.get("/private")
    assert answer.status == 200
    assert world.store.reads == before + 1
    assert (answer.header("vary") or "").lower().count("authorization") == 1


def test_requests_extend_the_session_near_its_end_only(browser: Browser, world: World) -> None:
    """The default threshold is ten minutes; what is further away costs no write."""
    session_id = browser.post("/login?name=alice").json()["session"]

    def deadline() -> timedelta:
        session = world.store.get_session(session_id)
        assert session is not None
        return session.idle_deadline - world.clock.utc()

    world.clock.advance(minutes=49)
    browser.get("/private")
    assert deadline() == timedelta(minutes=11)
    world.clock.advance(minutes=2)
    assert browser.get("/private").cookies == []
    assert deadline() == timedelta(hours=1)


def test_a_persistent_cookie_lasts_as_long_as_the_session(stack: Stack) -> None:
    """It is written again when the deadline moves, and not otherwise."""
    world = stack.serve(World(credentials=CookieSource(persistent=True)))
    browser = stack.browser()
    [cookie] = browser.post("/login?name=alice").cookies
    assert cookie.attributes["max-age"] == "3600"
    assert browser.get("/private").cookies == []
    world.clock.advance(minutes=51.001)
    [cookie] = browser.get("/private").cookies
    assert (cookie.attributes["max-age"], cookie.value) == ("3600", browser.token)


def test_without_refresh_requests_only_read(stack: Stack) -> None:
    """The session ends an hour after it began."""
    world = stack.serve(World(refresh=False))
    browser = stack.browser()
    browser.post("/login?name=alice")
    world.clock.advance(minutes=59)
    assert browser.get("/private").status == 200
    world.clock.advance(minutes=1)
    assert browser.get("/private").status == 401


def test_programs_are_told_to_sign_in(browser: Browser) -> None:
    """401 with problem details and the challenge of the scheme that would help; an invalid token is called so."""
    answer = browser.get("/private")
    assert (answer.status, answer.header("content-type")) == (401, "application/problem+json")
    assert answer.json() == {
        "status": 401,
        "title": "Unauthorized",
        "detail": "Sign in first.",
        "code": "session_required",
    }
    assert answer.header("www-authenticate") == "Bearer"
    invalid = browser.get("/private", Authorization=f"Bearer {new_token()}")
    assert (invalid.status, invalid.header("www-authenticate")) == (401, 'Bearer error="invalid_token"')


def test_browsers_are_sent_to_the_login_page_and_back(stack: Stack) -> None:
    """307 with the way back, remembered in a short-lived cookie too, which is gone after signing in."""
    stack.serve(World(login_url="/login"))
    browser = stack.browser()
    sent = browser.get("/private?tab=2&x=%C3%A4", Accept=HTML)
    assert (sent.status, sent.header("location")) == (307, "/login?next=/private%3Ftab%3D2%26x%3D%25C3%25A4")
    [cookie] = sent.cookies
    assert (cookie.name, cookie.attributes["max-age"], sent.header("cache-control")) == (
        "__Host-next",
        "600",
        "no-store",
    )
    signed_in = browser.post("/login?name=alice")
    assert signed_in.json()["to"] == "/private?tab=2&x=%C3%A4"
    assert set(browser.jar) == {"__Host-id"}


def test_only_people_at_a_browser_are_sent_to_the_login_page(stack: Stack) -> None:
    """Programs get 401; a form that was sent is not sent on to the login page."""
    stack.serve(World(login_url="/login"))
    browser = stack.browser()
    assert browser.get("/private").status == 401
    assert browser.get("/private", Accept="*/*").status == 401
    assert browser.get("/private", Accept="text/html;q=0, application/json").status == 401
    form = browser.post("/private", Accept=HTML)
    assert (form.status, form.header("location"), form.cookies) == (303, "/login?next=/", [])


def test_names_of_the_way_back_are_options(stack: Stack) -> None:
    """Parameter, cookie and login page; the page may have a query of its own."""
    stack.serve(World(login_url="/login?lang=en", next_parameter="back", next_cookie="back"))
    browser = stack.browser()
    sent = browser.get("/private", Accept=HTML)
    assert (sent.header("location"), sent.cookies[0].name) == ("/login?lang=en&back=/private", "__Host-back")
    assert browser.post("/login?name=alice&back=/devices").json()["to"] == "/devices"


def test_everything_but_what_is_public_can_require_a_session(stack: Stack) -> None:
    """The login page is public by itself."""
    stack.serve(World(login_url="/login"), require=True, public=("/publ*",))
    browser = stack.browser()
    assert [browser.get(path).status for path in ("/public", "/login", "/who", "/devices")] == [200, 200, 401, 401]
    assert browser.get("/who", Accept=HTML).status == 307
    browser.post("/login?name=alice")
    assert browser.get("/who").status == 200


def test_a_sensitive_action_needs_a_recent_sign_in(browser: Browser, world: World) -> None:
    """403 with a code for programs; proving again who one is opens it."""
    assert browser.post("/sudo").status == 401
    browser.post("/login?name=alice")
    assert browser.post("/sudo").status == 200
    world.clock.advance(minutes=5)
    assert browser.get("/private").status == 200
    refused = browser.post("/sudo")
    assert (refused.status, refused.json()["code"], refused.json()["max_age"]) == (403, "recent_sign_in_required", 300)
    assert browser.post("/reauthenticate").status == 200
    assert browser.post("/sudo").status == 200


@pytest.mark.parametrize("path", ["/rotate", "/reauthenticate"])
def test_a_new_token_kills_the_old_one(browser: Browser, path: str) -> None:
    """Same session, other token; whoever has the old one is anonymous."""
    session_id = browser.post("/login?name=alice").json()["session"]
    old = browser.token
    assert browser.post(path).json()["session"] == session_id
    assert browser.token != old
    assert browser.get("/private").status == 200
    assert browser.get("/private", Cookie=f"__Host-id={old}").status == 401


def test_signing_in_again_ends_the_session_before(browser: Browser, world: World) -> None:
    """Also when somebody else signs in at the same browser: nothing is left behind."""
    first = browser.post("/login?name=alice").json()["session"]
    second = browser.post("/login?name=bob").json()["session"]
    assert browser.get("/who").json() == {"user": "bob"}
    assert (world.store.get_session(first), world.store.get_session(second) is None) == (None, False)


def test_a_bearer_token_is_the_applications_to_hand_out(browser: Browser, world: World) -> None:
    """It is in the body once, works in the header, is renewed in the body, and ends."""
    token = browser.post("/login?name=alice&kind=bearer").json()["token"]
    assert browser.get("/private").status == 401
    assert browser.get("/private", Authorization=f"bearer {token}").json() == {"user": "alice"}
    renewed = browser.post("/rotate", Authorization=f"Bearer {token}").json()["token"]
    assert browser.get("/private", Authorization=f"Bearer {token}").status == 401
    assert browser.post("/logout", Authorization=f"Bearer {renewed}").json() == {"ended": True}
    assert browser.get("/private", Authorization=f"Bearer {renewed}").status == 401
    assert [answer.cookies for answer in browser.answers] == [[]] * len(browser.answers)


def test_each_kind_of_credential_has_its_own_deadlines(browser: Browser, world: World) -> None:
    """A cookie's session is gone after an hour; that of a native application is not after a week."""
    token = browser.post("/login?name=alice&kind=bearer").json()["token"]
    browser.post("/login?name=alice")
    world.clock.advance(days=7)
    assert browser.get("/private", Cookie=None, Authorization=f"Bearer {token}").status == 200
    assert browser.get("/private").status == 401


def test_signing_out_is_by_post_only(browser: Browser) -> None:
    """A link or an image signs nobody out."""
    browser.post("/login?name=alice")
    refused = browser.get("/logout")
    assert (refused.status, refused.header("allow"), refused.json()["code"]) == (405, "POST", "post_required")
    assert browser.get("/private").status == 200


def test_signing_out_can_clear_what_the_site_stored(stack: Stack) -> None:
    """On request, and only then."""
    stack.serve(World(clear_site_data=True))
    browser = stack.browser()
    assert browser.post("/login?name=alice").header("clear-site-data") is None
    assert browser.post("/logout").header("clear-site-data") == '"cache", "cookies", "storage"'
    stack.serve()
    plain = stack.browser()
    plain.post("/login?name=alice")
    assert plain.post("/logout").header("clear-site-data") is None


def test_private_answers_are_not_stored(browser: Browser) -> None:
    """`Vary` and `no-store` on what depends on a credential; neither on what does not."""
    untouched = browser.get("/public")
    assert (untouched.header("cache-control"), untouched.vary) == (None, set())
    anonymous = browser.get("/who")
    assert anonymous.vary == {"cookie", "authorization"}
    for answer in (browser.post("/login?name=alice"), browser.get("/private"), browser.get("/public")):
        assert (answer.header("cache-control"), answer.vary >= {"cookie", "authorization"}) == ("no-store", True)


def test_what_the_application_says_of_caching_stays(browser: Browser) -> None:
    """Its `Cache-Control` is kept, and to its `Vary` is added."""
    browser.post("/login?name=alice")
    answer = browser.get("/shared")
    assert answer.header("cache-control") == "private, max-age=60"
    assert answer.vary == {"accept", "cookie", "authorization"}


def test_no_store_can_be_replaced(stack: Stack) -> None:
    """By another value, or by nothing."""
    for value in ("private", None):
        stack.serve(World(cache_control=value))
        assert stack.browser().post("/login?name=alice").header("cache-control") == value


def test_the_devices_of_a_user(browser: Browser, served: Stack, world: World) -> None:
    """The list shows what is useful and no secret; one of them can be ended from another."""
    browser.post(
        "/login?name=alice", User_Agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    )
    world.clock.advance(60)
    phone = served.browser()
    phone.post("/login?name=alice", User_Agent="curl/8.1")
    devices = phone.get("/devices").json()
    assert [(each["device"], each["address"], each["current"]) for each in devices] == [
        ("curl", "127.0.0.0", True),
        ("Firefox on Linux", "127.0.0.0", False),
    ]
    assert phone.post(f"/revoke?id={devices[1]['id']}").status == 204
    assert browser.get("/private").status == 401
    assert browser.token is None
    assert world.kinds() == ["signed_in", "signed_in", "new_device", "revoked", "refused"]


def test_a_cookie_twice_with_different_values_is_no_credential(browser: Browser, world: World) -> None:
    """It is noted, and nothing is cleared: nobody knows whose the other is. Twice the same value is one."""
    browser.post("/login?name=alice")
    twice = f"__Host-id={browser.token}; __Host-id={new_token()}"
    answer = browser.get("/who", Cookie=twice)
    assert (answer.json(), answer.cookies) == ({"user": None}, [])
    assert world.kinds() == ["signed_in", "conflict"]
    same = f"__Host-id={browser.token}; a=b; __Host-id={browser.token}"
    assert browser.get("/who", Cookie=same).json() == {"user": "alice"}


def test_a_sister_host_shares_the_session_when_there_is_a_domain(stack: Stack) -> None:
    """With a domain the prefix is `__Secure-`, and the deletion names the domain too."""
    stack.serve(World(credentials=CookieSource(cookie=Cookie(name="id", domain="example.com"))))
    browser = stack.browser()
    [written] = browser.post("/login?name=alice").cookies
    [deleted] = browser.post("/logout").cookies
    assert written.identity == deleted.identity == ("__Secure-id", "example.com", "/")


def test_every_login_has_a_token_of_its_own(browser: Browser, served: Stack) -> None:
    """Also of the same user at the same browser in the same instant."""
    tokens = set()
    for _ in range(3):
        browser.post("/login?name=alice")
        tokens.add(browser.token)
    other = served.browser()
    other.post("/login?name=alice")
    assert len(tokens | {other.token}) == 4


@pytest.mark.parametrize("end", ["/logout", "/revoke"])
def test_a_session_that_was_ended_cannot_be_replayed(browser: Browser, world: World, end: str) -> None:
    """Whoever kept a copy of the cookie has nothing, at once and later."""
    session_id = browser.post("/login?name=alice").json()["session"]
    kept = f"__Host-id={browser.token}"
    browser.post(f"{end}?id={session_id}")
    assert browser.get("/private", Cookie=kept).status == 401
    world.clock.advance(hours=1)
    assert browser.post("/private", Cookie=kept).status == 401
    assert browser.post("/reauthenticate", Cookie=kept).status == 401


def test_nothing_but_signing_in_makes_a_session(browser: Browser, world: World) -> None:
    """Looking, being refused and coming back from somewhere else leave no row and no cookie."""
    for path in ("/public", "/who", "/private", "/login", "/devices", "/login?code=x&state=y"):
        assert browser.get(path).cookies == []
    for path in ("/logout", "/rotate", "/reauthenticate", "/sudo"):
        assert browser.post(path).cookies == []
    assert world.store._sessions == {}


def test_events_tell_the_life_of_a_session(browser: Browser, world: World) -> None:
    """Each carries the public id, and when; none carries a secret."""
    session_id = browser.post("/login?name=alice").json()["session"]
    world.clock.advance(60)
    browser.post("/rotate")
    world.clock.advance(3600)
    browser.get("/who")
    assert [(event.kind, event.session_id) for event in world.events] == [
        ("signed_in", session_id),
        ("rotated", session_id),
        ("expired", session_id),
    ]
    assert [event.at.timestamp() - world.clock.now() for event in world.events] == [-3660, -3600, 0]
