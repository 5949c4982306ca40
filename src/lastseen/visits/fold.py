"""From one visitor's events to visits. Pure: the same events give the same visits, in whatever order and copies.

The fold goes through the events in their order (moment, id) and keeps one open visit. Live ingest, late events, imports
and rebuilds all come here. Which event belongs to a visit is never written down: a visit covers its visitor's events
from its first to its `last_event`, without a hole. What comes after that and starts no visit belongs to none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter

from msgspec.structs import replace

from lastseen.visits.event import (
    SESSION_END,
    Event,
)
from lastseen.visits.limits import Limits, limits_of
from lastseen.visits.opened import Begun, OpenVisit, Run, user_of
from lastseen.visits.rule import VisitRule
from lastseen.visits.splitting import cannot_begin, is_asked_for, only_attaches, split_before
from lastseen.visits.usual import begins_usually, usual_run, usual_visits
from lastseen.visits.visit import EndReason, Evidence, StartReason, Visit

_place = attrgetter("at", "id")
_NOBODY: Mapping[str, str] = {}
_Standing = tuple[OpenVisit | None, Event | None]
"""The visit that is open, if there is one, and the event to be folded next, where that was read already."""


def fold(
    events: Iterable[Event], rule: VisitRule, visitor_id: str, *, others: Mapping[str, str] = _NOBODY
) -> list[Visit]:
    """Return the visits of all events of one visitor, the last one open unless it was ended by hand.

    Events in any order and any number of copies; of copies that differ the earliest counts. `others` are the refused
    identifications of `lastseen.visits.identity`: by the id of the event, the user whom the anonymous id belongs to.
    """
    return fold_sorted(in_order(events), rule, visitor_id, others=others)


def fold_sorted(
    events: Sequence[Event],
    rule: VisitRule,
    visitor_id: str,
    *,
    others: Mapping[str, str] = _NOBODY,
    began: Visit | None = None,
) -> list[Visit]:
    """Fold events that are in order and free of copies, as a store reads them.

    `began` is a visit that begins at the first of them: why it did, earlier events have decided.
    """
    done: list[Visit] = []
    _Fold(limits_of(rule), visitor_id, others, done, began).go_on(None, events)
    return done


def resume(
    visit: Visit | None,
    later_events: Iterable[Event],
    rule: VisitRule,
    visitor_id: str,
    *,
    others: Mapping[str, str] = _NOBODY,
    began: Visit | None = None,
) -> list[Visit]:
    """Go on from the visitor's newest visit with *all* events behind its `last_event`; it is the first returned.

    All means stored ones too that belong to no visit yet: a hidden page's heartbeat after the timeout belongs to the
    visit as soon as something between the two is known. An end that only time has put is taken back. Events at or
    before `last_event` are left out; what they change is told by `lastseen.visits.refold`. None is a visitor without
    visits, or one who is folded again from the first event of `began`, as `fold_sorted` has it.
    """
    events = in_order(later_events)
    if visit is not None and events and events[0].order <= visit.last_event:
        events = events[bisect_right(events, visit.last_event, key=_place) :]
    if visit is None:
        return fold_sorted(events, rule, visitor_id, others=others, began=began)
    return resume_sorted(visit, events, limits_of(rule), visitor_id, others=others)


def resume_sorted(
    visit: Visit | None,
    later_events: Iterable[Event],
    limits: Limits,
    visitor_id: str,
    *,
    others: Mapping[str, str] = _NOBODY,
) -> list[Visit]:
    """Go on as `resume` does, with events that are in order, free of copies, and all behind the visit's last one."""
    state: OpenVisit | None = None
    rest = iter(later_events)
    if visit is not None:
        visit = as_open(visit)
        run = usual_run(visit, rest, limits)
        last, *_, other = run
        if last is not None:
            visit = _gone_along(visit, last, run)
        if other is None:
            return [visit]
        state, rest = OpenVisit.of(visit), chain([other], rest)
    done: list[Visit] = []
    _Fold(limits, visitor_id, others, done).go_on(state, rest)
    return done


def continued(visit: Visit, later_events: Iterable[Event], limits: Limits) -> Visit | None:
    """Return what `resume_sorted` does where all events just continue an open visit, as most do; else None."""
    run = usual_run(visit, iter(later_events), limits)
    last, *_, other = run
    return None if last is None or other is not None else _gone_along(visit, last, run)


def close_overdue(visit: Visit, now_micros: int, rule: VisitRule) -> Visit | None:
    """Return the visit as ended at its last activity when it has timed out or lasted too long by now, else None.

    Also None for one that has ended. Should a late event continue it, `resume` opens it again.
    """
    if visit.end is not None:
        return None
    limits = limits_of(rule)
    if now_micros - visit.last_activity > limits.timeout:
        reason, limit = EndReason.TIMEOUT, limits.timeout_text
    elif now_micros - visit.start > limits.max_duration:
        reason, limit = EndReason.MAX_DURATION, limits.max_duration_text
    else:
        return None
    return replace(
        visit,
        end=visit.last_activity,
        end_reason=reason,
        end_evidence=Evidence(before=f"over {limit}", after=limit),
    )


def as_open(visit: Visit) -> Visit:
    """Return the newest visit of a visitor as the fold gives it: without an end that only time has put.

    To compare what is stored, where `close_overdue` may have been, with what the events fold into.
    """
    if visit.end is None or visit.end_reason is EndReason.ASKED:
        return visit
    return replace(visit, end=None, end_reason=None, end_evidence=None)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return the events by (moment, id), each id once; of copies that differ the earliest."""
    events = list(events)
    if len(events) <= 1:
        return events
    first: dict[str, Event] = {}
    for event in sorted(events, key=_place):
        first.setdefault(event.id, event)
    return list(first.values())


def _gone_along(visit: Visit, last: Event, run: Run) -> Visit:
    _, events, page_views, engaged_ms, landing_page, exit_page, _ = run
    return replace(
        visit,
        last_activity=last.at,
        last_event=last.order,
        event_count=visit.event_count + events,
        page_views=visit.page_views + page_views,
        engaged_ms=visit.engaged_ms + engaged_ms,
        landing_page=landing_page,
        exit_page=exit_page,
    )


class _Fold:
    """One fold: what does not change from event to event, and the visits that are done."""

    __slots__ = ("_began", "_done", "_limits", "_others", "_visitor_id")

    def __init__(
        self,
        limits: Limits,
        visitor_id: str,
        others: Mapping[str, str],
        done: list[Visit],
        began: Visit | None = None,
    ) -> None:
        self._limits = limits
        self._visitor_id = visitor_id
        self._others = others
        self._done = done
        self._began = began

    def go_on(self, visit: OpenVisit | None, events: Iterable[Event]) -> None:
        """Fold events behind the visit's last one; all visits are done then, the last one open."""
        rest = iter(events)
        event: Event | None = None
        while True:
            if event is None and visit is not None:
                run = usual_run(visit, rest, self._limits)
                visit.go_along(run)
                event = run[-1]
            elif event is None:
                event = next(rest, None)
            if event is None:
                break
            visit, event = self._step(visit, event, rest)
        if visit is not None:
            self._done.append(visit.visit())

    def _step(self, visit: OpenVisit | None, event: Event, rest: Iterator[Event]) -> _Standing:
        """Fold one event, and those behind it if they are usual."""
        limits = self._limits
        if cannot_begin(event, limits):
            if visit is not None and visit.admits(event.at, limits):
                self._add(visit, event)
            return visit, None
        if visit is None:
            began = self._began
            if began is None:
                return self._begin((event, StartReason.FIRST, None, None, ()), rest)
            return self._begin_with(
                (event, began.start_reason, began.start_evidence, began.previous_id, began.other_windows), rest
            )
        split = split_before(visit, event, limits)
        if split is None:
            visit.take(event, limits)
            return visit, None
        self._done.append(visit.ended(split.end, split.evidence))
        windows = visit.windows_beside(event.window_id) if split.is_arrival else ()
        return self._begin((event, split.start, split.evidence, visit.id, windows), rest)

    def _add(self, visit: OpenVisit, event: Event) -> None:
        """Add to an open visit what can begin none."""
        if event.name == SESSION_END:
            visit.end_by_hand(event)
        elif only_attaches(event, self._limits):
            visit.attach(event)
        else:
            visit.take(event, self._limits)

    def _begin(self, begun: Begun, rest: Iterator[Event]) -> _Standing:
        """Begin a visit; an event that is asked for, or names another user, knows better why."""
        event, _, _, previous_id, windows = begun
        if is_asked_for(event):
            begun = event, StartReason.ASKED, None, previous_id, windows
        elif event.id in self._others:
            evidence = Evidence(before=self._others[event.id], after=user_of(event))
            begun = event, StartReason.OTHER_USER, evidence, previous_id, windows
        return self._begin_with(begun, rest)

    def _begin_with(self, begun: Begun, rest: Iterator[Event]) -> _Standing:
        if begins_usually(begun[0]):
            return usual_visits(begun, rest, self._limits, self._visitor_id, self._done)
        return OpenVisit(begun, self._limits, self._visitor_id), None
