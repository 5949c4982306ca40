"""Events and visits in memory: after each batch, whoever it touched is folded from the beginning."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from lastseen.clock import to_micros
from lastseen.errors import InvalidCursor, InvalidData
from lastseen.stores.text import can_be_asked
from lastseen.stores.visit_bases import as_before
from lastseen.stores.visit_batch import check
from lastseen.stores.visit_rows import body_of
from lastseen.visits.event import Event
from lastseen.visits.fold import as_open, close_overdue, fold
from lastseen.visits.identity import Link, link_of, refused, resolve
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, EventQuery, SaveResult, VisitOrder, VisitQuery
from lastseen.visits.visit import EndReason, Evidence, Visit


@dataclass(slots=True)
class _Site:
    """What one site has; `visitors` names the visitor of each id that a link speaks of."""

    events: dict[str, Event] = field(default_factory=dict)
    of_id: dict[str, dict[str, Event]] = field(default_factory=lambda: defaultdict(dict))
    links: dict[str, Link] = field(default_factory=dict)
    visitors: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    visits: dict[str, list[Visit]] = field(default_factory=dict)

    def visitor_of(self, distinct_id: str) -> str:
        """Return whose id this is."""
        return self.visitors.get(distinct_id, distinct_id)

    def events_of(self, visitor_id: str) -> list[Event]:
        """Return a visitor's events in their order."""
        ids = {visitor_id} | {each for each, visitor in self.visitors.items() if visitor == visitor_id}
        found = [
            event for each in ids if self.visitor_of(each) == visitor_id for event in self.of_id.get(each, {}).values()
        ]
        return sorted(found, key=lambda event: event.order)


def _refuse_what_no_database_holds(events: Sequence[Event]) -> None:
    """Raise `InvalidData` where the stores on a database do: what works here works there, too."""
    check(events)
    for event in events:
        if not can_be_asked(event.id, event.distinct_id, event.name):
            raise InvalidData(f"no database can hold half a character, as in the event {event.id!r}")
        body_of(event)


class MemoryVisits:
    """See `VisitStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sites: dict[str, _Site] = defaultdict(_Site)
        self._changes: dict[tuple[str, str, str], int] = {}
        self._count = 0

    def save(self, events: Sequence[Event], rules: Callable[[str], VisitRule]) -> SaveResult:
        """See `VisitStore`."""
        rule_of = {event.site_id: rules(event.site_id) for event in events}
        _refuse_what_no_database_holds(events)
        with self._lock:
            new = [event for event in events if self._insert(event)]
            changed: list[Visit] = []
            for site_id, rule in rule_of.items():
                changed += self._fold_new(site_id, [each for each in new if each.site_id == site_id], rule)
            return SaveResult(new=len(new), duplicates=len(events) - len(new), visits=tuple(changed))

    def _insert(self, event: Event) -> bool:
        site = self._sites[event.site_id]
        if event.id in site.events:
            return False
        site.events[event.id] = event
        site.of_id[event.distinct_id][event.id] = event
        self._note("event", event.site_id, event.id)
        return True

    def _fold_new(self, site_id: str, new: Sequence[Event], rule: VisitRule) -> list[Visit]:
        site = self._sites[site_id]
        touched = self._join(site_id, new) | {site.visitor_of(event.distinct_id) for event in new}
        return [visit for visitor_id in sorted(touched) for visit in self._fold(site_id, visitor_id, rule)[0]]

    def _join(self, site_id: str, new: Sequence[Event]) -> set[str]:
        """Apply the links of new events; return the visitors, former ones too, whom they change."""
        site = self._sites[site_id]
        links = {event.id: link for event in new if (link := link_of(event)) is not None}
        if not links:
            return set()
        site.links |= links
        before, site.visitors = site.visitors, resolve(site.links.values())
        others, site.others = site.others, refused(site.links.values())
        moved = {each for each, visitor in site.visitors.items() if before.get(each, each) != visitor}
        for each in sorted(moved):
            self._note("identity", site_id, each)
        turned = {
            event_id for event_id in others.keys() | site.others if others.get(event_id) != site.others.get(event_id)
        }
        return {site.visitor_of(site.events[event_id].distinct_id) for event_id in turned} | {
            visitor for each in moved for visitor in (before.get(each, each), site.visitors[each])
        }

    def _fold(self, site_id: str, visitor_id: str, rule: VisitRule) -> tuple[list[Visit], int]:
        """Fold a visitor from the beginning; return the visits that changed or appeared, and how many vanished."""
        site = self._sites[site_id]
        before = site.visits.pop(visitor_id, [])
        visits = fold(site.events_of(visitor_id), rule, visitor_id, others=site.others)
        if visits and before:
            visits[-1] = _still_ended(before[-1], visits[-1])
        if visits:
            site.visits[visitor_id] = visits
        known = {visit.id: visit for visit in before}
        changed = [visit for visit in visits if known.get(visit.id) != visit]
        for visit in changed:
            self._note("visit", site_id, visit.id)
        vanished = known.keys() - {visit.id for visit in visits}
        for visit_id in sorted(vanished):
            self._note("visit", site_id, visit_id)
        return changed, len(vanished)

    def get(self, site_id: str, visit_id: str) -> Visit | None:
        """See `VisitStore`."""
        with self._lock:
            site = self._sites[site_id]
            event = site.events.get(visit_id)
            if event is None:
                return None
            visits = site.visits.get(site.visitor_of(event.distinct_id), [])
            return next((v for v in visits if (v.start, v.id) <= event.order <= v.last_event), None)

    def get_by_visitor(self, site_id: str, distinct_id: str) -> Visit | None:
        """See `VisitStore`."""
        with self._lock:
            site = self._sites[site_id]
            visits = site.visits.get(site.visitor_of(distinct_id))
            return visits[-1] if visits else None

    def end(self, site_id: str, visit_id: str, at: datetime, reason: str, evidence: Evidence | None = None) -> bool:
        """See `VisitStore`."""
        with self._lock:
            visit = self.get(site_id, visit_id)
            if visit is None or visit.end is not None or visit.last_activity > to_micros(at):
                return False
            ended = replace(visit, end=to_micros(at), end_reason=EndReason(reason), end_evidence=evidence)
            self._replace(visit, ended)
            return True

    def end_overdue(self, ended: Sequence[Visit]) -> int:
        """See `VisitStore`."""
        with self._lock:
            due = [one for one in ended if as_before(one) == self.get(one.site_id, one.id)]
            for one in due:
                self._replace(as_before(one), one)
            return len(due)

    def _replace(self, before: Visit, visit: Visit) -> None:
        visits = self._sites[visit.site_id].visits[visit.visitor_id]
        visits[visits.index(before)] = visit
        self._note("visit", visit.site_id, visit.id)

    def overdue(self, now: datetime, rules: Callable[[str], VisitRule], limit: int = 1_000) -> Sequence[Visit]:
        """See `VisitStore`."""
        with self._lock:
            overdue = [
                visit
                for site_id, site in self._sites.items()
                for visits in site.visits.values()
                for visit in visits[-1:]
                if close_overdue(visit, to_micros(now), rules(site_id)) is not None
            ]
        return sorted(overdue, key=lambda visit: (visit.site_id, visit.last_activity, visit.id))[:limit]

    def list_visits(self, query: VisitQuery) -> Sequence[Visit]:
        """See `VisitStore`."""
        newest_first = query.order is not VisitOrder.OLDEST

        def place(visit: Visit) -> tuple[int, str]:
            return (visit.last_activity if query.order is VisitOrder.LAST_ACTIVE else visit.start), visit.id

        with self._lock:
            visits = sorted(filter(self._asked_for(query), self._all(query.site_id)), key=place, reverse=newest_first)
        after = query.after
        if after is not None:
            visits = [visit for visit in visits if (place(visit) < after if newest_first else place(visit) > after)]
        return visits[: query.limit]

    def count_visits(self, query: VisitQuery) -> int:
        """See `VisitStore`."""
        with self._lock:
            return sum(map(self._asked_for(query), self._all(query.site_id)))

    def list_events(self, query: EventQuery) -> Sequence[Event]:
        """See `VisitStore`."""
        with self._lock:
            found = [event for event in self._sites[query.site_id].events.values() if _is_asked_for(query, event)]
        found.sort(key=lambda event: event.order, reverse=True)
        return [event for event in found if query.after is None or event.order < query.after][: query.limit]

    def count_events(self, query: EventQuery) -> int:
        """See `VisitStore`."""
        with self._lock:
            return sum(_is_asked_for(query, event) for event in self._sites[query.site_id].events.values())

    def events_of(self, visit: Visit) -> Sequence[Event]:
        """See `VisitStore`."""
        with self._lock:
            events = self._sites[visit.site_id].events_of(visit.visitor_id)
            return [event for event in events if (visit.start, visit.id) <= event.order <= visit.last_event]

    def visitor_ids(self, site_id: str, after: str = "", limit: int = 1_000) -> Sequence[str]:
        """See `VisitStore`."""
        with self._lock:
            site = self._sites[site_id]
            return sorted({visitor for each in site.of_id if (visitor := site.visitor_of(each)) > after})[:limit]

    def events_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Event]]:
        """See `VisitStore`."""
        with self._lock:
            site = self._sites[site_id]
            return {each: events for each in visitor_ids if (events := site.events_of(each))}

    def visits_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Visit]]:
        """See `VisitStore`."""
        with self._lock:
            visits = self._sites[site_id].visits
            return {each: tuple(visits[each]) for each in visitor_ids if each in visits}

    def refold(self, site_id: str, visitor_ids: Sequence[str], rule: VisitRule) -> int:
        """See `VisitStore`."""
        with self._lock:
            folded = [self._fold(site_id, each, rule) for each in dict.fromkeys(visitor_ids)]
            return sum(len(changed) + vanished for changed, vanished in folded)

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        """See `VisitStore`."""
        with self._lock:
            number = _number(position)
            waiting = sorted((at, key) for key, at in self._changes.items() if at > number)
            batch = waiting[:limit]
            return self._read(
                {kind: [key[1:] for _, key in batch if key[0] == kind] for kind in ("event", "visit", "identity")},
                position=str(batch[-1][0] if batch else number),
                is_complete=len(batch) == len(waiting),
            )

    def _read(self, keys: Mapping[str, Sequence[tuple[str, str]]], *, position: str, is_complete: bool) -> Changes:
        visits = {key: visit for site_id in {site for site, _ in keys["visit"]} for key, visit in self._by_id(site_id)}
        return Changes(
            position=position,
            events=tuple(self._sites[site_id].events[event_id] for site_id, event_id in keys["event"]),
            visits=tuple(visits[key] for key in keys["visit"] if key in visits),
            removed=tuple(key for key in keys["visit"] if key not in visits),
            identities=tuple(
                (site_id, each, self._sites[site_id].visitor_of(each)) for site_id, each in keys["identity"]
            ),
            is_complete=is_complete,
        )

    def all_events(self, site_id: str) -> Iterator[Event]:
        """See `VisitStore`."""
        with self._lock:
            return iter(list(self._sites[site_id].events.values()))

    def _by_id(self, site_id: str) -> Collection[tuple[tuple[str, str], Visit]]:
        return [((site_id, visit.id), visit) for visit in self._all(site_id)]

    def _all(self, site_id: str) -> list[Visit]:
        return [visit for visits in self._sites[site_id].visits.values() for visit in visits]

    def _asked_for(self, query: VisitQuery) -> Callable[[Visit], bool]:
        visitor_id = None if query.visitor_id is None else self._sites[query.site_id].visitor_of(query.visitor_id)
        return lambda visit: (
            (query.started_from is None or visit.started_at >= query.started_from)
            and (query.started_before is None or visit.started_at < query.started_before)
            and (visitor_id is None or visit.visitor_id == visitor_id)
            and (query.active_since is None or visit.last_activity_at >= query.active_since)
            and (query.bots is None or visit.is_bot is query.bots)
            and (query.start_reason is None or visit.start_reason is query.start_reason)
            and (query.url is None or query.url in (visit.entry_url or ""))
        )

    def _note(self, kind: str, site_id: str, key: str) -> None:
        self._count += 1
        self._changes[kind, site_id, key] = self._count


def _is_asked_for(query: EventQuery, event: Event) -> bool:
    return (
        (query.happened_from is None or event.happened_at >= query.happened_from)
        and (query.happened_before is None or event.happened_at < query.happened_before)
        and query.distinct_id in (None, event.distinct_id)
        and query.name in (None, event.name)
    )


def _still_ended(before: Visit, visit: Visit) -> Visit:
    same = (before.id, before.last_activity) == (visit.id, visit.last_activity)
    if same and visit.end is None and as_open(before) is not before:
        return replace(visit, end=before.end, end_reason=before.end_reason, end_evidence=before.end_evidence)
    return visit


def _number(position: str) -> int:
    if position and not position.isdecimal():
        raise InvalidCursor("this is no position of the change feed of a memory store")
    return int(position or 0)
