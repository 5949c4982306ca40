"""Visits and events as the flat rows of a columnar copy, the same in every engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from lastseen.visits.event import PAGEVIEW, Event, EventFlags
from lastseen.visits.visit import Visit

_NOTHING: Mapping[str, Any] = {}
# Looking at a member of the enumeration takes a microsecond.
_PASSIVE, _BOT = int(EventFlags.PASSIVE), int(EventFlags.BOT)
_REMEMBERED = 1 << 12
"""Addresses, which are cut at 2,000 characters where events are made; there are far fewer than views of them."""
_encode = msgspec.json.Encoder().encode


def event_columns(events: Sequence[Event]) -> dict[str, list[Any]]:
    """Return what reports ask of events, by column; properties as text, without those of the client library (`$…`)."""
    return {
        "site": [event.site_id for event in events],
        "id": [event.id for event in events],
        "distinct_id": [event.distinct_id for event in events],
        "moment": [event.at for event in events],
        "name": [event.name for event in events],
        "page": [page_of(event.url) for event in events],
        "is_page_view": [event.name == PAGEVIEW for event in events],
        "is_passive": [event.flags & _PASSIVE != 0 for event in events],
        "is_bot": [event.flags & _BOT != 0 for event in events],
        "properties": [text_properties(event.properties) for event in events],
    }


def visit_columns(visits: Sequence[Visit]) -> dict[str, list[Any]]:
    """Return what reports ask of visits, by column; empty where there are none."""
    rows = [_visit_row(visit) for visit in visits]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _visit_row(visit: Visit) -> dict[str, Any]:
    """Return what reports ask of a visit."""
    utm, device, geo = visit.utm, visit.device, visit.geo
    return {
        "site": visit.site_id,
        "id": visit.id,
        "visitor_id": visit.visitor_id,
        "start": visit.start,
        "last_moment": visit.last_event[0],
        "last_id": visit.last_event[1],
        "duration": (visit.last_activity if visit.end is None else visit.end) - visit.start,
        "engaged_ms": visit.engaged_ms,
        "is_bounce": visit.is_bounce,
        "is_bot": visit.is_bot,
        "entry": page_of(visit.landing_page),
        "exit": page_of(visit.exit_page),
        "source": (utm and utm.source) or visit.referrer_domain,
        "referrer": visit.referrer,
        "channel": visit.channel,
        "utm_source": utm and utm.source,
        "utm_medium": utm and utm.medium,
        "utm_campaign": utm and utm.campaign,
        "utm_term": utm and utm.term,
        "utm_content": utm and utm.content,
        "country": geo and geo.country,
        "region": geo and geo.region,
        "city": geo and geo.city,
        "device": device and device.type,
        "browser": device and device.browser,
        "os": device and device.os,
    }


@lru_cache(maxsize=_REMEMBERED)
def page_of(url: str | None) -> str | None:
    """Return the path of an address, without host, query and fragment; `/` where it has none."""
    if url is None:
        return None
    place = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = place.partition("://")
    if not separator or "/" in scheme:
        return place or "/"
    return "/" + rest.partition("/")[2]


def text_properties(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return custom properties as text: text as it is, everything else as JSON; null is as good as not there."""
    return {
        name: value if isinstance(value, str) else _encode(value).decode()
        for name, value in (properties or _NOTHING).items()
        if value is not None and not name.startswith("$")
    }
