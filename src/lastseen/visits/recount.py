"""What the events of a site fold into, next to what is stored: for looking after a database, and before a new rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from lastseen.clock import from_micros
from lastseen.visits.event import Event
from lastseen.visits.fold import as_open, fold
from lastseen.visits.identity import Link, link_of, refused, resolve
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import VisitStore
from lastseen.visits.visit import Evidence, StartReason, Visit

VISITORS_AT_ONCE = 200
_MOMENTS = frozenset({"start", "last_activity", "end"})
_LOOKS = 3
"""A visitor who differs is looked at again: events may have come between reading them and reading the visits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recounted:
    """One visitor: the visits that are stored, and those that the stored events fold into."""

    visitor_id: str
    stored: Sequence[Visit]
    folded: Sequence[Visit]
    events: int
    strangers: Sequence[str] = ()
    """Distinct ids of events that belong to another visitor, by the links between ids."""

    @property
    def differs(self) -> bool:
        """Whether the two are not the same. That time has ended a visit is no difference: no event says so."""
        return bool(self.strangers) or _comparable(self.stored) != _comparable(self.folded)

    def differences(self) -> list[str]:
        """Say what differs, one line a visit."""
        stored = {visit.id: visit for visit in _comparable(self.stored)}
        folded = {visit.id: visit for visit in _comparable(self.folded)}
        lines = [f"visit {visit_id} is missing" for visit_id in folded if visit_id not in stored]
        lines += [f"visit {visit_id} is one too many" for visit_id in stored if visit_id not in folded]
        for visit_id, visit in stored.items():
            if visit_id in folded and folded[visit_id] != visit:
                lines.append(f"visit {visit_id}: {_fields(visit, folded[visit_id])}")
        lines += [f"the events of {each} are another visitor's" for each in self.strangers]
        return lines


def _comparable(visits: Sequence[Visit]) -> list[Visit]:
    return [*visits[:-1], as_open(visits[-1])] if visits else []


def _fields(stored: Visit, folded: Visit) -> str:
    names = [name for name in Visit.__struct_fields__ if getattr(stored, name) != getattr(folded, name)]
    return ", ".join(f"{name} is {_said(name, stored)}, not {_said(name, folded)}" for name in names)


def _said(name: str, visit: Visit) -> str:
    """Write a field for people: moments as ISO 8601, what was compared as two values."""
    value = getattr(visit, name)
    if name in _MOMENTS and value is not None:
        return f"{from_micros(value):%Y-%m-%dT%H:%M:%S.%fZ}"
    match value:
        case Evidence():
            return f"{value.before} → {value.after}"
        case (int(at), str(event_id)):
            return f"{event_id} at {from_micros(at):%Y-%m-%dT%H:%M:%S.%fZ}"
        case None:
            return "nothing"
    return str(value)


class Recount:
    """Goes through all visitors of a site and folds their events by a rule. Writes nothing."""

    def __init__(self, store: VisitStore, site_id: str, rule: VisitRule) -> None:
        self._store = store
        self._site_id = site_id
        self._rule = rule
        self._visitors: Mapping[str, str] = {}
        self._others: Mapping[str, str] = {}

    def run(self, *, sure: bool = True) -> Iterator[Recounted]:
        """Yield one visitor after the other; to be `sure`, those that differ are read again."""
        self._read_links()
        for visitor_ids in pages(self._store, self._site_id):
            events = self._store.events_of_visitors(self._site_id, visitor_ids)
            visits = self._store.visits_of_visitors(self._site_id, visitor_ids)
            for visitor_id in visitor_ids:
                found = self._recounted(visitor_id, visits.get(visitor_id, ()), events.get(visitor_id, ()))
                yield self._looked_at_again(found) if sure and found.differs else found

    def _read_links(self) -> None:
        links: list[Link] = [link for event in self._store.all_events(self._site_id) if (link := link_of(event))]
        self._visitors, self._others = resolve(links), refused(links)

    def _recounted(self, visitor_id: str, stored: Sequence[Visit], events: Sequence[Event]) -> Recounted:
        folded = fold(events, self._rule, visitor_id, others=self._others)
        strangers = {
            event.distinct_id
            for event in events
            if self._visitors.get(event.distinct_id, event.distinct_id) != visitor_id
        }
        return Recounted(
            visitor_id=visitor_id,
            stored=stored,
            folded=folded,
            events=len(events),
            strangers=tuple(sorted(strangers)),
        )

    def _looked_at_again(self, found: Recounted) -> Recounted:
        for _ in range(_LOOKS - 1):
            before = found
            ids = [found.visitor_id]
            if found.strangers:
                self._read_links()
            visits = self._store.visits_of_visitors(self._site_id, ids).get(ids[0], ())
            events = self._store.events_of_visitors(self._site_id, ids).get(ids[0], ())
            found = self._recounted(ids[0], visits, events)
            if not found.differs or (found.stored == before.stored and found.folded == before.folded):
                return found
        return found


def pages(store: VisitStore, site_id: str) -> Iterator[Sequence[str]]:
    """Yield the visitors of a site, some at a time."""
    after = ""
    while visitor_ids := store.visitor_ids(site_id, after, VISITORS_AT_ONCE):
        yield visitor_ids
        after = visitor_ids[-1]


@dataclass(kw_only=True, slots=True)
class Tally:
    """What many visits add up to."""

    visits: int = 0
    page_views: int = 0
    bounces: int = 0
    seconds: float = 0.0
    reasons: Counter[StartReason] = field(default_factory=Counter)

    def add(self, visits: Sequence[Visit]) -> None:
        """Count some more."""
        for visit in visits:
            self.visits += 1
            self.page_views += visit.page_views
            self.bounces += visit.is_bounce
            self.seconds += visit.duration.total_seconds()
            self.reasons[visit.start_reason] += 1

    @property
    def mean_duration(self) -> timedelta:
        """How long a visit lasts on average."""
        return timedelta(seconds=round(self.seconds / self.visits)) if self.visits else timedelta(0)


def refold_all(
    store: VisitStore, site_id: str, rule: VisitRule, on_page: Callable[[int], object] = lambda _visitors: None
) -> int:
    """Fold all visitors of a site again, some in each transaction; return how many visits changed.

    Interrupted, it can be run again. `on_page` is told how many visitors each transaction had.
    """
    changed = 0
    for visitor_ids in pages(store, site_id):
        changed += store.refold(site_id, visitor_ids, rule)
        on_page(len(visitor_ids))
    return changed
