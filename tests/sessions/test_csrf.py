"""Cross-site request forgery: every combination of method, `Sec-Fetch-Site` and `Origin`."""

from __future__ import annotations

import itertools

import pytest

from lastseen.sessions.csrf import forgery_problem, origin_of

OWN = "https://app.example"
TRUSTED = "https://admin.example"
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "CONNECT", "WEBSOCKET", "post", "Made-Up", "")
SITES = (None, "same-origin", "same-site", "cross-site", "none", "", "SAME-ORIGIN", "same-origin, cross-site")
ORIGINS = (
    None,
    OWN,
    TRUSTED,
    "null",
    "",
    "https://evil.example",
    "http://app.example",
    "https://app.example:444",
    "https://app.example.evil.example",
    "https://app.example/",
)


def problem(method: str, site: str | None, origin: str | None) -> str | None:
    return forgery_problem(method, fetch_site=site, origin=origin, own_origin=OWN, trusted_origins={TRUSTED})


@pytest.mark.parametrize("method", UNSAFE)
def test_unsafe_methods_pass_only_from_this_site(method: str) -> None:
    """What the browser says of the page counts; its origin when it says nothing; a trusted origin always."""
    for site, origin in itertools.product(SITES, ORIGINS):
        passes = origin == TRUSTED or site in {"same-origin", "none"} or (site is None and origin == OWN)
        assert (problem(method, site, origin) is None) == passes, (site, origin)


@pytest.mark.parametrize("method", SAFE)
def test_safe_methods_pass_from_everywhere(method: str) -> None:
    """They change nothing."""
    assert all(problem(method, site, origin) is None for site, origin in itertools.product(SITES, ORIGINS))


def test_an_opaque_origin_is_nobodys() -> None:
    """A sandboxed frame says `null`; neither a site without a host nor a list makes that right."""
    assert forgery_problem("POST", fetch_site=None, origin="null", own_origin="null") is not None
    assert forgery_problem("POST", fetch_site=None, origin="null", own_origin=OWN, trusted_origins={"null"}) is not None


def test_a_check_of_the_host_in_the_origin_would_not_do() -> None:
    """The negative control: comparing the beginning lets another host through, which is refused here."""
    evil = "https://app.example.evil.example"
    assert evil.startswith(OWN)
    assert problem("POST", None, evil) is not None


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "App.Example", "https://app.example"),
        ("https", "app.example:443", "https://app.example"),
        ("http", "app.example:80", "http://app.example"),
        ("http", "app.example:443", "http://app.example:443"),
        ("HTTP", "localhost:8000", "http://localhost:8000"),
        ("wss", "app.example", "https://app.example"),
        ("ws", "[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_own_origin_is_written_as_browsers_write_it(scheme: str, host: str, origin: str) -> None:
    """Lower case, no port that goes without saying; a websocket has the origin of the page."""
    assert origin_of(scheme, host) == origin
