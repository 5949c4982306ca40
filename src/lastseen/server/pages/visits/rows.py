"""One line a visit, for the lists of visits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from lastseen.clock import to_micros
from lastseen.server.pages.live import element_id
from lastseen.server.pages.visits.words import START_REASONS, page_words, source_words, span_words, visit_facts
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Visit

_LONGEST_NAME = 20
"""A longer visitor id is a digest or a UUID, whose rest says nothing to a reader."""


def visit_rows(visits: Sequence[Visit], rule: VisitRule, now: datetime, zone: str = "UTC") -> list[dict[str, Any]]:
    """Return what a list of visits shows; one whose time is over is shown as ended, whenever that is written."""
    moment = to_micros(now)
    current = [close_overdue(visit, moment, rule) or visit for visit in visits]
    return [
        {
            "element_id": element_id("visit", visit.id),
            "href": visit_address(visit.site_id, visit.id, zone),
            "visitor": visitor_words(visit),
            "facts": visit_facts(visit),
            "is_active": visit.is_active,
            "is_bot": visit.is_bot,
            "entry": page_words(visit.landing_page or visit.entry_url),
            "entry_url": visit.landing_page or visit.entry_url or "",
            "source": source_words(visit),
            "page_views": visit.page_views,
            "duration": span_words(visit.duration.total_seconds()),
            "started_at": visit.started_at,
            "reason": START_REASONS[visit.start_reason],
        }
        for visit in current
    ]


def visit_address(site_id: str, visit_id: str, zone: str = "UTC") -> str:
    """Return where one visit is shown, with its moments in a time zone."""
    fields = {"site": site_id, "id": visit_id} | ({"tz": zone} if zone != "UTC" else {})
    return f"/visit?{urlencode(fields)}"


def visitor_words(visit: Visit) -> str:
    """Say who it was: the known user, or the beginning of an anonymous id."""
    name = visit.user_id or visit.visitor_id
    return name if len(name) <= _LONGEST_NAME or "@" in name else f"{name[:8]}…"
