"""Visits and events as the flat rows of a columnar copy, the same in every engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from lastseen.stores.stored_events import Sender, facts_of
from lastseen.visits.event import PAGEVIEW, Event, EventFlags
from lastseen.visits.visit import Visit

# Looking at a member of the enumeration takes a microsecond.
_PASSIVE, _BOT = int(EventFlags.PASSIVE), int(EventFlags.BOT)
_REMEMBERED = 1 << 12
"""Addresses, which are cut at 2,000 characters where events are made; there are far fewer than views of them."""
_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(dict[str, Any] | None).decode


class EventColumns(NamedTuple):
    """What reports ask of events, by column.

    Who sent an event, and what it says, is the same for many: an event names the place of either in a list.
    """

    events: Mapping[str, Sequence[Any]]
    senders: Mapping[str, Sequence[Any]]
    kinds: Mapping[str, Sequence[Any]]
    """Properties are text, without those of the client library (`$…`)."""


def event_columns(events: Sequence[Event]) -> EventColumns:
    """Return what reports ask of events, by column."""
    ids: list[str] = []
    moments: list[int] = []
    of_senders: list[int] = []
    of_kinds: list[int] = []
    senders: dict[Sender, int] = {}
    kinds: dict[tuple[str, int, str | None, bytes], int] = {}
    for sender, event_id, at, name, flags, url, properties in facts_of(events):
        ids.append(event_id)
        moments.append(at)
        of_senders.append(senders.setdefault(sender, len(senders)))
        of_kinds.append(kinds.setdefault((name, flags, page_of(url), properties), len(kinds)))
    return EventColumns(
        events={"id": ids, "moment": moments, "sender": of_senders, "kind": of_kinds},
        senders={
            "place": list(range(len(senders))),
            "site": [site_id for site_id, _ in senders],
            "distinct_id": [distinct_id for _, distinct_id in senders],
        },
        kinds={
            "place": list(range(len(kinds))),
            "name": [name for name, _, _, _ in kinds],
            "page": [page for _, _, page, _ in kinds],
            "is_page_view": [name == PAGEVIEW for name, _, _, _ in kinds],
            "is_passive": [flags & _PASSIVE != 0 for _, flags, _, _ in kinds],
            "is_bot": [flags & _BOT != 0 for _, flags, _, _ in kinds],
            "properties": [text_properties(_decode_properties(text) or {}) for _, _, _, text in kinds],
        },
    )


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
        for name, value in properties.items()
        if value is not None and not name.startswith("$")
    }
