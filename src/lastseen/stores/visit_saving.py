"""What the stores on a database do alike with a batch of events: find what it changes, fold that, say what to write.

The store hands in one transaction, in which nobody else changes the visitors that are touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from lastseen.stores.visit_bases import Base, base_of, since, still_ended
from lastseen.stores.visit_batch import LINKING, PreparedBatch, check, each_once
from lastseen.stores.visit_rows import Identity, Place, marks_of
from lastseen.visits.event import IDENTIFY, Event
from lastseen.visits.fold import as_open, continued, fold_sorted, resume, resume_sorted
from lastseen.visits.identity import Link, link_of, refused, resolve
from lastseen.visits.limits import limits_of
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import SaveResult
from lastseen.visits.visit import Visit

Key = tuple[str, str]
"""A site, and an id in it."""

MARK_EVERY = 200
"""So many events of a visit lie between two of its marks, or more."""
BEGINNING: Place = (-(2**63), "")


@dataclass(kw_only=True, slots=True)
class Held:
    """The identities that a batch touches and those that stand for their visitors; nobody else changes them."""

    by_key: dict[Key, Identity] = field(default_factory=dict)
    by_no: dict[int, Identity] = field(default_factory=dict)

    def add(self, identity: Identity) -> None:
        """Add one."""
        self.by_key[identity.site_id, identity.distinct_id] = identity
        self.by_no[identity.no] = identity


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a batch changes beside its events; the numbers are those of visitors."""

    visits: list[tuple[int, Visit]] = field(default_factory=list)
    """Those that appeared, changed their visitor or start, or were ended or opened."""
    begun: list[tuple[int, Visit]] = field(default_factory=list)
    """Those that begin at a new event, and so cannot be there."""
    extended: list[tuple[int, Visit]] = field(default_factory=list)
    """Those that were there already, of the same visitor, with the same start, and as open or ended as now."""
    removed: list[Key] = field(default_factory=list)
    newest: dict[int, Place | None] = field(default_factory=dict)
    """The places of newest events, where the newest visit does not tell."""
    marks: dict[int, list[Visit]] = field(default_factory=dict)
    """Earlier states of the newest visit, the oldest first."""
    texts: dict[str, str] = field(default_factory=dict)
    """The JSON of visits that begin, by their ids, where that was made before; then all are of one site."""


class VisitTransaction(Protocol):
    """One transaction of a store. The moments that visits and events are asked from are inclusive."""

    def hold(self, keys: Collection[Key], linked: Collection[Key]) -> Held:
        """Keep the visitors of these distinct ids to ourselves, and all that links lead to from `linked`.

        Makes the identities that are missing.
        """

    def insert(self, events: Collection[Event], held: Held) -> Collection[Event]:
        """Add the events that are not there yet and return them."""

    def link(self, site_id: str, links: Collection[Link]) -> Mapping[Link, str | None]:
        """Add links; return all that hang together with them, each with its owner if it was refused until now."""

    def set_owners(self, site_id: str, owners: Mapping[str, str | None]) -> None:
        """Write, by the ids of links' events, the users whom the other ids of refused links belong to."""

    def owners(self, site_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """Return what was written by `set_owners` of these events, where that is not None."""

    def regroup(self, identities: Collection[Identity]) -> None:
        """Write to which visitors these identities belong now."""

    def load_newest(self, visitors: Collection[Identity]) -> None:
        """Set the newest visit of these visitors, which are not loaded; `hold` may have loaded some already."""

    def visits_around(self, moments: Mapping[int, int]) -> Mapping[int, list[Visit]]:
        """Return, by visitor, the visits that start at or after a moment and those before it with the latest start."""

    def events_from(self, moments: Mapping[int, int]) -> Mapping[int, list[Event]]:
        """Return, by visitor, the events since a moment in their order."""

    def first_moments(self, identities: Collection[int]) -> Mapping[int, int]:
        """Return the moment of the first event of each identity that has one."""

    def write(self, outcome: Outcome) -> None:
        """Write what has changed."""


def rules_of(events: Iterable[Event], rules: Callable[[str], VisitRule]) -> Mapping[str, VisitRule]:
    """Return the rules of the events' sites; asked for before a transaction begins, because that may need another."""
    return {site_id: rules(site_id) for site_id in {event.site_id for event in events}}


def save(transaction: VisitTransaction, events: Sequence[Event], rules: Mapping[str, VisitRule]) -> SaveResult:
    """Add a batch and fold its visitors."""
    if isinstance(events, PreparedBatch):
        return _save_prepared(transaction, events, rules)
    batch = each_once(events)
    check(batch)
    links = {
        (event.site_id, event.id): link
        for event in batch
        if event.name in LINKING and (link := link_of(event)) is not None
    }
    linked = {(key[0], end) for key, link in links.items() for end in link.ids}
    held = transaction.hold({(event.site_id, event.distinct_id) for event in batch} | linked, linked)
    new = transaction.insert(batch, held)
    folding = Folding(transaction, held, rules)
    fresh: dict[str, list[Link]] = defaultdict(list)
    if links:
        for event in new:
            link = links.get((event.site_id, event.id))
            if link is not None:
                fresh[event.site_id].append(link)
    for site_id, of_site in fresh.items():
        folding.join(site_id, of_site)
    folding.take(new)
    return folding.finish(len(new), len(events))


def _save_prepared(transaction: VisitTransaction, batch: PreparedBatch, rules: Mapping[str, VisitRule]) -> SaveResult:
    held = transaction.hold({(batch.site_id, distinct_id) for distinct_id in batch.groups}, ())
    new = transaction.insert(batch, held)
    folding = Folding(transaction, held, rules)
    if len(new) == len(batch) and batch.rule == rules[batch.site_id]:
        folding.take_prepared(batch)
    else:
        folding.take(new)
    return folding.finish(len(new), len(batch))


def refold(transaction: VisitTransaction, visitors: Iterable[Identity], held: Held, rule: VisitRule) -> int:
    """Fold all events of some visitors again; return how many visits changed, appeared or vanished."""
    folding = Folding(transaction, held, {one.site_id: rule for one in held.by_no.values()})
    folding.again(dict.fromkeys((visitor.no for visitor in visitors), BEGINNING), {})
    transaction.write(folding.outcome)
    outcome = folding.outcome
    return len(outcome.visits) + len(outcome.extended) + len(outcome.removed)


class Folding:
    """Folds the visitors of one batch, each once, and collects what to write."""

    def __init__(self, transaction: VisitTransaction, held: Held, rules: Mapping[str, VisitRule]) -> None:
        self.transaction = transaction
        self._held = held
        self._rules = rules
        self._limits = {site_id: limits_of(rule) for site_id, rule in rules.items()}
        self._places: dict[int, Place] = {}
        self._gone: set[int] = set()
        self._others: dict[str, dict[str, str]] = defaultdict(dict)
        self.outcome = Outcome()

    def finish(self, new: int, given: int, begun: Sequence[Visit] = ()) -> SaveResult:
        """Write what has changed and return it, together with visits that were written already."""
        outcome = self.outcome
        self.transaction.write(outcome)
        visits = tuple(visit for _, visit in chain(outcome.visits, outcome.extended, outcome.begun))
        return SaveResult(new=new, duplicates=given - new, visits=(*visits, *begun))

    def join(self, site_id: str, new_links: Sequence[Link]) -> None:
        """Apply new links: move identities between visitors, and fold the visitors that this changes."""
        links = self.transaction.link(site_id, new_links)
        again = self._refuse(site_id, links, {link.event_id for link in new_links})
        moved: dict[int, int] = {}
        for distinct_id, visitor_id in resolve(links).items():
            identity = self._held.by_key[site_id, distinct_id]
            visitor = self._held.by_key[site_id, visitor_id]
            if identity.visitor != visitor.no:
                moved[identity.no] = identity.visitor
                identity.visitor = visitor.no
        if moved:
            self.transaction.regroup([self._held.by_no[no] for no in moved])
        self._note_regrouped(moved, again)

    def _refuse(self, site_id: str, links: Mapping[Link, str | None], new: Collection[str]) -> dict[int, Place]:
        """Write which links are refused; return the places of earlier ones for which this has changed, by identity."""
        owners = refused(links)
        changed = {
            link: owners.get(link.event_id) for link, before in links.items() if owners.get(link.event_id) != before
        }
        self.transaction.set_owners(site_id, {link.event_id: owner for link, owner in changed.items()})
        self._others[site_id].update(owners)
        again: dict[int, Place] = {}
        for link in changed:
            if link.event_id not in new:
                no = self._held.by_key[site_id, link.one].no
                # Before the event itself: a visit that it began has the user in the reason for its start.
                again[no] = min(again.get(no, (link.at, "")), (link.at, ""))
        return again

    def _note_regrouped(self, moved: Mapping[int, int], again: Mapping[int, Place]) -> None:
        """Note whom to fold after identities have moved; `moved` says which visitor each belonged to before.

        A visitor that only gained is folded from the first event that it gained, or from where `again` says; any other
        as a whole.
        """
        first = self.transaction.first_moments(list(moved)) if moved else {}
        for no, place in [*again.items(), *((no, (at, "")) for no, at in first.items())]:
            self._fold_from(self._held.by_no[no].visitor, place)
        for no, before in moved.items():
            if self._held.by_no[no].visitor == no:
                self._fold_from(no, BEGINNING)
            if self._held.by_no[before].visitor == before:
                self._fold_from(before, BEGINNING)
            else:
                self._gone.add(before)

    def _fold_from(self, no: int, place: Place) -> None:
        self._places[no] = min(self._places.get(no, place), place)

    def take(self, new: Iterable[Event]) -> None:
        """Fold the visitors of new events, and those whom links have changed."""
        by_visitor: dict[int, list[Event]] = defaultdict(list)
        by_key, by_no = self._held.by_key, self._held.by_no
        for event in new:
            by_visitor[by_key[event.site_id, event.distinct_id].visitor].append(event)
        unknown = [by_no[no] for no in by_visitor if not by_no[no].is_loaded and no not in self._places]
        if unknown:
            self.transaction.load_newest(unknown)
        for no, events in by_visitor.items():
            if len(events) > 1:
                events.sort(key=_order)
            visitor = by_no[no]
            first, newest = events[0], visitor.newest(visitor.visit)
            if no in self._places or (newest is not None and newest > (first.at, first.id)):
                self._fold_from(no, first.order)
            else:
                self._go_on(visitor, events)
        self.again(self._places, self._gone)

    def take_prepared(self, batch: PreparedBatch) -> None:
        """Take a batch that is new as a whole; visitors who were not there before are folded already."""
        visitors = [self._held.by_key[batch.site_id, distinct_id] for distinct_id in batch.groups]
        if any(one.visitor != one.no for one in visitors):
            self.take(batch)
            return
        unknown = [one for one in visitors if not one.is_loaded]
        if unknown:
            self.transaction.load_newest(unknown)
        others: list[Event] = []
        for visitor, (events, visits, texts) in zip(visitors, batch.groups.values(), strict=True):
            if visitor.visit is not None or visitor.newest_at is not None:
                others += events
                continue
            self._note_begun(visitor.no, visits, visits, events[-1])
            self.outcome.texts.update(zip([visit.id for visit in visits], texts, strict=True))
        if others:
            self.take(others)

    def _go_on(self, visitor: Identity, events: Sequence[Event]) -> None:
        """Go on folding where all of a visitor's new events come after those that are there."""
        before, no, site_id = visitor.visit, visitor.no, visitor.site_id
        limits = self._limits[site_id]
        after = None if before is None else continued(before, events, limits)
        if before is not None and after is not None:
            self.outcome.extended.append((no, after))
            self._mark_going_on(visitor, before, after)
            return
        others, last = self._others[site_id], events[-1]
        visits = begun = resume_sorted(before, events, limits, visitor.distinct_id, others=others)
        if before is not None:
            self._keep_going_on(no, before, visits)
            begun = visits[1:]
            self._mark_going_on(visitor, before, visits[0])
        self._note_begun(no, begun, visits, last)

    def _mark_going_on(self, visitor: Identity, before: Visit, after: Visit) -> None:
        """Mark the state before at each multiple, so that the marks need not be read each time."""
        if after.event_count // MARK_EVERY > before.event_count // MARK_EVERY > 0:
            self._mark(visitor.no, marks_of(visitor.marks), before)

    def _note_begun(self, no: int, begun: Sequence[Visit], visits: Sequence[Visit], last: Event) -> None:
        """Note the visits that begin, and the place of the last event where that is in none of all the visits."""
        if begun:
            self.outcome.begun += [(no, visit) for visit in begun]
        if not visits or visits[-1].last_event[1] != last.id:
            self.outcome.newest[no] = last.order

    def _keep_going_on(self, no: int, before: Visit, visits: Sequence[Visit]) -> None:
        """Note what has become of the newest visit; most are as open as they were."""
        visit = visits[0]
        if visit.end is None and before.end is None:
            if visit != before:
                self.outcome.extended.append((no, visit))
        else:
            self._keep(no, [before], visits[:1], is_newest=len(visits) == 1)

    def _resume(self, no: int, visit: Visit | None, events: Sequence[Event]) -> list[Visit]:
        visitor = self._held.by_no[no]
        site_id = visitor.site_id
        return resume(visit, events, self._rules[site_id], visitor.distinct_id, others=self._others[site_id])

    def again(self, places: Mapping[int, Place], gone: Collection[int]) -> None:
        """Fold visitors anew from the visit that was running at a place; remove the visits of those who are `gone`."""
        if not places and not gone:
            return
        moments = {no: place[0] for no, place in places.items()} | dict.fromkeys(gone, BEGINNING[0])
        around = self.transaction.visits_around(moments)
        existing = {no: since(around.get(no, []), place) for no, place in places.items()}
        marks = {
            no: [m for m in marks_of(self._held.by_no[no].marks) if m.last_event < at] for no, at in places.items()
        }
        bases = {no: base_of(existing[no], place, marks[no]) for no, place in places.items()}
        events = self.transaction.events_from({no: base.place[0] for no, base in bases.items()})
        self._find_others(event for of_visitor in events.values() for event in of_visitor)
        for no, base in bases.items():
            needed = [event for event in events.get(no, ()) if base.needs(event)]
            if self._held.by_no[no].marks is not None:
                self.outcome.marks[no] = marks[no]
            visits = self._fold_on(no, base, needed, marks[no])
            self._keep(no, existing[no], visits)
            self._note_newest(no, places[no], needed, existing[no], visits)
        self._remove(visit for no in gone for visit in around.get(no, ()))
        for no in moments:
            self._held.by_no[no].is_loaded = False

    def _find_others(self, events: Iterable[Event]) -> None:
        identifications: dict[str, list[str]] = defaultdict(list)
        for event in events:
            if event.name == IDENTIFY:
                identifications[event.site_id].append(event.id)
        for site_id, ids in identifications.items():
            self._others[site_id].update(self.transaction.owners(site_id, ids))

    def _fold_on(self, no: int, base: Base, events: Sequence[Event], marks: list[Visit]) -> list[Visit]:
        """Fold the events behind a base, and mark a state on the way when they are many."""
        if len(events) < 2 * MARK_EVERY:
            return self._fold_base(no, base, events)
        most = len(events) * 7 // 8
        visits = self._fold_base(no, base, events[:most])
        state = visits.pop() if visits else None
        if state is not None:
            self._mark(no, marks, state)
        return [*visits, *self._resume(no, state, events[most:])]

    def _fold_base(self, no: int, base: Base, events: Sequence[Event]) -> list[Visit]:
        if base.visit is None or base.is_state:
            return self._resume(no, base.visit, events)
        visitor = self._held.by_no[no]
        rule, others = self._rules[visitor.site_id], self._others[visitor.site_id]
        return fold_sorted(events, rule, visitor.distinct_id, others=others, began=base.visit)

    def _mark(self, no: int, marks: Sequence[Visit], state: Visit) -> None:
        """Remember a state, and ever fewer of the older ones: a late event reads a few times what came after it."""
        count, kept = state.event_count, [mark for mark in marks if mark.id == state.id]
        if kept and count - kept[-1].event_count < MARK_EVERY:
            return
        levels = {(count - mark.event_count) // MARK_EVERY: mark for mark in reversed(kept)}
        oldest = {level.bit_length() // 2: mark for level, mark in sorted(levels.items())}
        self.outcome.marks[no] = [*sorted(oldest.values(), key=lambda mark: mark.event_count), as_open(state)]

    def _note_newest(
        self, no: int, place: Place, events: Sequence[Event], existing: Sequence[Visit], visits: Sequence[Visit]
    ) -> None:
        """Note the place of the newest event, unless that is known from the newest visit."""
        visitor = self._held.by_no[no]
        newest = events[-1].order if events else None
        if place != BEGINNING:
            before = visitor.newest(existing[-1] if existing else None)
            newest = max(newest or BEGINNING, before or BEGINNING)
        if newest != visitor.newest(visits[-1] if visits else None):
            self.outcome.newest[no] = newest

    def _keep(self, no: int, existing: Sequence[Visit], visits: Sequence[Visit], *, is_newest: bool = True) -> None:
        """Note which of a visitor's visits are new, have changed or are no more."""
        before = {visit.id: visit for visit in existing}
        if is_newest and visits and existing and (known := before.get(visits[-1].id)) is existing[-1]:
            visits = [*visits[:-1], still_ended(known, visits[-1])]
        for visit in visits:
            known = before.pop(visit.id, None)
            if known is None or (known.end is None) is not (visit.end is None):
                self.outcome.visits.append((no, visit))
            elif known != visit:
                self.outcome.extended.append((no, visit))
        self._remove(before.values())

    def _remove(self, visits: Iterable[Visit]) -> None:
        self.outcome.removed += [(visit.site_id, visit.id) for visit in visits]


def _order(event: Event) -> Place:
    return event.at, event.id
