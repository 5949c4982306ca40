"""Visits and events, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from lastseen.visits.event import Device, Geo
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import EndReason, Evidence, StartReason


class SessionProperties(Struct, kw_only=True, rename={
    "session_id": "$session_id",
    "session_duration": "$session_duration",
    "session_page_views": "$session_page_views",
    "entry": "$entry_url",
    "exit": "$exit_url",
    "came_from": "$referrer",
}):  # fmt: skip
    """What every visit is known by to programs that read sessions of analytics."""

    session_id: str
    session_duration: float
    """Seconds."""
    session_page_views: int
    entry: str | None
    exit: str | None
    came_from: str | None


class VisitView(SessionProperties, kw_only=True):
    """One visit."""

    id: str
    """That of its first event; any id of an event in it finds it."""
    site: str
    visitor_id: str
    distinct_id: str
    user_id: str | None
    started_at: datetime
    last_activity_at: datetime
    ended_at: datetime | None
    is_active: bool
    duration_seconds: float
    engaged_seconds: float
    page_views: int
    event_count: int
    is_bounce: bool
    is_bot: bool
    entry_url: str | None
    landing_page: str | None
    exit_page: str | None
    referrer: str | None
    referrer_domain: str | None
    channel: str | None
    utm: UtmParams | None
    device: Device | None
    geo: Geo | None
    start_reason: StartReason
    start_evidence: Evidence | None
    end_reason: EndReason | None
    end_evidence: Evidence | None
    previous_id: str | None
    window_ids: list[str]
    properties: dict[str, Any]


class EventView(Struct, kw_only=True):
    """One event."""

    id: str
    name: str
    distinct_id: str
    happened_at: datetime
    received_at: datetime
    url: str | None
    referrer: str | None
    user_id: str | None
    session_id: str | None
    window_id: str | None
    engaged_ms: int
    is_late: bool
    is_bot: bool
    properties: dict[str, Any]


class VisitDetails(Struct, kw_only=True):
    """One visit with what happened in it, in order."""

    visit: VisitView
    events: list[EventView]


class VisitList(Struct, kw_only=True):
    """One page of visits."""

    visits: list[VisitView]
    next_cursor: str | None
    """None on the last page."""


class EventList(Struct, kw_only=True):
    """One page of events."""

    events: list[EventView]
    next_cursor: str | None
    """None on the last page."""


class VisitCount(Struct, kw_only=True):
    """How many visits there are."""

    count: int
