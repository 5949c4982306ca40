"""Open redirects: what is let through never leads to another host, as browsers read addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.sessions.redirect import safe_redirect

OWN = "https://app.example"
SPECIAL = {"http", "https", "ws", "wss", "ftp", "file"}


def browsers_origin(target: str, base: str = OWN) -> str:
    """Return where a browser goes: what https://url.spec.whatwg.org/#url-parsing says of scheme and host."""
    text = re.sub(r"[\t\n\r]", "", target.strip("".join(map(chr, range(0x21)))))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if scheme is None:
        rest, name = text, base.partition(":")[0]
    else:
        name, rest = scheme[1].lower(), text[scheme.end() :]
        if name not in SPECIAL:
            return f"{name}:"
        if name != base.partition(":")[0]:
            # Another special scheme: however many slashes follow, the authority is next.
            return f"{name}://{_host(rest.lstrip('/' + chr(92)))}"
    if re.match(r"[/\\]{2}", rest):
        return f"{name}://{_host(rest.lstrip('/' + chr(92)))}"
    return base


def _host(rest: str) -> str:
    authority = re.split(r"[/\\?#]", rest, maxsplit=1)[0]
    return authority.rpartition("@")[2].lower().translate({0x3002: ".", 0xFF0E: ".", 0xFF61: "."})


ATTACKS = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    " //evil.example",
    "\x00//evil.example",
    "\x1f//evil.example",
    "https://evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "https:evil.example",
    "http:evil.example",
    "http:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "ht\ntps://evil.example",
    "https://app.example@evil.example",
    "https://app.example:pw@evil.example/",
    "https://app.example\\@evil.example",
    "https://app.example%40evil.example",
    "https://app.example.evil.example",
    "https://evil.example/app.example",
    "https://evil.example#app.example",
    "https://evil.example?app.example",
    "https://app.example\u3002evil.example",
    "https://app.example\uff0eevil.example",
    "https://app.example\u3002",
    "https://app.example.",
    "https://\uff41pp.example",
    "https://app.example:444",
    "https://app.example:99999999",
    "https://[::1",
    "ftp://app.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript://app.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "blob:https://app.example/x",
    "evil.example",
    "@evil.example",
    ".evil.example",
    ":evil.example",
    "?next=//evil.example",
    "#//evil.example",
    "",
]
ATTACKS_ON_WHOM_WE_REDIRECT = [
    # A server or proxy that decodes, normalises or redirects once more would turn these into the ones above.
    "/%5Cevil.example",
    "/%2fevil.example",
    "/%09/evil.example",
    "/%0d%0aLocation:%20//evil.example",
    "/%00/evil.example",
    "/ok%0d%0aSet-Cookie:%20a=b",
    "/ok\r\nSet-Cookie: a=b",
    "/.//evil.example",
    "/..//evil.example",
    "/a/..//evil.example",
    "/a/b/../..//evil.example",
    "/%2e//evil.example",
    "/%2e%2e//evil.example",
    "/./\\evil.example",
    "/a b",
    "https://bank.example@app.example/",
    "https://:@app.example/",
    "/\u2028",
    "/\u202egnp.exe",
    "/\u200b/evil.example",
    "/\ud800",
    "/%ED%A0%80",
    "/" + "a" * 2048,
]
GOOD = [
    "/",
    "/account",
    "/account?tab=2&x=%C3%A4#top",
    "/search?q=a%2Fb",
    "/a/../b",
    "/a//b",
    "/ünïcode",
    "/?next=https://elsewhere.example/",
    "/@alice",
    "/a:b",
    "/" + "a" * 2047,
]


@pytest.mark.parametrize("target", [*ATTACKS, *ATTACKS_ON_WHOM_WE_REDIRECT], ids=ascii)
def test_an_open_redirect_is_refused(target: str) -> None:
    """The default is taken, also when this site's own origin is on the list."""
    assert safe_redirect(target, "/home") == "/home"
    assert safe_redirect(target, "/home", {OWN}) == "/home"


@pytest.mark.parametrize("target", GOOD)
def test_a_path_of_this_site_is_kept(target: str) -> None:
    """As it is, to the letter."""
    assert safe_redirect(target, "/home") == target
    assert browsers_origin(target) == OWN


@pytest.mark.parametrize(
    "target",
    [
        "https://app.example",
        "https://app.example/",
        "https://app.example/a?b#c",
        "https://APP.example/",
        OWN + ":8443/x",
    ],
)
def test_an_exact_origin_on_the_list_is_kept(target: str) -> None:
    """Scheme, host and port all count."""
    assert safe_redirect(target, "/home", {OWN, f"{OWN}:8443/"}) == target
    assert safe_redirect(target, "/home", {"http://app.example", "https://app.example:444"}) == "/home"
    assert safe_redirect(target, "/home") == "/home"


def test_nothing_is_the_default() -> None:
    """No target at all."""
    assert safe_redirect(None, "/home") == "/home"


def host_of(target: str) -> str | None:
    """Return the host as the standard library reads it; it raises for some, which a naive check would not survive."""
    return None if "[" in target else urlsplit(target).hostname


NAIVE_CHECKS: dict[str, Callable[[str], bool]] = {
    "starts with a slash": lambda target: target.startswith("/"),
    "starts with one slash": lambda target: target.startswith("/") and not target.startswith("//"),
    "has no host": lambda target: host_of(target) is None,
    "names our host": lambda target: "app.example" in target,
    "begins with our origin": lambda target: target.startswith(OWN),
    "our host, parsed": lambda target: host_of(target) in {"app.example", None},
}


@pytest.mark.parametrize("check", NAIVE_CHECKS.values(), ids=NAIVE_CHECKS.keys())
def test_every_naive_check_lets_an_attack_through(check: Callable[[str], bool]) -> None:
    """At least two of the vectors pass it and lead a browser away, so the vectors are attacks."""
    led_away = [target for target in ATTACKS if check(target) and browsers_origin(target) != OWN]
    assert len(led_away) >= 2


def test_most_vectors_lead_a_browser_away() -> None:
    """By the rules of browsers; the rest relies on the page they are read from, or on being decoded again."""
    assert sum(browsers_origin(target) != OWN for target in ATTACKS) >= 40


pieces = st.sampled_from(
    [*"/\\.:@?#%\t\n\r \x00ab25cfeE[]-\u3002\uff0e\u2028\u200b\xa0\xfc", "evil.example", "app.example"]
)
tricky = st.lists(pieces, max_size=12).map("".join)
prefixes = st.sampled_from(["", "/", "//", "/\\", "https:", "https://", "http:", OWN, OWN + "/", "javascript:", "%2f"])


@settings(deadline=None)
@given(prefixes, tricky)
def test_whatever_is_let_through_stays_here(prefix: str, rest: str) -> None:
    """Of any text made of what attacks are made of: this site, or the one origin that was allowed."""
    target = prefix + rest
    assert browsers_origin(safe_redirect(target, "/")) == OWN
    assert browsers_origin(safe_redirect(target, "/", {"https://sso.example"})) in {OWN, "https://sso.example"}


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_at_all_stays_here(target: str) -> None:
    """And nothing that would break a header is let through."""
    kept = safe_redirect("/" + target, "/")
    assert browsers_origin(kept) == OWN
    assert not re.search(r"[\x00-\x20\x7f]", kept)
