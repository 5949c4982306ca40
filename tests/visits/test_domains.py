"""Names of domains and hosts, as people write them and as referrers have them."""

from __future__ import annotations

import pytest

from lastseen.errors import ConfigurationError
from lastseen.visits.addresses import read_referrer
from lastseen.visits.domains import domain_name, host_names, is_below
from lastseen.visits.rule import VisitRule


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("shop.example", "shop.example"),
        ("www.shop.example", "shop.example"),
        ("www.www.shop.example", "shop.example"),
        (" HTTPS://WWW.Shop.Example:8443/cart?next=http://other.example#top ", "shop.example"),
        ("shop.example.", "shop.example"),
        ("shop.example/", "shop.example"),
        ("checkout.shop.example", "checkout.shop.example"),
        ("www.gov.uk", "www.gov.uk"),
        ("localhost:8080", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example"),
    ],
)
def test_a_domain_is_kept_as_referrers_have_it(written: str, name: str) -> None:
    """However it is written; `www.` is left out where something registered stands behind it."""
    assert domain_name(written) == name
    assert domain_name(name) == name
    assert VisitRule(excluded_referrers=frozenset({written})).excluded_referrers == {name}


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        " ",
        "http://",
        "a b.example",
        "user@shop.example",
        "shop.example:http",
        "a..b",
        "[::1]:80",
        "!",
        "x" * 64,
        "/x",
    ],
)
def test_what_is_no_domain_is_refused(nonsense: str) -> None:
    """With what was written and an example."""
    with pytest.raises(ConfigurationError, match=r"such as example\.org"):
        domain_name(nonsense)


HOSTS = host_names({"pay.example.net", "a.b.example.co.uk", "example.org"})


@pytest.mark.parametrize(
    ("referrer", "is_known"),
    [
        ("https://pay.example.net/", True),
        ("https://eu.pay.example.net:8443/return", True),
        ("https://pay.example.net", True),
        ("https://x.a.b.example.co.uk/", True),
        ("https://example.net/pay.example.net", False),
        ("https://www.example.net/", False),
        ("https://mypay.example.net/", False),
        ("https://pay.example.net.evil.example/", False),
        ("https://b.example.co.uk/", False),
        ("https://[2001:db8::1]/", False),
        ("https://192.0.2.1/", False),
    ],
)
def test_a_host_is_itself_and_what_is_below(referrer: str, is_known: bool) -> None:
    """Neither its domain, nor its neighbours, nor what only has its name in it."""
    found = read_referrer(referrer)
    assert found is not None
    address, domain = found
    assert domain is not None
    assert is_below(address, domain, HOSTS) is is_known


def test_a_public_suffix_excludes_nobody() -> None:
    """Each `name.github.io` is somebody else's, and so is each shop of the United Kingdom."""
    assert not is_below("https://ann.github.io/", "ann.github.io", frozenset({"github.io", "io"}))
    assert not is_below("https://www.shop.co.uk/", "shop.co.uk", frozenset({"co.uk", "uk"}))
