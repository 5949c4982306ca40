"""What late events change: from which visit on to fold again, and where the old visits hold again. Pure.

The fold goes from left to right. So nothing before a new event changes; and as soon as a visit begins again at the
event at which one began before, beside the same windows, behind all new events, everything after it is as it was.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from msgspec.structs import replace

from lastseen.visits.event import Event
from lastseen.visits.fold import as_open, resume
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Visit

Place = tuple[int, str]
"""Moment and id of an event."""
_FoldOn = Callable[[list[Visit], Iterable[Event]], None]
"""Goes on folding: replaces the last of the visits by what it becomes."""
_NOBODY: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """From where on a visitor's events are to be folded again."""

    kept: int
    """So many of the visits stay as they are."""
    place: Place | None
    """Events at and after this place are needed; None: all of them."""
    goes_on: bool
    """Whether the visit behind the kept ones goes on from its state, instead of being folded from its first event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refolded:
    """What a visitor's visits have become."""

    visits: Sequence[Visit]
    """All of them, in order."""
    changed: Sequence[Visit]
    """Those that are new or not as before."""
    removed: Sequence[str]
    """Ids of those that are no more."""


def refold_from(visits: Sequence[Visit], new_events: Iterable[Event]) -> Restart:
    """Return from where on to fold again, given a visitor's visits in order and events that came in whatever order.

    An event that is there already, but whose refusal as an identification has changed, may be given like a new one.
    The visits may lack those that ended before the one in which the earliest new event falls, or after which it comes.
    """
    earliest = min(event.order for event in new_events)
    index = bisect_left(visits, earliest, key=place_of) - 1
    if index < 0:
        return Restart(kept=0, place=None, goes_on=False)
    visit = visits[index]
    if earliest > visit.last_event:
        return Restart(kept=index, place=visit.last_event, goes_on=True)
    return Restart(kept=index, place=place_of(visit), goes_on=False)


def refold(
    visits: Sequence[Visit],
    new_events: Sequence[Event],
    read: Callable[[Place | None], Iterable[Event]],
    rule: VisitRule,
    visitor_id: str,
    *,
    others: Mapping[str, str] = _NOBODY,
) -> Refolded:
    """Return what a visitor's visits become through new events: the fold of all, with no more read than needed.

    `visits` are in order, and `read(place)` gives the visitor's events in order from a place on (None: from the first),
    the new ones among them; it is consumed only until the old visits hold again.
    """
    if not new_events:
        return Refolded(visits=tuple(visits), changed=(), removed=())
    restart = refold_from(visits, new_events)
    old = visits[restart.kept :]
    last_new = max(event.order for event in new_events)
    began = old[0] if old and not restart.goes_on and restart.place is not None else None

    def fold_on(visits: list[Visit], events: Iterable[Event]) -> None:
        last = visits.pop() if visits else None
        visits += resume(last, events, rule, visitor_id, others=others, began=began)

    folded = _until_synchronous(restart, old, last_new, iter(read(restart.place)), fold_on)
    if folded and old and as_open(old[-1]) == folded[-1]:
        folded[-1] = old[-1]
    before = {visit.id: visit for visit in old}
    changed = [visit for visit in folded if before.pop(visit.id, None) != visit]
    return Refolded(visits=(*visits[: restart.kept], *folded), changed=changed, removed=list(before))


def _until_synchronous(
    restart: Restart,
    old: Sequence[Visit],
    last_new: Place,
    events: Iterator[Event],
    fold_on: _FoldOn,
) -> list[Visit]:
    """Fold events until one of the old visits begins where it began before; the rest is as it was."""
    visits: list[Visit] = []
    if restart.goes_on:
        visits.append(old[0])
    pending = next(events, None)
    for index, visit in enumerate(old):
        if place_of(visit) <= last_new:
            continue
        chunk: list[Event] = []
        while pending is not None and pending.order < place_of(visit):
            chunk.append(pending)
            pending = next(events, None)
        fold_on(visits, chunk)
        if pending is not None:
            fold_on(visits, [pending])
            pending = next(events, None)
        if visits and visits[-1].id == visit.id and visits[-1].other_windows == visit.other_windows:
            visits[-1] = _with_start_of(visits[-1], visit)
            return [*visits, *old[index + 1 :]]
    fold_on(visits, events if pending is None else chain([pending], events))
    return visits


def place_of(visit: Visit) -> Place:
    """Return the place of a visit's first event."""
    return visit.start, visit.id


def _with_start_of(began: Visit, visit: Visit) -> Visit:
    """Give a visit why and after which one it began, which events before it have decided."""
    return replace(
        visit,
        start_reason=began.start_reason,
        start_evidence=began.start_evidence,
        previous_id=began.previous_id,
    )
