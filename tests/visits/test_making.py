"""From what came in to an event that is complete."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lastseen.clock import to_micros
from lastseen.visits.cookieless import ImportedVisitors
from lastseen.visits.event import Device, EventFlags, Geo
from lastseen.visits.geography import Geography
from lastseen.visits.making import EventMaker, RawEvent, dated_id, is_prefetch
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site
from lastseen.visits.utm import UtmParams

NOW = to_micros(datetime(2026, 3, 28, 12, tzinfo=UTC))
HOUR = 3_600 * 1_000_000
SECRET = b"s" * 32
SITE = Site(
    id="shop",
    name="Shop",
    domains=("example.org", "example.shop"),
    write_key="wk_" + "a" * 22,
    import_secret=SECRET,
    rule=VisitRule(excluded_referrers=frozenset({"pay.example", "bank.example.net"})),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
MAKER = EventMaker(SITE, visitors=ImportedVisitors(SITE.id, SECRET))
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def raw(**values: Any) -> RawEvent:
    return RawEvent(**{"name": "$pageview", "at": NOW, "received_at": NOW, "distinct_id": "ann", **values})


@pytest.mark.parametrize(
    ("url", "referrer", "domain"),
    [
        ("https://www.example.org/", "https://blog.example.org/x", None),
        ("https://www.example.org/", "https://example.shop/", None),
        ("https://other.co.uk/", "https://www.other.co.uk/", None),
        ("/mere/path", "https://example.org/", None),
        ("https://www.example.org/", "https://pay.example/return?session=1", None),
        ("https://www.example.org/", "https://in.bank.example.net/", None),
        ("https://www.example.org/", "https://bank.example.net:8443/login", None),
        ("https://www.example.org/", "https://mybank.example.net/", "example.net"),
        ("https://www.example.org/", "https://news.example.net/", "example.net"),
        ("https://a.github.io/", "https://b.github.io/", "b.github.io"),
        (None, "https://news.example.net/", "example.net"),
        ("https://www.example.org/", "$direct", None),
        ("https://www.example.org/", None, None),
    ],
)
def test_whose_the_referrer_is(url: str | None, referrer: str | None, domain: str | None) -> None:
    """The site's own pages, its domains and those that visitors only pass through are nobody's."""
    assert MAKER.make(raw(url=url, referrer=referrer)).referrer_domain == domain


def test_the_address_brings_the_campaign() -> None:
    """Campaign and click id are read from the address; what the client says goes first."""
    url = "https://example.org/?utm_source=mail&utm_medium=email&gclid=G1&private=1"
    event = MAKER.make(raw(url=url, properties={"plan": "gold", "gclid": None}))
    assert event.utm == UtmParams(source="mail", medium="email")
    assert event.properties == {"gclid": "G1", "plan": "gold"}
    assert event.url == "https://example.org/?utm_source=mail&utm_medium=email&gclid=G1"
    said = MAKER.make(raw(url=url, utm=UtmParams(source="app")))
    assert said.utm == UtmParams(source="app")


def test_the_user_agent_fills_what_the_client_leaves_out() -> None:
    """What the client says of its device counts, and the versions belong to what they are versions of."""
    found = Device(type="desktop", os="Linux", browser="Firefox", browser_version="128.0")
    assert MAKER.make(raw(user_agent=FIREFOX)).device == found
    said = MAKER.make(raw(user_agent=FIREFOX, device=Device(browser="Mine"), screen="800x600")).device
    assert said == Device(type="desktop", os="Linux", browser="Mine", screen_resolution="800x600")


def test_a_servers_own_address_is_not_the_visitors() -> None:
    """Neither device nor place is taken from a server's request, and a library is no robot then."""
    database = Path(__file__).parent.parent / "data" / "GeoIP2-City-Test.mmdb"
    with Geography(database) as geography:
        maker = EventMaker(SITE, visitors=ImportedVisitors(SITE.id, SECRET), geography=geography)
        event = maker.make(raw(name="paid", is_server=True, user_agent="python-requests/2", address="81.2.69.142"))
        assert (event.device, event.geo, event.flags) == (None, None, EventFlags.SERVER)
        assert maker.make(raw(address="81.2.69.142")).geo is not None
        assert maker.make(raw(address="81.2.69.142", geo=Geo(country="FR"))).geo == Geo(country="FR")


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({}, EventFlags.NONE),
        ({"passive": True}, EventFlags.PASSIVE),
        ({"name": "paid", "is_server": True}, EventFlags.SERVER),
        ({"name": "paid", "is_server": True, "session_id": "s"}, EventFlags.NONE),
        ({"is_server": True}, EventFlags.NONE),
        ({"at": NOW - 72 * HOUR}, EventFlags.NONE),
        ({"at": NOW - 72 * HOUR - 1}, EventFlags.LATE),
        ({"user_agent": "Googlebot/2.1"}, EventFlags.BOT),
        ({"device": Device(type="bot")}, EventFlags.BOT),
        ({"user_agent": "Googlebot/2.1", "passive": True, "at": 0}, 13),
    ],
    ids=list(map(str, range(10))),
)
def test_flags(values: dict[str, Any], flags: int) -> None:
    """Passive, from a server, late, a robot; any of them together."""
    assert MAKER.make(raw(**values)).flags == flags


def test_imports_are_never_late() -> None:
    """Without a limit nothing is."""
    maker = EventMaker(SITE, visitors=ImportedVisitors(SITE.id, SECRET), late_limit=None)
    assert maker.make(raw(at=0)).flags == 0


def test_nothing_happens_in_the_future() -> None:
    """An event that claims to be later than its arrival happened when it arrived."""
    assert MAKER.make(raw(at=NOW + HOUR)).at == NOW


def test_an_id_is_derived_from_the_content() -> None:
    """The same again is the same event, also later; another content, or the same content again on purpose, is not."""
    first = MAKER.make(raw(url="/a", properties={"b": 1, "a": 2}))
    again = MAKER.make(raw(url="/a", properties={"a": 2, "b": 1}, received_at=NOW + HOUR))
    assert first.id == again.id
    others = [raw(url="/b"), raw(url="/a"), raw(url="/a", at=NOW - 1), raw(url="/a", distinct_id="bob")]
    others += [raw(url="/a", properties={"b": 1, "a": 2}, identical_before=1)]
    assert len({first.id, *(MAKER.make(other).id for other in others)}) == len(others) + 1
    assert MAKER.make(raw(id="given")).id == "given"


def test_a_derived_id_begins_with_its_moment() -> None:
    """Ids of later moments come later, as those of UUIDs of version 7 do; the rest tells events of a moment apart."""
    moments = [-HOUR, 0, NOW - 1_000, NOW, NOW + HOUR, 2**62]
    ids = [dated_id(at, b"the same", SECRET) for at in moments]
    assert {len(each) for each in ids} == {32}
    assert ids[1:5] == sorted(ids[1:5])
    assert int(ids[3][:12], 16) == NOW // 1_000
    assert len({dated_id(NOW, content, key) for content in (b"a", b"b") for key in (SECRET, b"t" * 32)}) == 4


def test_addresses_are_not_kept() -> None:
    """Nothing of the event holds the address, not even in its id under another secret."""
    event = MAKER.make(raw(distinct_id=None, address="198.51.100.7", user_agent=FIREFOX))
    assert "198.51.100.7" not in repr(event)
    other = EventMaker(SITE, visitors=ImportedVisitors(SITE.id, b"t" * 32))
    changed = other.make(raw(distinct_id=None, address="198.51.100.7", user_agent=FIREFOX))
    assert (event.distinct_id, event.id) != (changed.distinct_id, changed.id)


def test_any_content_makes_an_event() -> None:
    """Half a surrogate pair, no address at all, deep properties: nothing raises."""
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"deeper": deep}
    for values in (
        {"name": "\ud800", "url": "\ud800", "referrer": "http://\ud800/", "user_agent": "\ud800", "distinct_id": None},
        {"url": "https://exa mple/\x00", "properties": deep},
        {"properties": {"a": float("inf"), "b": "\udfff"}},
    ):
        assert MAKER.make(raw(**values)).id


@pytest.mark.parametrize(
    ("header", "is_one"),
    [("prefetch", True), ("prefetch;prerender", True), ("Prefetch", True), (None, False), ("", False)],
)
def test_prefetches(header: str | None, is_one: bool) -> None:
    """What a browser loads before anybody looks at it says so."""
    assert is_prefetch(header) is is_one


@pytest.mark.parametrize(
    ("user_id", "known"),
    [
        ("ann", "ann"),
        ("42", "42"),
        ("null", None),
        ("Undefined", None),
        ("0", None),
        ("", None),
        (" ", None),
        (None, None),
    ],
)
def test_a_user_id_that_is_none_names_no_user(user_id: str | None, known: str | None) -> None:
    """What a page sends while nobody is signed in; else the next sign-in would be another user's."""
    assert MAKER.make(raw(user_id=user_id)).user_id == known
