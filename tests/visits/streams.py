"""Streams of events for the tests of the fold: small numbers, so that every edge is hit often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from lastseen.visits.event import (
    GROUP_IDENTIFY,
    IDENTIFY,
    PAGELEAVE,
    PAGEVIEW,
    SESSION_END,
    SESSION_START,
    UNLESS_OPEN,
    Device,
    Event,
    EventFlags,
    Geo,
)
from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
TICKS = 60
"""A stream's moments are microseconds below this."""


def event(id: str, at: int = 0, name: str = PAGEVIEW, **fields: Any) -> Event:  # noqa: A002 - the name of the field
    """Return an event of one visitor with what a test does not care about filled in."""
    return Event(id=id, site_id="default", name=name, at=at, received_at=at, **{"distinct_id": "ann", **fields})


def utm(source: str | None = None, medium: str | None = None, campaign: str | None = None) -> UtmParams:
    """Return campaign parameters."""
    return UtmParams(source=source, medium=medium, campaign=campaign)


_PHONE = Device(type="mobile", os="Android", browser="Chrome")
_NAMES = (
    [PAGEVIEW] * 5 + ["click"] * 3 + [PAGELEAVE, IDENTIFY, GROUP_IDENTIFY, SESSION_START, SESSION_START, SESSION_END]
)
_FLAGS = [0] * 6 + [
    EventFlags.PASSIVE,
    EventFlags.SERVER,
    EventFlags.LATE,
    EventFlags.BOT,
    EventFlags.BOT | EventFlags.LATE,
    EventFlags.SERVER | EventFlags.PASSIVE,
]


def _properties(name: str, number: int) -> Mapping[str, Any]:
    if name != SESSION_START:
        return {}
    return {UNLESS_OPEN: True, "number": number} if number % 2 else {"number": number}


def _with_screen(device: Device) -> Device:
    return Device(type=device.type, os=device.os, browser=device.browser, screen_resolution="360x800")


_URLS = [None, "/1", "/2", "/3"]
_REFERRERS = [
    None,
    None,
    None,
    "https://a.com/",
    "https://pay.b.com/1",
    "https://x.pay.b.com:8443/",
    "https://mypay.b.com/",
]
_DOMAINS = [None, None, None, "a.com", "b.com", "own.org", "pay.com"]
_CAMPAIGNS = [None, None, None, utm("x"), utm(" X "), utm("x", "cpc"), utm("y")]
_USERS = [None, None, None, None, "u1", "u2"]
_WINDOWS = [None, "w1", "w2"]
_ENGAGED = [0, 0, 5_000]
_DEVICES = [None, None, _PHONE, Device(type="desktop"), _with_screen(_PHONE)]
_PLACES = [None, None, Geo(country="DE"), Geo(country="US")]
_CHOICES: Sequence[Sequence[Any]] = (
    *(range(TICKS), range(10), _NAMES, ["ann", "bob"], _FLAGS, _URLS, _REFERRERS, _DOMAINS, _CAMPAIGNS, _USERS),
    *(_WINDOWS, _ENGAGED, _DEVICES, _PLACES),
)


def _event(number: int, code: bytes) -> Event:
    """Return the event that some bytes stand for: one draw an event is thirty times as fast as one a field."""
    chosen = [choices[byte % len(choices)] for choices, byte in zip(_CHOICES, code, strict=True)]
    at, digit, name, distinct_id, flags, url, referrer, domain, campaign, user, window, engaged, device, geo = chosen
    return event(
        f"{digit}-{number}",
        at,
        name,
        distinct_id=distinct_id,
        flags=int(flags),
        url=url,
        referrer=referrer,
        referrer_domain=domain,
        utm=campaign,
        user_id=user,
        window_id=window,
        engaged_ms=engaged,
        device=device,
        geo=geo,
        properties=_properties(name, number),
    )


def _decoded(code: bytes) -> list[Event]:
    width = len(_CHOICES)
    return [_event(start // width, code[start : start + width]) for start in range(0, len(code), width)]


def streams(most: int = 30) -> st.SearchStrategy[list[Event]]:
    """Events of one visitor, each id once, in no order."""
    sizes = st.integers(0, most).map(lambda count: count * len(_CHOICES))
    return sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(_decoded)


rules = st.builds(
    VisitRule,
    timeout=st.sampled_from([timedelta(microseconds=3), timedelta(microseconds=8)]),
    max_duration=st.sampled_from([timedelta(microseconds=9), timedelta(microseconds=25), timedelta(hours=24)]),
    new_visit_on_referrer_change=st.booleans(),
    new_visit_on_utm_change=st.booleans(),
    count_server_events=st.booleans(),
    own_domains=st.just(frozenset({"own.org"})),
    excluded_referrers=st.just(frozenset({"pay.com", "pay.b.com"})),
)
"""Rules whose spans are as short as the streams."""
