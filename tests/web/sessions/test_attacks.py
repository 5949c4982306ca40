"""Attacks: each is one function that says whether it succeeded, tried on every framework and on a naive application.

Against the naive one it must succeed, or the function would prove nothing.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lastseen.sessions.token import digest_of, new_token
from tests.web.sessions import naive
from tests.web.sessions.browser import Answer, Browser, CookieRefusedError, validated
from tests.web.sessions.conftest import Stack
from tests.web.sessions.serving import Switch
from tests.web.sessions.world import Door, World


class Site:
    """What an attack needs to know of an application."""

    def __init__(self, browser: Callable[[], Browser], door: Door, cookie_name: str) -> None:
        self.browser = browser
        self.door = door
        self.cookie_name = cookie_name


@pytest.fixture
def site(served: Stack) -> Site:
    """Return each framework's application in turn."""
    return Site(served.browser, served.world.door, "__Host-id")


@pytest.fixture
def naive_site(wsgi_switch: Switch) -> Site:
    """Return the naive application."""
    app = wsgi_switch.app = naive.NaiveApp()
    return Site(lambda: Browser(wsgi_switch.port, strict=False), app.door, naive.COOKIE)


def user_of(answer: Answer) -> str | None:
    """Return who the page says it is."""
    user: str | None = answer.json()["user"]
    return user


def fixation(site: Site) -> bool:
    """Plant a token before the victim signs in, and use it afterwards."""
    attacker, victim = site.browser(), site.browser()
    planted = new_token()
    victim.jar[site.cookie_name] = planted
    victim.post("/login?name=victim")
    return user_of(attacker.get("/who", Cookie=f"{site.cookie_name}={planted}")) == "victim"


def fixation_with_an_own_session(site: Site) -> bool:
    """Plant the attacker's own valid token, and use it when the victim has signed in with it."""
    attacker, victim = site.browser(), site.browser()
    attacker.post("/login?name=attacker")
    victim.jar = dict(attacker.jar)
    victim.post("/login?name=victim")
    return user_of(attacker.get("/who")) == "victim"


@pytest.mark.parametrize("attack", [fixation, fixation_with_an_own_session])
def test_fixation_fails(site: Site, attack: Callable[[Site], bool]) -> None:
    """A login never takes over the token that the client came with."""
    assert not attack(site)


@pytest.mark.parametrize("attack", [fixation, fixation_with_an_own_session])
def test_fixation_works_against_a_naive_login(naive_site: Site, attack: Callable[[Site], bool]) -> None:
    """The attack is one."""
    assert attack(naive_site)


def logout_undone(site: Site, held: str) -> bool:
    """Sign out while another request of the same session is under way, and see whether a session is left."""
    browser = site.browser()
    browser.post("/login?name=victim")
    in_flight = Browser(browser.port, jar=dict(browser.jar), strict=browser.strict)
    working = threading.Thread(target=in_flight.post, args=(held,))
    working.start()
    assert site.door.inside.wait(30)
    # The browser has one jar: the answer to the request under way comes after that of the logout.
    browser.post("/logout")
    site.door.opened.set()
    working.join()
    [answer] = in_flight.answers
    for cookie in answer.cookies if in_flight.strict else answer.loose_cookies:
        if not cookie.deletes:
            browser.jar[cookie.name] = cookie.value
    return browser.jar != {} or user_of(browser.get("/who")) is not None


def test_a_logout_is_final_whatever_is_in_flight(site: Site) -> None:
    """A request that renews the session afterwards finds none: no row, no cookie."""
    assert not logout_undone(site, "/held?last=1")


def test_a_naive_logout_is_undone_by_a_request_in_flight(naive_site: Site) -> None:
    """The attack is one."""
    assert logout_undone(naive_site, "/held?last=1")


def test_a_session_ended_from_elsewhere_is_not_written_to_a_cookie(served: Stack) -> None:
    """A request that has already renewed the session answers without the cookie of what is gone."""
    browser, world = served.browser(), served.world
    browser.post("/login?name=alice")
    working = threading.Thread(target=browser.post, args=("/held",))
    working.start()
    assert world.door.inside.wait(30)
    [session] = world.store._sessions.values()
    world.manager.revoke_all(session.user_id)
    world.door.opened.set()
    working.join()
    assert [answer.cookies for answer in browser.answers[1:]] == [[]]
    assert browser.get("/who").json() == {"user": None}


def leaked_tokens(tokens: list[str], answers: list[Answer], log: str, events: str = "") -> set[str]:
    """Return where a token, or its digest in any spelling, is to be seen besides the cookie that carries it."""
    spelled = [spelling for token in tokens for spelling in _spellings(token)]
    headers = [f"{name}: {value}" for each in answers for name, value in each.headers if name.lower() != "set-cookie"]
    places = {
        "log": log,
        "body": "\n".join(answer.text for answer in answers),
        "header": "\n".join(headers),
        "event": events,
    }
    return {place for place, text in places.items() if any(spelling in text for spelling in spelled)}


def _spellings(token: str) -> list[str]:
    digest = digest_of(token) if token.isascii() else b""
    return [token, digest.hex(), repr(digest)[2:-1]]


def life_of_a_session(site: Site) -> tuple[list[str], list[Answer]]:
    """Do everything that can be done, errors included; return every token and every answer."""
    browser, tokens = site.browser(), []
    for path in ("/login?name=alice", "/rotate", "/reauthenticate", "/login?name=bob"):
        browser.post(path)
        tokens.append(browser.jar[site.cookie_name])
    browser.get("/devices")
    browser.post("/revoke?id=nobody's")
    browser.get("/who", Cookie=f"{site.cookie_name}={tokens[0]}")
    browser.get("/who", Authorization=f"Bearer {tokens[1]}")
    browser.get("/private?token=" + new_token())
    browser.post("/who", Sec_Fetch_Site="cross-site", Origin="https://evil.example")
    browser.post("/logout")
    browser.get("/who", Cookie=f"{site.cookie_name}={tokens[-1]}")
    return tokens, browser.answers


def test_no_token_in_a_log_a_list_or_an_error(site: Site, world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither token nor digest is anywhere but in the cookie, over the whole life of a session."""
    with caplog.at_level(logging.DEBUG):
        tokens, answers = life_of_a_session(site)
        browser = site.browser()
        browser.post("/login?name=alice")
        tokens.append(browser.jar[site.cookie_name])
        world.store.broken = True
        browser.get("/who")
    assert len(set(tokens)) == 5
    assert leaked_tokens(tokens, answers + browser.answers, caplog.text, repr(world.events)) == set()
    shown = repr([*world.store._sessions.values(), world.handed])
    assert not any(spelling in shown for token in tokens for spelling in _spellings(token))


def test_a_naive_application_shows_its_tokens(naive_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The scan finds them in its log and in its list."""
    with caplog.at_level(logging.DEBUG):
        tokens, answers = life_of_a_session(naive_site)
    assert leaked_tokens(tokens, answers, caplog.text) >= {"log", "body"}


def bearer_token_in_a_cookie(site: Site, token: str) -> bool:
    """Use a bearer token every way there is, and see whether anything arrives in a cookie."""
    program = site.browser()
    for method, path in (("GET", "/who"), ("GET", "/devices"), ("POST", "/login?name=alice"), ("POST", "/logout")):
        program.ask(method, path, {"Authorization": f"Bearer {token}"})
    return any(cookie.value and not cookie.deletes for answer in program.answers for cookie in answer.loose_cookies)


def test_a_bearer_token_never_lands_in_a_cookie(site: Site) -> None:
    """Not when it is read, rotated, replaced by a login, or ended."""
    token = site.browser().post("/login?name=alice&kind=bearer").json()["token"]
    renewed = site.browser().post("/rotate", Authorization=f"Bearer {token}").json()["token"]
    assert not bearer_token_in_a_cookie(site, renewed)


def test_a_naive_application_writes_bearer_tokens_to_cookies(naive_site: Site) -> None:
    """The attack is one."""
    assert bearer_token_in_a_cookie(naive_site, naive_site.browser().post("/login?name=alice").json()["session"])


def test_a_bearer_session_is_none_in_a_cookie_and_the_other_way_round(browser: Browser, world: World) -> None:
    """A session is used only the way it was made for, so that no token changes its kind."""
    bearer = browser.post("/login?name=alice&kind=bearer").json()["token"]
    browser.post("/login?name=alice")
    cookie = browser.token
    assert browser.get("/private", Cookie=f"__Host-id={bearer}").status == 401
    assert browser.get("/private", Cookie=None, Authorization=f"Bearer {cookie}").status == 401
    assert world.kinds()[-2:] == ["refused", "refused"]


def two_credentials_accepted(site: Site, token: str) -> bool:
    """Send somebody's cookie and somebody else's bearer token at once."""
    browser = site.browser()
    browser.post("/login?name=attacker")
    return browser.get("/who", Authorization=f"Bearer {token}").status == 200


def test_two_credentials_are_refused(site: Site, world: World) -> None:
    """400, an event, and no session is touched; the store is not even asked."""
    token = site.browser().post("/login?name=alice&kind=bearer").json()["token"]
    reads = world.store.reads
    assert not two_credentials_accepted(site, token)
    assert world.store.reads == reads + 1, "but for the check of the attacker's own login"
    assert world.kinds()[-1] == "conflict"
    browser = site.browser()
    browser.post("/login?name=alice")
    answer = browser.get("/who", Authorization=f"Bearer {token}")
    assert (answer.status, answer.json()["code"], answer.cookies) == (400, "credential_conflict", [])


def test_a_naive_application_picks_one_of_two_credentials(naive_site: Site) -> None:
    """The attack is one."""
    assert two_credentials_accepted(naive_site, naive_site.browser().post("/login?name=alice").json()["session"])


def test_the_same_token_twice_keeps_to_the_rules_of_cookies(browser: Browser) -> None:
    """It is one credential; a cookie came with it, so another site may not use it."""
    browser.post("/login?name=alice")
    twice: dict[str, str | None] = {"Authorization": f"Bearer {browser.token}"}
    assert browser.ask("POST", "/who", twice).json() == {"user": "alice"}
    forged = browser.ask("POST", "/who", {**twice, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
    assert forged.status == 403


def token_in_the_address_accepted(site: Site) -> bool:
    """Sign in by a link."""
    victim, attacker = site.browser(), site.browser()
    victim.post("/login?name=victim")
    token = victim.jar[site.cookie_name]
    names = ("token", "session", "access_token", "id", site.cookie_name)
    return any(user_of(attacker.get(f"/who?{name}={token}")) is not None for name in names)


def test_a_token_in_the_address_is_ignored(site: Site) -> None:
    """Addresses are logged, kept and shared."""
    assert not token_in_the_address_accepted(site)


def test_a_naive_application_takes_a_token_from_the_address(naive_site: Site) -> None:
    """The attack is one."""
    assert token_in_the_address_accepted(naive_site)


def login_forced(site: Site) -> bool:
    """Sign the victim in as the attacker, from another site, so that what they enter lands there."""
    victim = site.browser()
    victim.post("/login?name=attacker", Sec_Fetch_Site="cross-site", Origin="https://evil.example")
    return user_of(victim.get("/who")) == "attacker"


def test_another_site_cannot_sign_anybody_in(site: Site) -> None:
    """The request carries no cookie yet, but is about to get one."""
    assert not login_forced(site)


def test_a_naive_application_lets_another_site_sign_in(naive_site: Site) -> None:
    """The attack is one."""
    assert login_forced(naive_site)


def foreign_session_ended(site: Site, session_id: str) -> bool:
    """End somebody else's session by its id."""
    attacker = site.browser()
    attacker.post("/login?name=attacker")
    return attacker.post(f"/revoke?id={session_id}").status < 300


def test_somebody_elses_session_is_as_unknown_as_none(site: Site, world: World) -> None:
    """The same 404 with the same body as for an id that nobody has; the session lives."""
    victim = site.browser()
    session_id = victim.post("/login?name=victim").json()["session"]
    assert not foreign_session_ended(site, session_id)
    attacker = site.browser()
    attacker.post("/login?name=attacker")
    foreign, unknown = attacker.post(f"/revoke?id={session_id}"), attacker.post("/revoke?id=AAAAAAAAAAAAAAAAAAAAAA")
    assert (foreign.status, foreign.text) == (unknown.status, unknown.text)
    assert foreign.status == 404
    assert victim.get("/who").json()["user"] == "victim"
    assert "revoked" not in world.kinds()


def test_a_naive_application_ends_anybodys_session(naive_site: Site) -> None:
    """The attack is one."""
    victim = naive_site.browser()
    assert foreign_session_ended(naive_site, victim.post("/login?name=victim").json()["session"])


def test_every_cookie_is_one_that_browsers_protect(site: Site) -> None:
    """Prefix and attributes are there whenever one is written, and the deletion repeats every one of them."""
    browser = site.browser()
    written = [*browser.post("/login?name=alice").cookies, *browser.post("/rotate").cookies]
    [deleted] = browser.post("/logout").cookies
    protecting = {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}
    assert [cookie.attributes for cookie in written] == [protecting, protecting]
    assert deleted.deletes
    assert deleted.attributes.items() >= protecting.items()
    assert {cookie.identity for cookie in [*written, deleted]} == {("__Host-id", "", "/")}


def test_a_naive_cookie_can_be_planted_read_and_sent_in_the_clear(naive_site: Site) -> None:
    """The rules of browsers, as these tests know them, find what is wrong with it and with its deletion."""
    browser = naive_site.browser()
    for path in ("/login?name=alice", "/logout"):
        header = browser.post(path).header("set-cookie")
        assert header is not None
        with pytest.raises(CookieRefusedError, match="no prefix, no Secure, no HttpOnly, no SameSite"):
            validated(header)


@pytest.mark.parametrize(
    ("spoilt", "problem"),
    [
        (("; Secure", ""), "a prefix without Secure"),
        (("Path=/", "Path=/app"), "__Host- with a domain or another path"),
        (("; HttpOnly", ""), "no HttpOnly"),
        (("; SameSite=Lax", ""), "no SameSite"),
        (("__Host-", ""), "no prefix"),
        (("; Secure", "; Secure; Domain=example.com"), "__Host- with a domain or another path"),
        (("; Secure", "; Secure; Max-Age=40000000"), "longer than 400 days"),
        (("=x;", f"={'x' * 4090};"), "longer than 4096 bytes"),
    ],
)
def test_the_validator_notices_every_defect(spoilt: tuple[str, str], problem: str) -> None:
    """Each attribute counts."""
    good = "__Host-id=x; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert validated(good).name == "__Host-id"
    with pytest.raises(CookieRefusedError, match=re.escape(problem)):
        validated(good.replace(*spoilt))


class SharedCache:
    """Between many users and the site; keeps what RFC 9111, 3 and 4.1, let it keep."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[str | None, ...]], Answer] = {}
        self._vary: dict[str, list[str]] = {}

    def get(self, browser: Browser, path: str) -> Answer:
        sent = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.jar.items())}
        found = self._kept.get((path, self._key(path, sent)))
        if found is not None:
            return found
        answer = browser.get(path)
        control = answer.header("cache-control") or ""
        if "no-store" not in control and "private" not in control and "*" not in answer.vary:
            self._vary[path] = sorted(answer.vary)
            self._kept[path, self._key(path, sent)] = answer
        return answer

    def _key(self, path: str, sent: dict[str, Any]) -> tuple[str | None, ...]:
        return tuple(sent.get(name) for name in self._vary.get(path, ()))


def private_page_from_a_cache(site: Site) -> bool:
    """Ask a shared cache for a page that somebody else has just seen."""
    cache, alice, bob = SharedCache(), site.browser(), site.browser()
    alice.post("/login?name=alice")
    bob.post("/login?name=bob")
    assert cache.get(alice, "/who").json()["user"] == "alice"
    return user_of(cache.get(bob, "/who")) == "alice"


def test_no_cache_shows_anybody_elses_page(site: Site) -> None:
    """It is not stored, and what says otherwise varies by the cookie."""
    assert not private_page_from_a_cache(site)


def test_a_cache_shows_the_private_pages_of_a_naive_application(naive_site: Site) -> None:
    """The attack is one."""
    assert private_page_from_a_cache(naive_site)


def test_a_page_of_an_anonymous_visitor_is_not_shown_to_who_has_signed_in(site: Site) -> None:
    """An anonymous answer may be stored, and varies by the cookie that would have changed it."""
    cache, anonymous, alice = SharedCache(), site.browser(), site.browser()
    alice.post("/login?name=alice")
    assert cache.get(anonymous, "/who").json()["user"] is None
    assert cache.get(alice, "/who").json()["user"] == "alice"
