"""The rule once more, slow and plain, to judge the fold by: a decision looks at all events of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from lastseen.visits.event import Event, EventFlags
from lastseen.visits.identity import is_junk
from lastseen.visits.rule import VisitRule

Facts = dict[str, object]


@dataclass
class Run:
    """A visit: its events, and which of them are its visitor's doing."""

    why: str
    members: list[Event] = field(default_factory=list)
    doings: list[Event] = field(default_factory=list)
    ended_at: int | None = None
    end: str | None = None
    windows: dict[str, Event | None] = field(default_factory=dict)
    """By the windows of visits before that go on: the event that says where they came from."""


def naive_fold(events: Sequence[Event], rule: VisitRule) -> list[Facts]:
    """Return what must be true of each visit."""
    runs: list[Run] = []
    for event in sorted({event.id: event for event in events}.values(), key=lambda event: (event.at, event.id)):
        _place(runs, event, rule)
    return [_facts(run, runs[number - 1] if number else None, rule) for number, run in enumerate(runs)]


def _place(runs: list[Run], event: Event, rule: VisitRule) -> None:
    run = runs[-1] if runs else None
    is_open = run is not None and run.ended_at is None and not _is_over(run, event.at, rule)
    if event.name == "$session_end":
        if run is not None and is_open:
            run.members.append(event)
            run.ended_at, run.end = event.at, "asked"
    elif _is_quiet(event, rule):
        if run is not None and is_open:
            run.members.append(event)
    elif event.name == "$pageleave":
        if run is not None and is_open:
            run.members.append(event)
            run.doings.append(event)
    else:
        by_hand = event.name == "$session_start" and event.properties.get("$unless_open") is not True
        start, end = ("first", None) if run is None else _why(run, event, by_hand, rule)
        if start is not None:
            windows: dict[str, Event | None] = {}
            if run is not None:
                run.end = end
                if start in {"campaign", "referrer"}:
                    windows = {**dict.fromkeys(_windows(run), _entry(run)), **run.windows}
                    windows.pop(event.window_id or "", None)
            run = Run("asked" if by_hand else start, windows=windows)
            runs.append(run)
        assert run is not None
        run.members.append(event)
        run.doings.append(event)


def _is_over(run: Run, at: int, rule: VisitRule) -> bool:
    return _span(run.doings[-1].at, at) > rule.timeout or _span(run.members[0].at, at) > rule.max_duration


def _span(one: int, other: int) -> timedelta:
    return timedelta(microseconds=other - one)


def _is_quiet(event: Event, rule: VisitRule) -> bool:
    if event.name == "$session_start":
        return False
    if EventFlags.PASSIVE in EventFlags(event.flags) or event.name == "$groupidentify":
        return True
    by_server = EventFlags.SERVER in EventFlags(event.flags) and event.name != "$pageview"
    return by_server and not rule.count_server_events


def _why(run: Run, event: Event, by_hand: bool, rule: VisitRule) -> tuple[str | None, str | None]:
    """Return why the event starts a visit and the one before ends, or nothing."""
    why = _by_time(run, event, rule)
    if why is None and None not in (_user(run.doings), _user([event])) and _user(run.doings) != _user([event]):
        why = "other_user", "other_user"
    if why is None and by_hand:
        why = "asked", "started"
    return why or _by_origin(run, event, rule) or (None, None)


def _by_time(run: Run, event: Event, rule: VisitRule) -> tuple[str, str] | None:
    if run.ended_at is not None:
        return "ended", "asked"
    if _span(run.doings[-1].at, event.at) > rule.timeout:
        return "timeout", "timeout"
    if _span(run.members[0].at, event.at) > rule.max_duration:
        return "max_duration", "max_duration"
    return None


def _by_origin(run: Run, event: Event, rule: VisitRule) -> tuple[str, str] | None:
    entry = _entry(run)
    if entry is None:
        return None
    came = run.windows.get(event.window_id or "")
    is_known = came and came.utm and event.utm and _campaign(came) == _campaign(event)
    other_campaign = entry.utm and event.utm and _campaign(entry) != _campaign(event)
    if rule.new_visit_on_utm_change and other_campaign and not is_known:
        return "campaign", "campaign"
    is_known = came and came.referrer_domain == event.referrer_domain
    domains = {_origin(entry, rule), _origin(event, rule)} - {None}
    if rule.new_visit_on_referrer_change and len(domains) == 2 and not is_known:
        return "referrer", "referrer"
    return None


def _windows(run: Run) -> list[str]:
    seen = [e.window_id for e in run.members if e.window_id and e.name != "$session_end"]
    return list(dict.fromkeys(seen))


def _user(events: Sequence[Event]) -> str | None:
    for event in events:
        user = event.user_id or (
            event.distinct_id if event.name == "$identify" and not is_junk(event.distinct_id) else None
        )
        if user is not None:
            return user
    return None


def _entry(run: Run) -> Event | None:
    """Return the event that says where the visitor came from."""
    return next((e for e in run.doings if e.url or e.referrer or e.referrer_domain or e.utm), None)


def _campaign(event: Event) -> list[str]:
    assert event.utm is not None
    return [(part or "").strip().lower() for part in (event.utm.source, event.utm.medium, event.utm.campaign)]


def _origin(event: Event, rule: VisitRule) -> str | None:
    names, domain = rule.own_domains | rule.excluded_referrers, event.referrer_domain
    if domain is None or domain in names:
        return None
    host = urlsplit(event.referrer or "").hostname or ""
    hosts = [name for name in names if name.endswith(f".{domain}") and f".{host}".endswith(f".{name}")]
    return None if hosts else domain


def _facts(run: Run, before: Run | None, rule: VisitRule) -> Facts:
    first, entry = run.members[0], _entry(run)
    pages = [e.url for e in run.doings if e.name == "$pageview"]
    seen = [url for url in pages if url]
    active_at = run.doings[-1].at
    devices = [e.device for e in run.doings if e.device]
    return {
        "id": first.id,
        "distinct_id": first.distinct_id,
        "start": first.at,
        "last_activity": active_at,
        "last_event": (run.members[-1].at, run.members[-1].id),
        "start_reason": run.why,
        "end_reason": run.end,
        "end": None if run.end is None else active_at if run.ended_at is None else run.ended_at,
        "previous_id": before.members[0].id if before else None,
        "user_id": _user(run.doings),
        "page_views": len(pages),
        "event_count": sum(e.name not in ("$session_start", "$session_end") for e in run.members),
        "entry_url": next((e.url for e in run.doings if e.url), None),
        "landing_page": seen[0] if seen else None,
        "exit_page": seen[-1] if seen else None,
        "referrer": entry.referrer if entry else None,
        "referrer_domain": entry.referrer_domain if entry else None,
        "utm": entry.utm if entry else None,
        "device_type": devices[0].type if devices else None,
        "geo": next((e.geo for e in run.doings if e.geo), None),
        "engaged_ms": sum(e.engaged_ms for e in run.members if e.name != "$session_end"),
        "is_bot": any(EventFlags.BOT in EventFlags(e.flags) for e in run.doings),
        "has_late_events": any(EventFlags.LATE in EventFlags(e.flags) for e in run.members if e.name != "$session_end"),
        "window_ids": tuple(_windows(run)),
        "custom": {k: v for k, v in first.properties.items() if k != "$unless_open"}
        if first.name == "$session_start"
        else {},
    }
