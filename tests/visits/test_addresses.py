"""Addresses are read along a short road and a long one, queries field by field: as the standard library reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastseen.visits.addresses import (
    CLICK_IDS,
    KEPT_PARAMETERS,
    MAX_ADDRESS_LENGTH,
    MAX_CLICK_ID_LENGTH,
    read_page,
    read_referrer,
    registrable_domain,
)
from lastseen.visits.utm import UtmParams

KEPT = KEPT_PARAMETERS | {"q", "a b", "ü"}

Read = tuple[str, str | None, UtmParams | None, Mapping[str, str]]


def taken_apart(text: str) -> tuple[str, str | None, str] | None:
    """Return address, host and query by the functions of `urllib.parse` alone."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    is_place = parts.scheme in ("http", "https", "android-app") and parts.netloc
    is_path = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not (is_place or is_path):
        return None
    host = (parts.hostname or "").rstrip(".") or None
    path = parts.path
    if not path.isascii() or not path.isprintable():
        path = quote(path, safe="/%:@!$&'()*+,;=~", errors="replace")
    if host is not None:
        name = f"[{host}]" if ":" in host else host
        path = f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{path or '/'}"
    return path, host, parts.query


def by_the_library(text: str) -> Read | None:
    """Return what is to be read of a page's address."""
    parts = taken_apart(text)
    if parts is None:
        return None
    path, host, written = parts
    try:
        query = parse_qsl(written, keep_blank_values=True, max_num_fields=1_000)
    except ValueError:
        query = []
    cut = urlencode([(name, value) for name, value in query if name in KEPT], errors="replace")
    return (
        (f"{path}?{cut}" if cut else path)[:MAX_ADDRESS_LENGTH],
        host,
        UtmParams.from_query(dict(reversed(query))),
        {name: value[:MAX_CLICK_ID_LENGTH] for name, value in query if name in CLICK_IDS and value},
    )


def as_read(text: str) -> Read | None:
    page = read_page(text, KEPT)
    return None if page is None else (page.url, page.host, page.utm, dict(page.click_ids))


def referrer_by_the_library(text: str) -> tuple[str, str | None] | None:
    address, host, _ = taken_apart(text) or ("", None, "")
    if host is None:
        return None
    return address[:MAX_ADDRESS_LENGTH], host if address.startswith("android-app:") else registrable_domain(host)


ODD = st.text(st.sampled_from("ab.-_~:/?#[]@!$&'()*+,;=% \t\n\"<>\\^`{|}|ÄßДⅣ\ud800\x00\x1f09"), max_size=12)
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["utm_source", "utm_medium", "utm%5Fcampaign", "gclid", "q", "a+b", "%C3%BC", "other", ""])
        | ODD,
        st.sampled_from(["", "=", "=spring", "=a%20b", "=a+b", "=%ff", "==", "=a=b", "=%"]) | ODD.map("={}".format),
    ).map("".join),
    max_size=5,
).map("&".join)
ADDRESSES = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "//", "", " https://", "android-app://", "ftp://", "https:/"]),
    st.sampled_from(["shop.example", "Shop.Example", "a", "u:p@h.example", "h.example.", "-h", "[::1]", "1.2.3.4", ""])
    | ODD,
    st.sampled_from(["", "", ":80", ":0", ":080", ":65535", ":65536", ":99999", ":", ":x"]),
    st.sampled_from(["", "/", "/a/b", "//a", "/ä", "/a b", "/%zz", "/:x", "/a;b=c"]) | ODD,
    st.sampled_from(["", "?"]) | FIELDS.map("?{}".format),
    st.sampled_from(["", "#", "#part?x=1", "#ä"]),
)


@given(ADDRESSES | ODD)
@example("https://shop.example?utm_source=x")
@example("https://shop.example/a?" + "&" * 999 + "gclid=1")
@example("https://shop.example/a?" + "&" * 1_000 + "gclid=1")
@example("https://shop.example/" + "a" * 3_000 + "?q=1")
def test_an_address_is_read_as_the_standard_library_reads_it(text: str) -> None:
    """Whichever road it takes: the same address is kept, of the same host, with the same campaign and click ids."""
    assert as_read(text) == by_the_library(text)
    assert read_referrer(text) == referrer_by_the_library(text)


@pytest.mark.parametrize(
    "text",
    ["https://shop.example/a?utm_source=a%20b", "/a?q=1&q=2", "https://shop.example:8080/ä?gclid=%C3%BC#x"],
)
def test_the_comparison_sees_a_difference(text: str) -> None:
    """An address with another field at its end is told apart."""
    assert as_read(text.partition("#")[0] + "&utm_medium=mail") != by_the_library(text)


@pytest.mark.parametrize("read", [read_page, read_referrer])
def test_only_short_addresses_are_remembered(read: Callable[[str], object]) -> None:
    """So that what is remembered has a bound in bytes; a short one is read once."""
    short, long = "https://shop.example/" + "a" * 1_900, "https://shop.example/" + "a" * 2_000
    assert read(short) is read(short)
    assert read(long) == read(long)
    assert read(long) is not read(long)
