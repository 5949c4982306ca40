"""The short way of the fold: events that only continue a visit and tell nothing new about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.visits.event import GROUP_IDENTIFY, IDENTIFY, PAGEVIEW, SESSION_END, SESSION_START, Event, EventFlags
from lastseen.visits.opened import OpenVisit

_BOT = int(EventFlags.BOT)
_UNUSUAL = frozenset({SESSION_START, SESSION_END, IDENTIFY, GROUP_IDENTIFY})


def take_usual(  # noqa: C901, PLR0912, PLR0915 - one loop without calls is what makes it fast
    visit: OpenVisit, events: Iterator[Event]
) -> Event | None:
    """Take events up to the first that may do more; return that one, or None when there are no more events.

    What it takes it takes as `OpenVisit.take` does, without calls and with its state in local variables: three times
    as fast, and nine of ten events are such.
    """
    if visit.end is not None:
        return next(events, None)
    timeout, closes_at = visit.timeout, visit.closes_at
    referrer, utm, user_id = visit.known_referrer, visit.utm, visit.user_id
    flags = _BOT if visit.is_bot else 0
    has_no_entry, has_no_landing = visit.entry_url is None, visit.landing_page is None
    has_no_geo = visit.geo is None
    device = visit.device
    has_no_screen = device is None or device.screen_resolution is None
    windows = visit.window_ids
    window = windows[-1] if windows else None
    last_activity, exit_page = visit.last_activity, visit.exit_page
    count, page_views, engaged_ms = 0, 0, 0
    last: Event | None = None
    for event in events:
        at = event.at
        if at - last_activity > timeout or at > closes_at or event.flags != flags:
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
        if has_no_screen and event.device is not None and event.device is not device:
            break
        if has_no_geo and event.geo is not None:
            break
        if has_no_entry and (event.url is not None or event.referrer is not None):
            break
        name = event.name
        if name == PAGEVIEW:
            text = event.url
            if text is not None:
                if has_no_landing:
                    break
                exit_page = text
            page_views += 1
        elif name in _UNUSUAL:
            break
        engaged_ms += event.engaged_ms
        last_activity = at
        last = event
        count += 1
    else:
        event = None
    if last is not None:
        visit.last_activity = last_activity
        visit.last_event = last_activity, last.id
        visit.exit_page = exit_page
        visit.event_count += count
        visit.page_views += page_views
        visit.engaged_ms += engaged_ms
    return event
