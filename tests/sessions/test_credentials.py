"""Where tokens are read from and written to: cookies by the rules of browsers, `Authorization`, and both."""

from __future__ import annotations

import re
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Cookie, CredentialConflict, RequestHead
from lastseen.sessions.credentials import (
    BearerSource,
    CompositeSource,
    CookieSource,
    CredentialSource,
    policies_of,
    sources_of,
)
from lastseen.sessions.policy import BROWSER, NATIVE_APP
from lastseen.sessions.session import IssuedSession, Session
from lastseen.testing import moment

TOKEN = "A" * 43
OTHER = "B" * 43
PLAIN = CookieSource()
PAGE = RequestHead(host="app.example")
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def request(**headers: str) -> RequestHead:
    return RequestHead(host="app.example", headers=headers)


def issued(kind: str = "cookie", life: timedelta = timedelta(hours=1)) -> IssuedSession:
    session = Session(
        id="s",
        user_id="u",
        idle_deadline=moment() + life,
        absolute_deadline=moment() + life,
        created_at=moment(),
        authenticated_at=moment(),
        last_activity_at=moment(),
        credential_kind=kind,
    )
    return IssuedSession(session=session, token=TOKEN)


def test_a_cookie_is_as_safe_as_browsers_make_it_by_default() -> None:
    """Prefix, Secure, HttpOnly, SameSite, Path, no Domain; a generic name; it goes when the browser is closed."""
    assert PLAIN.write(issued(), PAGE, moment()) == (("Set-Cookie", f"__Host-id={TOKEN}; {ATTRIBUTES}"),)


def test_deletion_repeats_every_attribute() -> None:
    """Browsers replace a cookie only by one of the same name, domain and path, and a prefix needs its attributes."""
    cookie = Cookie(name="id", domain="example.com", path="/app", same_site="strict")
    _, written = cookie.write(TOKEN, PAGE)
    _, deleted = cookie.delete(PAGE)
    assert deleted == written.replace(TOKEN, "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    assert "Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=Strict" in deleted


@pytest.mark.parametrize(
    ("cookie", "name"),
    [
        (Cookie(name="id"), "__Host-id"),
        (Cookie(name="id", domain="example.com"), "__Secure-id"),
        (Cookie(name="id", path="/app"), "__Secure-id"),
        (Cookie(name="id", secure=False), "id"),
        (Cookie(name="id", same_site="none"), "__Host-id"),
    ],
)
def test_the_prefix_follows_from_the_attributes(cookie: Cookie, name: str) -> None:
    """So that none can be wrong."""
    assert cookie.prefixed_name == name
    assert cookie.write("x", PAGE)[1].startswith(f"{name}=x; ")
    assert cookie.read(request(cookie=f"{name}=x")) == "x"


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a;b"},
        {"name": "a=b"},
        {"name": "ü"},
        {"name": "__Host-id"},
        {"name": "__HOST-id"},
        {"name": "__secure-id"},
        {"name": "x" * 1018},
        {"same_site": "none", "secure": False},
        {"same_site": "Lax"},
        {"domain": ".example.com"},
        {"domain": "example.com; Secure"},
        {"domain": ""},
        {"domain": "a" * 1025},
        {"path": "app"},
        {"path": "/a;b"},
        {"path": "/a\r\nb"},
        {"path": "/" + "a" * 1024},
    ],
    ids=lambda options: ascii(options)[:40],
)
def test_a_cookie_that_no_browser_keeps_cannot_be_configured(options: dict[str, str]) -> None:
    """The mistake shows at the start of the application; SameSite=None without Secure is one."""
    with pytest.raises(ConfigurationError):
        Cookie(**{"name": "id", **options})  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize("value", ["a;b", "a b", "a,b", 'a"b', "a\\b", "a\r\nSet-Cookie: b=c", "\x00", "ü", "x" * 3073])
def test_a_value_that_would_break_the_header_is_not_written(value: str) -> None:
    """Nothing can be smuggled into the header."""
    with pytest.raises(ValueError, match="cannot hold"):
        Cookie(name="id").write(value, PAGE)


def test_name_and_value_fit_into_what_browsers_keep() -> None:
    """4096 bytes together, with the longest name and the longest value that are allowed."""
    longest = Cookie(name="x" * (1024 - len("__Host-")))
    name, _, value = longest.write("v" * 3072, PAGE)[1].partition(";")[0].partition("=")
    assert len(name) + len(value) == 4096


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (timedelta(hours=1), 3600),
        (timedelta(seconds=0.2), 1),
        (timedelta(seconds=-5), 0),
        (timedelta(days=400), 34_560_000),
        (timedelta(days=4000), 34_560_000),
    ],
)
def test_a_persistent_cookie_lasts_as_long_as_the_session(life: timedelta, seconds: int) -> None:
    """Rounded up, and at most 400 days; without `persistent` nothing is said."""
    [(_, header)] = CookieSource(persistent=True).write(issued(life=life), PAGE, moment())
    assert re.findall(r"Max-Age=(\d+)", header) == [str(seconds)]
    assert "Max-Age" not in PLAIN.write(issued(life=life), PAGE, moment())[0][1]


LOOPBACK = ["localhost", "localhost:8000", "LOCALHOST", "app.localhost:80", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000"]
ELSEWHERE = [
    "app.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "10.0.0.1",
    "[::2]",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_development_over_plain_http_works_on_localhost(host: str) -> None:
    """Without prefix, Secure and Domain, when asked for; and only over plain http."""
    cookie = Cookie(name="id", domain="example.com", same_site="none", plain_http_on_localhost=True)
    at_home = RequestHead(scheme="http", host=host, headers={"cookie": "id=x; __Secure-id=y"})
    assert cookie.write("x", at_home)[1] == "id=x; Path=/; HttpOnly; SameSite=Lax"
    assert cookie.read(at_home) == "x"
    encrypted = RequestHead(scheme="https", host=host, headers=at_home.headers)
    assert "Secure" in cookie.write("x", encrypted)[1]
    assert cookie.read(encrypted) == "y"


@pytest.mark.parametrize("host", ELSEWHERE)
def test_development_weakens_no_other_host(host: str) -> None:
    """The option that was forgotten in production changes nothing there, neither for writing nor for reading."""
    strict = Cookie(name="id")
    forgotten = Cookie(name="id", plain_http_on_localhost=True)
    there = RequestHead(scheme="http", host=host, headers={"cookie": "id=planted"})
    assert forgotten.write("x", there) == strict.write("x", there)
    assert forgotten.delete(there) == strict.delete(there)
    assert forgotten.read(there) is None


@pytest.mark.parametrize("host", LOOPBACK)
def test_without_the_option_localhost_is_like_any_host(host: str) -> None:
    """Nothing is weakened unasked."""
    assert Cookie(name="id").write("x", RequestHead(scheme="http", host=host)) == Cookie(name="id").write("x", PAGE)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("__Host-id=x", "x"),
        ("a=b; __Host-id=x", "x"),
        ("a=b;__Host-id=x ;c", "x"),
        ("\t__Host-id \t=\t x\t", "x"),
        ('__Host-id="x"', "x"),
        ('__Host-id="', '"'),
        ("__Host-id=x=y==", "x=y=="),
        ("__Host-id=x; __Host-id=x", "x"),
        ("__Host-id=", ""),
        ("", None),
        (";;;", None),
        ("__Host-id", None),
        ("id=x", None),
        ("__host-id=x", None),
        ("x__Host-id=x", None),
        ('a="x; __Host-id=y"', 'y"'),
    ],
)
def test_cookies_are_read_as_browsers_send_them(header: str, value: str | None) -> None:
    """Split at semicolons and nowhere else; names are compared to the letter."""
    assert PLAIN.read(request(cookie=header)) == value


@pytest.mark.parametrize("blank", ["\x85", "\xa0", "\u2000".encode().decode("latin-1"), "\x1c", "\x0b"], ids=ascii)
def test_a_prefix_behind_an_odd_blank_is_not_one(blank: str) -> None:
    """A browser lets a sister host set it, as it sees no prefix; the negative control, `str.strip`, would take it."""
    header = f"{blank}__Host-id=planted"
    assert PLAIN.read(request(cookie=header)) is None
    stripped = header.encode("latin-1").decode("utf-8", "replace").strip(" \t\x0b\x1c\x85\xa0\u2000\ufffd")
    assert stripped == "__Host-id=planted"


def test_two_values_are_none() -> None:
    """Somebody has planted one of them; which is not to be known. Others' cookies may come twice."""
    with pytest.raises(CredentialConflict):
        PLAIN.read(request(cookie=f"__Host-id={TOKEN}; __Host-id={OTHER}"))
    assert PLAIN.read(request(cookie=f"a=1; a=2; __Host-id={TOKEN}")) == TOKEN
    naive = SimpleCookie(f"__Host-id={TOKEN}; __Host-id={OTHER}")
    assert naive["__Host-id"].value == OTHER, "the negative control: the standard library takes the last"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"Bearer {TOKEN}", TOKEN),
        (f"bearer  {TOKEN} ", TOKEN),
        (f"BEARER {TOKEN}", TOKEN),
        ("Bearer", None),
        ("Bearer ", None),
        (f"Basic {TOKEN}", None),
        (f"Bearer{TOKEN}", None),
        (TOKEN, None),
        ("", None),
        (f"Bearer {TOKEN}, Bearer {OTHER}", f"{TOKEN}, Bearer {OTHER}"),
    ],
)
def test_bearer_tokens_are_read(header: str, token: str | None) -> None:
    """The scheme in any case; other schemes are somebody else's; two headers make what is no token."""
    assert BearerSource().read(request(authorization=header)) == token


def test_a_bearer_source_never_writes() -> None:
    """Neither a cookie nor anything else: the application hands the token out itself."""
    bearer = BearerSource()
    assert (bearer.can_write, bearer.write(issued("bearer"), PAGE, moment()), bearer.clear(PAGE)) == (False, (), ())


def test_a_composite_uses_the_source_of_the_sessions_kind() -> None:
    """Whatever it is asked to write or clear goes through the source that it belongs to."""
    both = CompositeSource(PLAIN, BearerSource())
    assert (both.name, both.vary, both.can_write) == ("cookie+bearer", "Cookie, Authorization", True)
    assert both.write(issued("cookie"), PAGE, moment()) == PLAIN.write(issued(), PAGE, moment())
    assert both.write(issued("bearer"), PAGE, moment()) == ()
    with_cookie, with_bearer = request(cookie=f"__Host-id={TOKEN}"), request(authorization=f"Bearer {TOKEN}")
    assert both.read(with_cookie) == both.read(with_bearer) == TOKEN
    assert both.read(PAGE) is None
    assert (len(both.clear(with_cookie)), both.clear(with_bearer)) == (1, ())
    with pytest.raises(CredentialConflict):
        both.read(request(cookie=f"__Host-id={TOKEN}", authorization=f"Bearer {OTHER}"))
    with pytest.raises(ConfigurationError):
        CompositeSource(PLAIN, CookieSource(cookie=Cookie(name="other")))
    with pytest.raises(ConfigurationError):
        CompositeSource()


def test_each_source_has_its_own_deadlines() -> None:
    """Handed to the manager by kind."""
    sources = CompositeSource(CookieSource(policy=BROWSER), BearerSource(policy=NATIVE_APP), CookieSource(name="third"))
    assert policies_of(sources) == {"cookie": BROWSER, "bearer": NATIVE_APP}
    assert [source.name for source in sources_of(sources)] == ["cookie", "bearer", "third"]
    assert sources_of(PLAIN) == (PLAIN,)


@pytest.mark.parametrize("source", [PLAIN, BearerSource(), CompositeSource(PLAIN, BearerSource())])
def test_every_source_keeps_the_protocol(source: CredentialSource) -> None:
    """It is what a source of one's own implements."""
    assert isinstance(source, CredentialSource)


anything = st.one_of(
    st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")),
    st.text(max_size=100),
    st.lists(st.sampled_from(["__Host-id", "=", ";", " ", '"', TOKEN, OTHER, "\x00", "Bearer", "\xa0"])).map("".join),
    st.integers(1, 5).map(lambda times: "__Host-id=x;" * 10**times),
)


@settings(deadline=None)
@given(anything, anything)
def test_no_input_breaks_reading(cookie: str, authorization: str) -> None:
    """Bytes, Unicode, NUL, a megabyte: a token is read, or none, or a conflict."""
    head = request(cookie=cookie, authorization=authorization)
    for source in (PLAIN, BearerSource(), CompositeSource(PLAIN, BearerSource())):
        try:
            token = source.read(head)
        except CredentialConflict:
            continue
        assert token is None or (";" not in token or isinstance(source, BearerSource | CompositeSource))
