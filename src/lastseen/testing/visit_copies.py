"""A copy of visits that is fed by changes alone, and short ways to save and to read, for the contract of visits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lastseen.testing.streams import SITE
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, VisitStore
from lastseen.visits.visit import Visit

RULE = VisitRule()
MINUTE = 60
ROUNDS = 6


class Replica:
    """A copy that is fed by changes alone, and objects to anything that comes twice or too early."""

    def __init__(self) -> None:
        self.position = ""
        self.events: dict[tuple[str, str], Event] = {}
        self.visits: dict[tuple[str, str], Visit] = {}
        self.visitors: dict[tuple[str, str], str] = {}

    def follow(self, store: VisitStore, limit: int = 10_000) -> Changes:
        """Apply one batch of changes."""
        changes = store.changes(self.position, limit)
        for key in changes.removed:
            self.visits.pop(key, None)
        for each in changes.events:
            assert (each.site_id, each.id) not in self.events, "an event came twice"
            self.events[each.site_id, each.id] = each
        for visit in changes.visits:
            assert (visit.site_id, visit.id) in self.events, "a visit came before its first event"
            assert (visit.site_id, visit.last_event[1]) in self.events, "a visit came before its last event"
            self.visits[visit.site_id, visit.id] = visit
        self.visitors |= {(site_id, each): visitor for site_id, each, visitor in changes.identities}
        self.position = changes.position
        return changes

    def catch_up(self, store: VisitStore, limit: int = 10_000) -> None:
        """Apply all changes that there are."""
        while not self.follow(store, limit).is_complete:
            pass

    def visits_by_visitor(self, site_id: str = SITE) -> Mapping[str, Sequence[Visit]]:
        """Return the visits of a site as `stored` does."""
        return _grouped(visit for key, visit in self.visits.items() if key[0] == site_id)


def save(store: VisitStore, *events: Event, rule: VisitRule = RULE) -> Any:
    """Save one batch with one rule for all sites."""
    return store.save(events, lambda _site: rule)


def stored(store: VisitStore, site_id: str = SITE) -> Mapping[str, Sequence[Visit]]:
    """Return the visits of each visitor who has any."""
    visits = store.visits_of_visitors(site_id, store.visitor_ids(site_id, limit=1_000_000))
    return {visitor_id: list(of_visitor) for visitor_id, of_visitor in visits.items()}


def _grouped(visits: Iterable[Visit]) -> Mapping[str, Sequence[Visit]]:
    grouped: dict[str, list[Visit]] = {}
    for visit in sorted(visits, key=lambda visit: (visit.start, visit.id)):
        grouped.setdefault(visit.visitor_id, []).append(visit)
    return grouped
