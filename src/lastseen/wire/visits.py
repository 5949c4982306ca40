"""Visits and events, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from lastseen.clock import from_micros, to_micros
from lastseen.visits.event import Device, Event, EventFlags, Geo
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import EndReason, Evidence, StartReason, Visit


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
    has_late_events: bool
    window_ids: list[str]
    properties: dict[str, Any]

    @classmethod
    def of(cls, visit: Visit, rule: VisitRule, now: datetime) -> VisitView:
        """Return what is shown of a visit now: one whose time is over is shown as ended, whenever that is written."""
        visit = close_overdue(visit, to_micros(now), rule) or visit
        seconds = visit.duration.total_seconds()
        return cls(
            session_id=visit.id,
            session_duration=seconds,
            session_page_views=visit.page_views,
            entry=visit.entry_url,
            exit=visit.exit_page,
            came_from=visit.referrer,
            id=visit.id,
            site=visit.site_id,
            visitor_id=visit.visitor_id,
            distinct_id=visit.distinct_id,
            user_id=visit.user_id,
            started_at=visit.started_at,
            last_activity_at=visit.last_activity_at,
            ended_at=visit.ended_at,
            is_active=visit.is_active,
            duration_seconds=seconds,
            engaged_seconds=visit.engaged_ms / 1_000,
            page_views=visit.page_views,
            event_count=visit.event_count,
            is_bounce=visit.is_bounce,
            is_bot=visit.is_bot,
            entry_url=visit.entry_url,
            landing_page=visit.landing_page,
            exit_page=visit.exit_page,
            referrer=visit.referrer,
            referrer_domain=visit.referrer_domain,
            channel=visit.channel,
            utm=visit.utm,
            device=visit.device,
            geo=visit.geo,
            start_reason=visit.start_reason,
            start_evidence=visit.start_evidence,
            end_reason=visit.end_reason,
            end_evidence=visit.end_evidence,
            previous_id=visit.previous_id,
            has_late_events=visit.has_late_events,
            window_ids=list(visit.window_ids),
            properties=dict(visit.custom),
        )


class EventView(Struct, kw_only=True):
    """One event."""

    id: str
    name: str
    distinct_id: str
    happened_at: datetime
    received_at: datetime
    url: str | None
    referrer: str | None
    referrer_domain: str | None
    utm: UtmParams | None
    user_id: str | None
    session_id: str | None
    window_id: str | None
    engaged_ms: int
    is_late: bool
    is_bot: bool
    properties: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> EventView:
        """Return what is shown of an event."""
        return cls(
            id=event.id,
            name=event.name,
            distinct_id=event.distinct_id,
            happened_at=event.happened_at,
            received_at=from_micros(event.received_at),
            url=event.url,
            referrer=event.referrer,
            referrer_domain=event.referrer_domain,
            utm=event.utm,
            user_id=event.user_id,
            session_id=event.session_id,
            window_id=event.window_id,
            engaged_ms=event.engaged_ms,
            is_late=bool(event.flags & EventFlags.LATE),
            is_bot=bool(event.flags & EventFlags.BOT),
            properties=dict(event.properties),
        )


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
