"""One visit: what happened, when, and why it began and ended."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.response import Template

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, to_micros, utc
from lastseen.devices.key import Scope
from lastseen.reports.question import find_zone
from lastseen.server.pages.exports import exports
from lastseen.server.pages.frame import show, show_problem
from lastseen.server.pages.visits.addresses import VISITS
from lastseen.server.pages.visits.rows import visit_address, visitor_words
from lastseen.server.pages.visits.view import zone_of
from lastseen.server.pages.visits.words import (
    END_REASONS,
    START_REASONS,
    offset_words,
    page_words,
    reason_words,
    source_words,
    span_words,
    visit_facts,
    zone_words,
)
from lastseen.server.problem import Problem
from lastseen.visits.event import Event
from lastseen.visits.fold import close_overdue
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.visit import Visit

_NAMES = {"$pageview": "Page view", "$pageleave": "Left the page", "$identify": "Signed in", "$create_alias": "Joined"}


@get(
    "/visit",
    needs=Scope.VISITS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    exception_handlers={Exception: show_problem},
)
def show_visit(
    request: Request[None, None, State],
    seen: LastSeen,
    site: str = DEFAULT_SITE_ID,
    id: str = "",  # noqa: A002 - its name in the address
    tz: str = "",
) -> Template:
    """Show one visit; any id of an event in it finds it."""
    rule, zone = seen.sites.get(site).rule, zone_of(tz)
    visit = seen.store.visits.get(site, id) if id else None
    if visit is None:
        raise Problem(404, "There is no such visit, or it was erased.")
    visit = close_overdue(visit, to_micros(utc(SYSTEM_CLOCK.now())), rule) or visit
    neighbours = seen.store.visits.visits_of_visitors(site, [visit.visitor_id]).get(visit.visitor_id, ())
    return show(
        request,
        "visit.html",
        visit=_facts(visit, [other.id for other in neighbours], zone),
        zone=zone_words(zone),
        figures=_figures(visit),
        began=reason_words(START_REASONS[visit.start_reason], visit.start_evidence),
        ended=_ended(visit),
        origin=_origin(visit, find_zone(zone)),
        events=[_event(visit, event, find_zone(zone)) for event in seen.store.visits.events_of(visit)],
        exports=exports(f"{VISITS}/{quote(visit.id, safe='')}", [("site", site)]),
    )


def _facts(visit: Visit, ids: list[str], zone: str) -> dict[str, Any]:
    place = ids.index(visit.id) if visit.id in ids else 0
    after = ids[place + 1 : place + 2]
    return {
        "site": visit.site_id,
        "visitor": visitor_words(visit),
        "visitor_id": visit.visitor_id,
        "is_active": visit.is_active,
        "is_bot": visit.is_bot,
        "facts": visit_facts(visit),
        "previous": visit_address(visit.site_id, visit.previous_id, zone) if visit.previous_id else None,
        "next": visit_address(visit.site_id, after[0], zone) if after else None,
    }


def _figures(visit: Visit) -> list[tuple[str, str]]:
    return [
        ("Page views", f"{visit.page_views:,}"),
        ("Events", f"{visit.event_count:,}"),
        ("Duration", span_words(visit.duration.total_seconds())),
        ("Engaged", span_words(visit.engaged_ms / 1000)),
    ]


def _ended(visit: Visit) -> str:
    if visit.end_reason is None:
        return "it goes on"
    return reason_words(END_REASONS[visit.end_reason], visit.end_evidence)


def _origin(visit: Visit, zone: tzinfo) -> list[tuple[str, str]]:
    utm = visit.utm
    facts = [
        ("Source", source_words(visit)),
        ("Referrer", visit.referrer or ""),
        ("Campaign", " / ".join(filter(None, (utm.source, utm.medium, utm.campaign))) if utm else ""),
        ("Entry", visit.entry_url or ""),
        ("Exit", visit.exit_page or ""),
        ("Visitor", visit.visitor_id),
        ("Started", f"{visit.started_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"),
    ]
    return [(label, value) for label, value in facts if value]


def _event(visit: Visit, event: Event, zone: tzinfo) -> dict[str, Any]:
    return {
        "name": _NAMES.get(event.name, event.name),
        "kind": "page" if event.is_pageview else "other",
        "where": page_words(event.url) if event.url or event.is_pageview else "",
        "at": event.happened_at.astimezone(zone),
        "offset": offset_words(event.happened_at - visit.started_at),
        "properties": [
            (key, value if isinstance(value, str) else msgspec.json.encode(value).decode())
            for key, value in event.properties.items()
        ],
    }
