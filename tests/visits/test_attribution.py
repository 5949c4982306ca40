"""Campaigns, referrers and channels; what of an address is kept."""

from __future__ import annotations

import tracemalloc

import pytest

from lastseen.visits.addresses import MAX_ADDRESS_LENGTH, read_page, read_referrer, registrable_domain
from lastseen.visits.attribution import channel_of
from lastseen.visits.utm import UtmParams


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.org", "example.org"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("WWW.Example.ORG.", "example.org"),
        ("somebody.github.io", "somebody.github.io"),
        ("github.io", "github.io"),
        ("xn--bcher-kva.example.de", "example.de"),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("kitchen.lan", "kitchen.lan"),
    ],
)
def test_registrable_domains(host: str, domain: str) -> None:
    """By the public suffix list with its private part; what has no such domain stands for itself."""
    assert registrable_domain(host) == domain


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org/a?token=geheim&utm_source=x#part", "https://example.org/a?utm_source=x"),
        ("https://user:pass@Example.ORG:8443/", "https://example.org:8443/"),
        ("https://example.org?email=a@b.c", "https://example.org/"),
        ("/path?q=1&gclid=7", "/path?gclid=7"),
        ("https://[2001:db8::1]:80/x", "https://[2001:db8::1]:80/x"),
        ("https://example.org/ü", "https://example.org/%C3%BC"),
        ("android-app://com.example.shop/x", "android-app://com.example.shop/x"),
    ],
)
def test_addresses_are_cut(address: str, kept: str) -> None:
    """User names, fragments and all parameters but those of campaigns go; the rest stays."""
    page = read_page(address)
    assert page is not None
    assert page.url == kept


@pytest.mark.parametrize(
    "text",
    ["", "-", "about:blank", "javascript:alert(1)", "http://[::1", "http://x:99999/", "path", "//host/x", "\ud800"],
)
def test_what_is_no_address(text: str) -> None:
    """Nothing is kept of it, and nothing raises."""
    assert read_page(text) is None
    assert read_referrer(text) is None


def test_a_site_can_keep_more_parameters() -> None:
    """What is named stays, beside the usual ones."""
    page = read_page("/search?q=lamp&page=2&utm_medium=email", frozenset({"q", "utm_medium"}))
    assert page is not None
    assert page.url == "/search?q=lamp&utm_medium=email"


def test_addresses_have_a_length() -> None:
    """A longer one is cut."""
    page = read_page("/" + "a" * 10_000)
    assert page is not None
    assert len(page.url) == MAX_ADDRESS_LENGTH


def test_a_referrer_loses_its_query() -> None:
    """What was searched for is nobody's affair; whose page it was, is."""
    assert read_referrer("https://www.google.co.uk/search?q=illness&utm_source=x") == (
        "https://www.google.co.uk/search",
        "google.co.uk",
    )
    assert read_referrer("android-app://com.google.android.gm/") == (
        "android-app://com.google.android.gm/",
        "com.google.android.gm",
    )


def test_a_campaign_and_its_clicks_are_read() -> None:
    """The first of several values counts; empty click ids are none."""
    page = read_page("/?utm_source=News&utm_source=other&utm_campaign=May&gclid=A1&fbclid=")
    assert page is not None
    assert page.utm == UtmParams(source="News", campaign="May")
    assert page.click_ids == {"gclid": "A1"}


CAMPAIGNS = [
    ("(direct)", "(none)", None, "Direct"),
    ("google", "cpc", None, "Paid Search"),
    ("Google", " CPC ", None, "Paid Search"),
    ("www.bing.com", "ppc", None, "Paid Search"),
    ("facebook", "paid_social", None, "Paid Social"),
    ("youtube", "cpv", None, "Paid Video"),
    ("google", "cpc", "summer-shopping", "Paid Shopping"),
    ("google", "cpc", "cross-network", "Cross-network"),
    ("site", "banner", None, "Display"),
    ("site", "cpm", None, "Display"),
    ("site", "cpc", None, "Paid Other"),
    ("partner", "paid", None, "Paid Other"),
    ("amazon", None, None, "Organic Shopping"),
    ("instagram", None, None, "Organic Social"),
    ("any", "social-media", None, "Organic Social"),
    ("vimeo", None, None, "Organic Video"),
    ("duckduckgo.com", "organic", None, "Organic Search"),
    ("any", "organic", None, "Organic Search"),
    ("chatgpt.com", None, None, "AI Assistant"),
    ("weekly", "email", None, "Email"),
    ("newsletter", None, None, "Email"),
    ("partner", "affiliate", None, "Affiliates"),
    ("partner", "referral", None, "Referral"),
    ("podcast", "audio", None, "Audio"),
    ("sms", None, None, "SMS"),
    ("app", "push", None, "Mobile Push Notifications"),
    ("flyer", "paper", None, "Unassigned"),
]


@pytest.mark.parametrize(("source", "medium", "campaign", "channel"), CAMPAIGNS)
def test_channels_of_campaigns(source: str | None, medium: str | None, campaign: str | None, channel: str) -> None:
    """The campaign decides, in the order of Google's definitions, whatever the referrer."""
    utm = UtmParams(source=source, medium=medium, campaign=campaign)
    assert channel_of(utm, "example.net", "https://example.org/") == channel


REFERRERS = [
    (None, None, None, "Direct"),
    (None, "/?gclid=1", None, "Paid Search"),
    (None, "/?msclkid=1", None, "Paid Search"),
    ("tiktok.com", "/?ttclid=1", None, "Paid Social"),
    ("facebook.com", "/?fbclid=1", None, "Organic Social"),
    (None, "/?gclid=", None, "Direct"),
    ("google.co.uk", None, None, "Organic Search"),
    ("t.co", None, None, "Organic Social"),
    ("x.com", None, None, "Organic Social"),
    ("youtube.com", None, None, "Organic Video"),
    ("amazon.de", None, None, "Organic Shopping"),
    ("perplexity.ai", None, None, "AI Assistant"),
    ("google.com", None, "https://gemini.google.com/app", "AI Assistant"),
    ("google.com", None, "https://mail.google.com/", "Email"),
    ("example.net", None, None, "Referral"),
    ("notgoogle.net", None, None, "Referral"),
    ("kitchen.lan", None, None, "Referral"),
]


@pytest.mark.parametrize(("domain", "url", "referrer", "channel"), REFERRERS)
def test_channels_of_referrers(domain: str | None, url: str | None, referrer: str | None, channel: str) -> None:
    """Without a campaign an advertisement's click id tells, then the referrer; Facebook marks all its links."""
    assert channel_of(None, domain, url, referrer) == channel


def test_what_is_remembered_of_channels_is_bounded_in_size() -> None:
    """Addresses of 2,000 characters, each another one, leave nothing behind; the negative control are short names."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3_000):
            long = f"{number:06}" + "x" * 2_000
            assert (
                channel_of(None, "google.com", f"/?gclid=&q={long}", f"https://google.com/?q={long}")
                == "Organic Search"
            )
            assert channel_of(None, "example.net", None, f"https://{long}.example.net/") == "Referral"
            assert channel_of(UtmParams(source=long, medium="cpc", campaign=None), None) == "Paid Other"
        grown = tracemalloc.get_traced_memory()[0] - before
        assert grown < 1_000_000
        for number in range(3_000):
            assert channel_of(UtmParams(source=f"partner-{number}", medium="cpc", campaign=None), None) == "Paid Other"
        assert tracemalloc.get_traced_memory()[0] - before > grown + 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("query", ["a=1&gclid=1", "gc%6Cid=1", "gclid=%31", "li%5Ffat_id=1&gclid=2"])
def test_a_click_id_is_found_however_it_is_written(query: str) -> None:
    """The negative control has the value of none."""
    assert channel_of(None, None, f"/?{query}") == "Paid Search"
    assert channel_of(None, None, f"/?{query.replace('1', '').replace('2', '').replace('%3', '')}") == "Direct"
