"""The short way of the fold: events that only continue a visit and tell nothing new about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.visits.event import GROUP_IDENTIFY, IDENTIFY, PAGEVIEW, SESSION_END, SESSION_START, Event, EventFlags
from lastseen.visits.limits import Limits
from lastseen.visits.opened import OpenVisit, Run
from lastseen.visits.visit import Visit

_BOT = int(EventFlags.BOT)
_UNUSUAL = frozenset({SESSION_START, SESSION_END, IDENTIFY, GROUP_IDENTIFY})


def usual_run(  # noqa: C901, PLR0912, PLR0915 - one loop without calls is what makes it fast
    visit: Visit | OpenVisit, events: Iterator[Event], limits: Limits
) -> tuple[Run | None, Event | None]:
    """Take events up to the first that may do more than continue an open visit; change nothing.

    Returns what those come to, if there are any, and the event that may do more, if there is one. What it takes it
    takes as `OpenVisit.take` does, without calls and with its state in local variables: three times as fast, and nine
    of ten events are such.
    """
    if visit.end is not None:
        return None, next(events, None)
    timeout, closes_at = limits.timeout, visit.start + limits.max_duration
    utm, user_id = visit.utm, visit.user_id
    referrer = visit.referrer_domain
    if referrer in limits.unknown_domains:
        referrer = None
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
    event: Event | None = None
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
        its_device = event.device
        # Stores and requests make objects of their own for the same device.
        if has_no_screen and its_device is not None and its_device is not device and its_device != device:
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
    if last is None:
        return None, event
    return Run(last, count, page_views, engaged_ms, exit_page), event
