"""What visits need from a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Evidence, StartReason, Visit

MAX_PAGE = 1_000


class VisitOrder(StrEnum):
    """Which visits come first."""

    NEWEST = "newest"
    """By start, the latest first."""
    OLDEST = "oldest"
    LAST_ACTIVE = "last_active"
    """By last activity, the latest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitQuery:
    """Which visits are asked for; None does not restrict."""

    site_id: str
    started_from: datetime | None = None
    """At or after."""
    started_before: datetime | None = None
    visitor_id: str | None = None
    """Also any of the visitor's distinct ids."""
    active_since: datetime | None = None
    """Last active at or after."""
    bots: bool | None = None
    """True: bots only; False: people only; None: both."""
    start_reason: StartReason | None = None
    url: str | None = None
    """Text in the entry address."""
    order: VisitOrder = VisitOrder.NEWEST
    after: tuple[int, str] | None = None
    """The sort moment (microseconds) and id of the last visit of the page before."""
    limit: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class EventQuery:
    """Which events are asked for, the newest first; None does not restrict."""

    site_id: str
    happened_from: datetime | None = None
    happened_before: datetime | None = None
    distinct_id: str | None = None
    name: str | None = None
    after: tuple[int, str] | None = None
    """The place (moment, id) of the last event of the page before."""
    limit: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveResult:
    """What became of a batch. `new` + `duplicates` is its length."""

    new: int
    duplicates: int
    visits: Sequence[Visit] = ()
    """The visits that changed, as they are now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What was committed after a position of the change feed, for a copy that is to equal the truth.

    Applying the batch means: remove `removed`, insert or replace `visits`, insert `events` (an event is never changed,
    only erased), remove `erased`, put the events of `identities` under their visitors, and remember `position`, in one
    transaction of the copy.
    """

    position: str
    """Hand it in next time; opaque."""
    events: Sequence[Event] = ()
    visits: Sequence[Visit] = ()
    removed: Sequence[tuple[str, str]] = ()
    """Site and id of visits that are no more."""
    erased: Sequence[tuple[str, str]] = ()
    """Site and id of events that are no more."""
    identities: Sequence[tuple[str, str, str]] = ()
    """Site, distinct id, visitor id: the ids that belong to another visitor than before (without an entry, an id is
    its own visitor). Repeating what holds already does no harm, so this may also be all other ids of the visitors whose
    visits are in the batch."""
    is_complete: bool = True
    """Whether nothing was waiting behind this batch when it was read."""
    characters: int = 0
    """So many the events are about, as JSON; 0 where the store does not know."""


@runtime_checkable
class VisitStore(Protocol):
    """Keeps events, who is the same visitor, and the visits that the events fold into.

    Every method is one transaction and may be called by any thread, in any number of processes. Whatever the order in
    which events come, and in however many batches and copies, the visits are those of `lastseen.visits.fold.fold` over
    each visitor's distinct events. A visit that is open is read as open; whether it has timed out is for the caller,
    who knows the time. Raises `StoreUnavailable`, `InvalidData` or `SchemaError` when the database fails.
    """

    def save(self, events: Sequence[Event], rules: Callable[[str], VisitRule]) -> SaveResult:
        """Add events that are not there yet and fold their visitors; durable when this returns, or nothing happened.

        `rules` gives the rule of a site by its id. An event id that the site has already changes nothing.
        """

    def get(self, site_id: str, visit_id: str) -> Visit | None:
        """Return a visit, by its id or by the id of any event in it."""

    def get_by_visitor(self, site_id: str, distinct_id: str) -> Visit | None:
        """Return the newest visit of the visitor whom this id names."""

    def end(self, site_id: str, visit_id: str, at: datetime, reason: str, evidence: Evidence | None = None) -> bool:
        """Mark an open visit as ended because time has passed.

        False when it was not open any more, or was active after `at`.
        """

    def end_overdue(self, ended: Sequence[Visit]) -> int:
        """Mark visits as ended because time has passed, each as `close_overdue` returned it; return how many.

        Left out are those that have changed since.
        """

    def overdue(self, now: datetime, rules: Callable[[str], VisitRule], limit: int = 1_000) -> Sequence[Visit]:
        """Return open visits that have timed out or lasted too long."""

    def list_visits(self, query: VisitQuery) -> Sequence[Visit]:
        """Return one page of visits."""

    def count_visits(self, query: VisitQuery) -> int:
        """Return how many visits there are; order, after and limit of the query do not matter."""

    def list_events(self, query: EventQuery) -> Sequence[Event]:
        """Return one page of events."""

    def count_events(self, query: EventQuery) -> int:
        """Return how many events there are; after and limit of the query do not matter."""

    def events_of(self, visit: Visit) -> Sequence[Event]:
        """Return the events of a visit in their order."""

    def visitor_ids(self, site_id: str, after: str = "", limit: int = 1_000) -> Sequence[str]:
        """Return visitors of a site in the order of their ids, to walk through all of them."""

    def events_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Event]]:
        """Return all events of some visitors, each visitor's in their order."""

    def visits_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Visit]]:
        """Return all visits of some visitors, each visitor's in their order."""

    def refold(self, site_id: str, visitor_ids: Sequence[str], rule: VisitRule) -> int:
        """Fold all events of some visitors again; returns how many visits changed, appeared or vanished."""

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        """Return what was committed after a position, each thing exactly once; the empty position is the beginning.

        A visit never comes before its events.
        """

    def all_events(self, site_id: str) -> Iterator[Event]:
        """Go through all events of a site, in no order: for exports and checks."""
