"""From where on the events of a visitor are to be folded again, and what stays as it was. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from lastseen.stores.visit_rows import Place
from lastseen.visits.event import Event
from lastseen.visits.fold import as_open
from lastseen.visits.visit import Visit


class Base(NamedTuple):
    """What a visitor is folded again from: nothing, the first event of a visit, or a state that it was in."""

    visit: Visit | None
    place: Place
    is_state: bool = False

    def needs(self, event: Event) -> bool:
        """Whether the event is to be folded; those that a state knows already are not."""
        return event.order > self.place if self.is_state else event.order >= self.place


def base_of(visits: Sequence[Visit], place: Place, marks: Sequence[Visit]) -> Base:
    """Return from where on a visitor must be folded again; `marks` are states from before the place."""
    if not visits or _place(visits[0]) > place:
        return Base(None, place)
    first = visits[0]
    if len(visits) == 1 and first.last_event < place:
        return Base(first, first.last_event, is_state=True)
    state = next((mark for mark in reversed(marks) if mark.id == first.id), None)
    if state is not None:
        return Base(state, state.last_event, is_state=True)
    return Base(first, _place(first))


def since(visits: list[Visit], place: Place) -> list[Visit]:
    """Return the visits from the one that was the newest at a place; all of them if there was none yet."""
    visits.sort(key=_place)
    started = sum(_place(visit) <= place for visit in visits)
    return visits[max(0, started - 1) :]


def still_ended(before: Visit, visit: Visit) -> Visit:
    """Return the visit, ended by time as before when nothing has happened in it since."""
    same = before.start == visit.start and before.last_activity == visit.last_activity
    if same and visit.end is None and as_open(before) is not before:
        return replace(visit, end=before.end, end_reason=before.end_reason, end_evidence=before.end_evidence)
    return visit


def as_before(ended: Visit) -> Visit:
    """Return a visit that time has ended as it was when it was found to be over."""
    return replace(ended, end=None, end_reason=None, end_evidence=None)


def visitor_of(visit: Visit) -> tuple[str, str]:
    """Return the site of a visit, and the id of its visitor there."""
    return visit.site_id, visit.visitor_id


def _place(visit: Visit) -> Place:
    return visit.start, visit.id
