"""A visit while it is folded: what `fold` changes, and what a `Visit` is made of. Pure; used by one fold only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.visits.attribution import DIRECT, channel_of
from lastseen.visits.domains import is_below
from lastseen.visits.event import IDENTIFY, PAGEVIEW, SESSION_START, UNLESS_OPEN, Device, Event, EventFlags
from lastseen.visits.identity import is_junk
from lastseen.visits.limits import Limits
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import EndReason, Evidence, StartReason, Visit, WindowOrigin

MAX_WINDOWS = 100
"""So many windows of a visit are kept, the first ones; programs make up a new one with every page."""
_BOT = int(EventFlags.BOT)
_LATE = int(EventFlags.LATE)
NOTHING: Mapping[str, Any] = {}


MAX_OTHER_WINDOWS = 20
"""So many windows of the visits before are kept, the last ones."""
Begun = tuple[Event, StartReason, Evidence | None, str | None, tuple[WindowOrigin, ...]]
"""The first event of a visit, why it began there, the id of the visit before it, and that one's windows."""
Run = tuple[Event | None, int, int, int, str | None, str | None, Event | None]
"""What some usual events come to: the last of them, their number, page views and milliseconds of use, and the visit's
landing and exit page then. At the end the event behind them, which may do more. There may be none of either."""


class OpenVisit:
    """The state of one visit. Its fields are those of `Visit`; what is written there is not repeated here."""

    __slots__ = (
        "channel",
        "custom",
        "device",
        "distinct_id",
        "end",
        "engaged_ms",
        "entry_url",
        "event_count",
        "exit_page",
        "geo",
        "has_late_events",
        "id",
        "is_bot",
        "landing_page",
        "last_activity",
        "last_event",
        "other_windows",
        "page_views",
        "previous_id",
        "referrer",
        "referrer_domain",
        "site_id",
        "start",
        "start_evidence",
        "start_reason",
        "user_id",
        "utm",
        "visitor_id",
        "window_ids",
    )

    def __init__(self, begun: Begun, limits: Limits, visitor_id: str) -> None:
        first, self.start_reason, self.start_evidence, self.previous_id, self.other_windows = begun
        self.id = first.id
        self.site_id = first.site_id
        self.visitor_id = visitor_id
        self.distinct_id = first.distinct_id
        self.start = self.last_activity = first.at
        self.last_event = first.at, first.id
        self.end: int | None = None
        flags, window = first.flags, first.window_id
        self.is_bot = flags & _BOT != 0
        self.has_late_events = flags & _LATE != 0
        self.window_ids: tuple[str, ...] = () if window is None else (window,)
        self.engaged_ms = first.engaged_ms
        self.user_id = first.user_id
        self.device = first.device
        self.geo = first.geo
        self.event_count = 1
        self.page_views = 0
        self.landing_page: str | None = None
        self.exit_page: str | None = None
        self.custom = NOTHING
        if first.name == PAGEVIEW:
            self._see_page(first.url)
        elif first.name == IDENTIFY:
            self.user_id = user_of(first)
        elif first.name == SESSION_START:
            self.event_count = 0
            self.custom = _custom(first)
        self.entry_url: str | None = None
        self.referrer: str | None = None
        self.referrer_domain: str | None = None
        self.utm: UtmParams | None = None
        self.channel: str | None = None
        self._enter(first, limits)

    @classmethod
    def of(cls, visit: Visit) -> OpenVisit:
        """Return the state that an open visit, or one that was ended by hand, was in after its last event."""
        self = cls.__new__(cls)
        self.id = visit.id
        self.site_id = visit.site_id
        self.visitor_id = visit.visitor_id
        self.distinct_id = visit.distinct_id
        self.start = visit.start
        self.last_activity = visit.last_activity
        self.last_event = visit.last_event
        self.start_reason = visit.start_reason
        self.start_evidence = visit.start_evidence
        self.previous_id = visit.previous_id
        self.end = visit.end
        self.is_bot = visit.is_bot
        self.has_late_events = visit.has_late_events
        self.window_ids = visit.window_ids
        self.engaged_ms = visit.engaged_ms
        self.user_id = visit.user_id
        self.device = visit.device
        self.geo = visit.geo
        self.event_count = visit.event_count
        self.page_views = visit.page_views
        self.landing_page = visit.landing_page
        self.exit_page = visit.exit_page
        self.custom = visit.custom
        self.other_windows = visit.other_windows
        self.entry_url = visit.entry_url
        self.referrer = visit.referrer
        self.referrer_domain = visit.referrer_domain
        self.utm = visit.utm
        self.channel = visit.channel
        return self

    def admits(self, at: int, limits: Limits) -> bool:
        """Return whether it was still open at a moment not before its last event."""
        in_time = at - self.last_activity <= limits.timeout and at - self.start <= limits.max_duration
        return in_time and self.end is None

    def attach(self, event: Event) -> None:
        """Count an event that does not extend the visit and tells nothing about its visitor."""
        self.last_event = event.order
        self.event_count += 1
        self.engaged_ms += event.engaged_ms
        if event.flags & _LATE:
            self.has_late_events = True
        self._see_window(event.window_id)

    def take(self, event: Event, limits: Limits) -> None:
        """Go on with something that the visitor did."""
        self.attach(event)
        self.last_activity = event.at
        if event.name == SESSION_START:
            self.event_count -= 1
        elif event.name == PAGEVIEW:
            self._see_page(event.url)
        if event.flags & _BOT:
            self.is_bot = True
        if self.user_id is None:
            self.user_id = user_of(event)
        if self.geo is None:
            self.geo = event.geo
        if event.device is not None:
            self._see_device(event.device)
        if self.entry_url is None:
            self._enter(event, limits)

    def go_along(self, run: Run) -> None:
        """Go on with usual events."""
        last, events, page_views, engaged_ms, self.landing_page, self.exit_page, _ = run
        if last is None:
            return
        self.last_activity = last.at
        self.last_event = last.order
        self.event_count += events
        self.page_views += page_views
        self.engaged_ms += engaged_ms

    def end_by_hand(self, event: Event) -> None:
        """End it at the event, which is its last."""
        self.last_event = event.order
        self.end = event.at

    def visit(self) -> Visit:
        """Return it as it is; open unless it was ended by hand."""
        return self.ended(None if self.end is None else EndReason.ASKED, None)

    def ended(self, reason: EndReason | None, evidence: Evidence | None) -> Visit:
        """Return it as ended: by hand at that moment, else at its last activity."""
        # Not more than thirty: see `lastseen.visits.usual`.
        visit = Visit(
            self.id,
            self.site_id,
            self.visitor_id,
            self.distinct_id,
            self.start,
            self.last_activity,
            self.last_event,
            self.start_reason,
            self.start_evidence,
            reason,
            evidence,
            None if reason is None else self.last_activity if self.end is None else self.end,
            self.previous_id,
            self.user_id,
            self.page_views,
            self.event_count,
            self.entry_url,
            self.landing_page,
            self.exit_page,
            self.referrer,
            self.referrer_domain,
            self.utm,
            self.channel,
            self.device,
            self.geo,
            self.engaged_ms,
            self.is_bot,
            self.has_late_events,
            self.window_ids,
            self.custom,
        )
        others = self.other_windows
        return msgspec.structs.replace(visit, other_windows=others) if others else visit

    def windows_beside(self, window_id: str | None) -> tuple[WindowOrigin, ...]:
        """Return the visitor's windows but the one that the next visit begins in, and where each came from."""
        origins = {one.window_id: one for one in self.other_windows}
        for each in self.window_ids:
            if each not in origins:
                origins[each] = WindowOrigin(each, self.referrer_domain, self.utm)
        if window_id is not None:
            origins.pop(window_id, None)
        return tuple(origins.values())[-MAX_OTHER_WINDOWS:]

    def origin_of(self, window_id: str | None) -> WindowOrigin | None:
        """Return where a window came from that was there before the visit; None for one that was not."""
        return next((one for one in self.other_windows if one.window_id == window_id), None)

    def _enter(self, event: Event, limits: Limits) -> None:
        """Take address and origin from the first event that has any; the origin of a later one is not the visit's."""
        url, referrer, domain, utm = event.url, event.referrer, event.referrer_domain, event.utm
        if self.channel is None:
            self.channel = channel_of_entry(url, referrer, domain, utm, limits)
            if self.channel is not None:
                self.referrer, self.referrer_domain, self.utm = referrer, domain, utm
        self.entry_url = url

    def _see_page(self, url: str | None) -> None:
        self.page_views += 1
        if url is not None:
            self.exit_page = url
            if self.landing_page is None:
                self.landing_page = url

    def _see_window(self, window: str | None) -> None:
        windows = self.window_ids
        if window is not None and window not in windows and len(windows) < MAX_WINDOWS:
            self.window_ids = (*windows, window)

    def _see_device(self, device: Device) -> None:
        """Keep the first device known; its screen may be told later, by an event of the same device."""
        known = self.device
        if known is None:
            self.device = device
        elif known.screen_resolution is None and device.screen_resolution is not None and _are_alike(known, device):
            self.device = msgspec.structs.replace(known, screen_resolution=device.screen_resolution)


def user_of(event: Event) -> str | None:
    """Return the known user whom an event names; an id that is none names nobody."""
    if event.user_id is None and event.name == IDENTIFY and not is_junk(event.distinct_id):
        return event.distinct_id
    return event.user_id


def known_referrer(referrer: str | None, domain: str | None, limits: Limits) -> str | None:
    """Return the domain that a visitor came from, None where the rule says that it tells nothing."""
    if domain is None or domain in limits.unknown_domains:
        return None
    return None if limits.unknown_hosts and is_below(referrer, domain, limits.unknown_hosts) else domain


def channel_of_entry(
    url: str | None, referrer: str | None, domain: str | None, utm: UtmParams | None, limits: Limits
) -> str | None:
    """Return the channel of a visit by the first event that says where its visitor was or came from; else None."""
    known = None if domain is None else known_referrer(referrer, domain, limits)
    if utm is None and known is None and (url is None or "?" not in url):
        return None if url is None and referrer is None and domain is None else DIRECT
    return channel_of(utm, known, url, None if known is None else referrer)


def _custom(first: Event) -> Mapping[str, Any]:
    return {name: value for name, value in first.properties.items() if name != UNLESS_OPEN}


def _are_alike(one: Device, other: Device) -> bool:
    return (one.type, one.os, one.browser) == (other.type, other.os, other.browser)
