"""Visits on the application's own connections, whatever it made their default."""

from __future__ import annotations

from lastseen.stores import Store
from lastseen.testing.factories import moment
from lastseen.testing.streams import SITE, batches, folded, stream
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.visits.store import EventQuery, VisitQuery
from tests.stores.test_sessions import lent

__all__ = ["lent"]


def test_visits_on_the_applications_own_connections(lent: Store) -> None:
    """One walk through everything that a store of visits does."""
    visits, events, replica = lent.visits, stream(71, 60), Replica()
    for batch in batches(71, events, most=15):
        save(visits, *batch)
    assert stored(visits) == folded(events, RULE)
    overdue = visits.overdue(moment(days=9), lambda _site: RULE)
    assert all(visits.end(SITE, visit.id, visit.last_activity_at, "timeout") for visit in overdue)
    assert visits.refold(SITE, visits.visitor_ids(SITE), RULE) == 0
    replica.catch_up(visits, limit=9)
    assert replica.visits_by_visitor() == stored(visits)
    everything = visits.list_visits(VisitQuery(site_id=SITE, limit=1_000))
    assert len(everything) == visits.count_visits(VisitQuery(site_id=SITE)) == len(replica.visits)
    assert visits.count_events(EventQuery(site_id=SITE)) == len(list(visits.all_events(SITE))) == len(events)
    assert next(each.id for each in visits.events_of(everything[0])) == everything[0].id
