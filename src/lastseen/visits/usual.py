"""The short way of the fold: events that only continue a visit, and visits of such events. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from lastseen.visits.event import (
    ALIAS,
    GROUP_IDENTIFY,
    IDENTIFY,
    PAGELEAVE,
    PAGEVIEW,
    SESSION_END,
    SESSION_START,
    Event,
    EventFlags,
)
from lastseen.visits.limits import Limits, evidence_of_silence
from lastseen.visits.opened import NOTHING, Begun, OpenVisit, Run, channel_of_entry
from lastseen.visits.visit import EndReason, StartReason, Visit

_BOT = int(EventFlags.BOT)
_LATE = int(EventFlags.LATE)
_UNATTENDED = int(EventFlags.PASSIVE | EventFlags.SERVER)
_UNUSUAL = frozenset({SESSION_START, SESSION_END, IDENTIFY, GROUP_IDENTIFY})
_NEVER_FIRST = _UNUSUAL | {ALIAS, PAGELEAVE}
_TIMEOUT, _TIMED_OUT = StartReason.TIMEOUT, EndReason.TIMEOUT


def usual_run(visit: Visit | OpenVisit, events: Iterator[Event], limits: Limits) -> Run:
    """Take events up to the first that may do more than continue an open visit; change nothing."""
    if visit.end is not None:
        return None, 0, 0, 0, visit.landing_page, visit.exit_page, next(events, None)
    return _usual(visit, None, events, limits, "", [])[1]


def usual_visits(
    begun: Begun, events: Iterator[Event], limits: Limits, visitor_id: str, done: list[Visit]
) -> tuple[OpenVisit | None, Event | None]:
    """Fold visits that begin with a usual event and go on with such until the timeout.

    They are added to `done`, the last one too when no event is left. Else that one is returned as it is then, with the
    event that may do more.
    """
    last_begun, run = _usual(None, begun, events, limits, visitor_id, done)
    if last_begun is None:
        return None, None
    visit = OpenVisit(last_begun, limits, visitor_id)
    visit.go_along(run)
    return visit, run[-1]


def begins_usually(event: Event) -> bool:
    """Return whether the event may begin a visit, and nothing but the visit before it tells why."""
    return not (event.flags & _UNATTENDED or event.name in _NEVER_FIRST)


def _usual(  # noqa: C901, PLR0912, PLR0915, PLR0917 - one loop without calls is what makes it fast
    visit: Visit | OpenVisit | None,
    begun: Begun | None,
    events: Iterator[Event],
    limits: Limits,
    visitor_id: str,
    done: list[Visit],
) -> tuple[Begun | None, Run]:
    """Go on with a visit, or with one that has begun; then also with the visits after it that are as usual.

    What it takes it takes as `OpenVisit` does, without calls, with its state in local variables and nothing made but
    the visits: three times as fast, and nine of ten events are such.
    """
    timeout, max_duration, unknown_domains = limits.timeout, limits.max_duration, limits.unknown_domains
    while True:
        if begun is not None:
            first, reason, evidence, previous_id, other_windows = begun
            name = first.name
            start = last_activity = first.at
            bot = first.flags & _BOT
            utm = first.utm
            domain = first.referrer_domain
            user_id = first.user_id
            window = first.window_id
            windows: tuple[str, ...] = () if window is None else (window,)
            device = first.device
            geo = first.geo
            url = first.url
            landing_page = exit_page = url if name == PAGEVIEW else None
        elif visit is not None:
            start, last_activity = visit.start, visit.last_activity
            bot = _BOT if visit.is_bot else 0
            utm = visit.utm
            domain = visit.referrer_domain
            user_id = visit.user_id
            windows = visit.window_ids
            window = windows[-1] if windows else None
            device = visit.device
            geo = visit.geo
            url = visit.entry_url
            landing_page, exit_page = visit.landing_page, visit.exit_page
        closes_at = start + max_duration
        referrer = None if domain in unknown_domains else domain
        has_no_entry = url is None
        has_no_geo = geo is None
        has_no_screen = device is None or device.screen_resolution is None
        silence = count = page_views = engaged_ms = 0
        last: Event | None = None
        event: Event | None = None
        for event in events:
            at = event.at
            silence = at - last_activity
            if silence > timeout or at > closes_at or event.flags != bot:
                break
            text = event.referrer_domain
            if text is not None and text != referrer:
                break
            its_utm = event.utm
            if its_utm is not None and its_utm != utm:
                break
            text = event.user_id
            if text is not None and text != user_id:
                break
            text = event.window_id
            if text is not None and text != window:
                if text not in windows:
                    break
                window = text
            its_device = event.device
            # Stores and requests make objects of their own for the same device.
            if has_no_screen and its_device is not None and its_device is not device and its_device != device:
                break
            if has_no_geo and event.geo is not None:
                break
            if has_no_entry and (event.url is not None or event.referrer is not None):
                break
            its_name = event.name
            if its_name == PAGEVIEW:
                text = event.url
                if text is not None:
                    exit_page = text
                    if landing_page is None:
                        landing_page = text
                page_views += 1
            elif its_name in _UNUSUAL:
                break
            engaged_ms += event.engaged_ms
            last_activity = at
            last = event
            count += 1
        else:
            event = None
        if begun is None:
            return None, (last, count, page_views, engaged_ms, landing_page, exit_page, event)
        if event is None:
            end_reason = end_evidence = end = None
        else:
            if silence <= timeout or event.flags & _UNATTENDED or event.name in _NEVER_FIRST:
                return begun, (last, count, page_views, engaged_ms, landing_page, exit_page, event)
            end_reason, end_evidence, end = _TIMED_OUT, evidence_of_silence(silence, limits), last_activity
        visit_id, its_referrer, flags = first.id, first.referrer, first.flags
        # Python passes more than thirty values by way of a list and a tuple, which costs a fifth of all this.
        ended = Visit(
            visit_id,
            first.site_id,
            visitor_id,
            first.distinct_id,
            start,
            last_activity,
            (start, visit_id) if last is None else (last_activity, last.id),
            reason,
            evidence,
            end_reason,
            end_evidence,
            end,
            previous_id,
            user_id,
            page_views + 1 if name == PAGEVIEW else page_views,
            count + 1,
            url,
            landing_page,
            exit_page,
            its_referrer,
            domain,
            utm,
            None
            if url is None and its_referrer is None and domain is None and utm is None
            else channel_of_entry(url, its_referrer, domain, utm, limits),
            device,
            geo,
            first.engaged_ms + engaged_ms,
            bot != 0,
            flags & _LATE != 0,
            windows,
            NOTHING,
        )
        done.append(replace(ended, other_windows=other_windows) if other_windows else ended)
        if event is None:
            return None, (None, 0, 0, 0, None, None, None)
        begun = event, _TIMEOUT, end_evidence, visit_id, ()
