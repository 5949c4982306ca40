"""One visitor's events in sequence, and why it began and ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from lastseen.clock import from_micros
from lastseen.visits.event import Device, Geo
from lastseen.visits.utm import UtmParams

BOUNCE_ENGAGEMENT_MS = 10_000
"""A visit of one page that was looked at for this long is no bounce; Google's engaged session
(https://support.google.com/analytics/answer/12195621)."""


class StartReason(StrEnum):
    """Why a visit began and was not the one before going on."""

    FIRST = "first"
    """The visitor was not known before."""
    TIMEOUT = "timeout"
    MAX_DURATION = "max_duration"
    CAMPAIGN = "campaign"
    REFERRER = "referrer"
    OTHER_USER = "other_user"
    """Another known user on the same device."""
    ASKED = "asked"
    """Started by hand."""
    ENDED = "ended"
    """The visit before was ended by hand."""


class EndReason(StrEnum):
    """Why a visit ended; None while it is open."""

    TIMEOUT = "timeout"
    MAX_DURATION = "max_duration"
    CAMPAIGN = "campaign"
    REFERRER = "referrer"
    OTHER_USER = "other_user"
    ASKED = "asked"
    """Ended by hand, at that moment."""
    STARTED = "started"
    """The visitor's next visit was started by hand while this one was open."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The two values that were compared, readable: a silence and the timeout, two domains, two campaigns."""

    before: str | None = None
    after: str | None = None


class WindowOrigin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a browser's window or tab came from."""

    window_id: str
    referrer_domain: str | None
    utm: UtmParams | None


class Visit(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A visit. Moments inside are microseconds since 1970 UTC; the properties give aware moments.

    Give its fields by name. Only the fold gives them in their order: msgspec looks for each name among all fields, and
    thirty names cost fifteen times what thirty values do.

    The id is that of the visit's first event: a visit that a late event extends backwards changes its id, and every id
    of an event in it finds it.
    """

    id: str
    site_id: str
    visitor_id: str
    """The visitor that all the distinct ids of its events belong to: the known user's id, or an anonymous one."""
    distinct_id: str
    """Of the first event."""
    start: int
    last_activity: int
    last_event: tuple[int, str]
    """Place (moment, id) of the last event that belongs to it, also one that did not extend it."""
    start_reason: StartReason
    start_evidence: Evidence | None = None
    end_reason: EndReason | None = None
    end_evidence: Evidence | None = None
    end: int | None = None
    """When it ended; that it timed out is known only when somebody looks, see `is_active` and `ended`."""
    previous_id: str | None = None
    """The visitor's visit before this one."""
    user_id: str | None = None
    page_views: int = 0
    event_count: int = 0
    """Of all events; a page view is one too."""
    entry_url: str | None = None
    """The first address seen."""
    landing_page: str | None = None
    """The address of the first page view."""
    exit_page: str | None = None
    """The address of the last page view."""
    referrer: str | None = None
    referrer_domain: str | None = None
    utm: UtmParams | None = None
    channel: str | None = None
    device: Device | None = None
    geo: Geo | None = None
    engaged_ms: int = 0
    is_bot: bool = False
    has_late_events: bool = False
    window_ids: tuple[str, ...] = ()
    custom: Mapping[str, Any] = {}
    """Free properties, of the `$session_start` that was asked for."""
    other_windows: tuple[WindowOrigin, ...] = ()
    """Windows of the visits before, where this one began because its visitor came from elsewhere in another window:
    that they go on as they came is no arrival."""

    @property
    def started_at(self) -> datetime:
        """When it began."""
        return from_micros(self.start)

    @property
    def last_activity_at(self) -> datetime:
        """When its visitor last did something."""
        return from_micros(self.last_activity)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, None while it is open; one that timed out ended at its last activity."""
        return None if self.end is None else from_micros(self.end)

    @property
    def is_active(self) -> bool:
        """Whether it is open, as far as was known when it was read."""
        return self.end is None

    @property
    def duration(self) -> timedelta:
        """From its start to its end, or to its last activity."""
        return timedelta(microseconds=(self.last_activity if self.end is None else self.end) - self.start)

    @property
    def is_bounce(self) -> bool:
        """Whether it saw one page at most, for less than ten seconds."""
        return self.page_views <= 1 and self.engaged_ms < BOUNCE_ENGAGEMENT_MS

    def properties(self) -> dict[str, Any]:
        """Return the session properties under their names on the wire."""
        return {
            "distinct_id": self.distinct_id,
            "$session_id": self.id,
            "$session_duration": self.duration.total_seconds(),
            "$session_page_views": self.page_views,
            "$entry_url": self.entry_url,
            "$exit_url": self.exit_page,
            "$referrer": self.referrer,
        }
