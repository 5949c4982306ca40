"""The contract of `VisitStore`: the same visits whatever the order, the batches, the copies and the writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from lastseen.errors import InvalidCursor
from lastseen.testing.factories import moment
from lastseen.testing.streams import SITE, alias, batches, event, folded, stream
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.testing.visit_saving import VisitSavingContract
from lastseen.visits.event import EventFlags
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, EventQuery, VisitOrder, VisitQuery, VisitStore
from lastseen.visits.visit import StartReason, Visit


class VisitStoreContract(VisitSavingContract):
    """Inherit, override the `store` fixture, and pytest runs what every store of visits promises."""

    def test_visits_are_listed_in_pages(self, store: VisitStore) -> None:
        """Every order and every condition gives what looking through all of them would give, page by page."""
        events = stream(3, 120, visitors=6)
        save(store, *events)
        everything = [visit for visits in folded(events, RULE).values() for visit in visits]
        some = everything[len(everything) // 2]
        conditions: list[tuple[dict[str, Any], Any]] = [
            ({}, lambda _: True),
            ({"started_from": some.started_at}, lambda visit: visit.start >= some.start),
            ({"started_before": some.started_at}, lambda visit: visit.start < some.start),
            ({"visitor_id": some.distinct_id}, lambda visit: visit.visitor_id == some.visitor_id),
            ({"active_since": some.last_activity_at}, lambda visit: visit.last_activity >= some.last_activity),
            ({"bots": True}, lambda visit: visit.is_bot),
            ({"bots": False}, lambda visit: not visit.is_bot),
            ({"start_reason": StartReason.TIMEOUT}, lambda visit: visit.start_reason is StartReason.TIMEOUT),
            ({"url": "example/a"}, lambda visit: "example/a" in (visit.entry_url or "")),
            ({"url": "%"}, lambda visit: "%" in (visit.entry_url or "")),
        ]
        for order in VisitOrder:
            for options, matches in conditions:
                wanted = sorted(filter(matches, everything), key=partial(_sort_place, order))
                query = VisitQuery(site_id=SITE, order=order, limit=7, **options)
                expected = wanted if order is VisitOrder.OLDEST else wanted[::-1]
                assert _pages(store, query) == expected, (order, options)
                assert store.count_visits(query) == len(expected)

    def test_events_are_listed_in_pages(self, store: VisitStore) -> None:
        """The newest first, with every condition."""
        events = sorted(stream(4, 100), key=lambda each: each.order, reverse=True)
        save(store, *events)
        some = events[50]
        conditions: list[tuple[dict[str, Any], Any]] = [
            ({}, lambda _: True),
            ({"happened_from": some.happened_at}, lambda each: each.at >= some.at),
            ({"happened_before": some.happened_at}, lambda each: each.at < some.at),
            ({"distinct_id": some.distinct_id}, lambda each: each.distinct_id == some.distinct_id),
            ({"name": some.name}, lambda each: each.name == some.name),
        ]
        for options, matches in conditions:
            query = EventQuery(site_id=SITE, limit=1_000, **options)
            expected = list(filter(matches, events))
            assert list(store.list_events(query)) == expected
            assert store.count_events(query) == len(expected)
            pages = store.list_events(EventQuery(site_id=SITE, limit=5, **options))
            if len(expected) > 5:
                after = (pages[-1].at, pages[-1].id)
                assert (
                    list(store.list_events(EventQuery(site_id=SITE, limit=5, after=after, **options))) == expected[5:10]
                )

    def test_visitors_can_be_walked_through(self, store: VisitStore) -> None:
        """In the order of their ids, in pages, also those without a visit."""
        save(store, *(event(f"e{number}", f"id-{number}") for number in range(5)))
        save(store, event("x", "server-only", name="job", flags=int(EventFlags.SERVER)))
        assert list(store.visitor_ids(SITE, limit=2)) == ["id-0", "id-1"]
        assert list(store.visitor_ids(SITE, after="id-1")) == ["id-2", "id-3", "id-4", "server-only"]
        assert list(store.visits_of_visitors(SITE, ["server-only"])) == []

    @pytest.mark.parametrize("limit", [1, 7, 10_000])
    def test_a_copy_that_follows_equals_the_truth(self, store: VisitStore, limit: int) -> None:
        """At whatever moments it looks, and in whatever steps: events once, visits as they are, vanished ones gone."""
        events = stream(11, 60, visitors=3)
        replica = Replica()
        for batch in batches(11, events, most=6):
            save(store, *batch)
            replica.follow(store, limit)
        replica.catch_up(store, limit)
        assert replica.visits_by_visitor() == folded(events, RULE) == stored(store)
        assert {each.id for each in events} == {event_id for _, event_id in replica.events}
        for each in events:
            visitor_id = replica.visitors.get((SITE, each.distinct_id), each.distinct_id)
            assert each in store.events_of_visitors(SITE, [visitor_id])[visitor_id]
        assert replica.follow(store) == Changes(position=replica.position)

    def test_a_copy_learns_what_time_and_a_rebuild_have_changed(self, store: VisitStore) -> None:
        """An end by time and another rule are changes too."""
        events = stream(12, 60)
        save(store, *events)
        replica = Replica()
        replica.catch_up(store)
        for visit in store.overdue(moment(days=9), lambda _site: RULE):
            assert store.end(SITE, visit.id, visit.last_activity_at, "timeout")
        replica.catch_up(store)
        assert replica.visits_by_visitor() == stored(store)
        store.refold(SITE, store.visitor_ids(SITE), VisitRule(timeout=timedelta(minutes=5)))
        replica.catch_up(store)
        assert replica.visits_by_visitor() == stored(store)

    @pytest.mark.parametrize("position", ["nonsense", "-1", "²", "1 2"])
    def test_a_position_of_somebody_else_is_refused(self, store: VisitStore, position: str) -> None:
        """It names nothing here."""
        with pytest.raises(InvalidCursor):
            store.changes(position)

    def test_several_writers_give_the_same_visits(self, store: VisitStore) -> None:
        """Threads with batches of the same visitors, the same events among them; a copy follows meanwhile."""
        events = stream(21, 150, visitors=5)
        dealt = batches(21, events, most=12, repeats=0.5)
        replica = Replica()
        with ThreadPoolExecutor(4) as threads:
            saving = [threads.submit(save, store, *batch) for batch in dealt]
            while not all(call.done() for call in saving):
                replica.follow(store, limit=50)
        assert sum(call.result().new for call in saving) == len(events)
        assert stored(store) == folded(events, RULE)
        replica.catch_up(store)
        assert replica.visits_by_visitor() == stored(store)
        assert len(replica.events) == len(events)

    def test_first_events_at_once_make_one_visit(self, store: VisitStore) -> None:
        """However many writers greet a visitor whom nobody knew."""
        for number in range(10):
            first = [event(f"{number}-{each}", f"visitor-{number}", each / 1000) for each in range(4)]
            with ThreadPoolExecutor(4) as threads:
                for call in [threads.submit(save, store, each) for each in first]:
                    call.result()
            (visit,) = stored(store)[f"visitor-{number}"]
            assert (visit.id, visit.page_views) == (f"{number}-0", 4)

    def test_links_at_once_make_one_visitor(self, store: VisitStore) -> None:
        """Each writer knows one link of a chain only."""
        for number in range(5):
            ids = [f"{number}-{letter}" for letter in "dacfbe"]
            events = [event(f"{each}-v", each) for each in ids]
            events += [alias(f"{one}-l", one, other, 1) for one, other in pairwise(ids)]
            with ThreadPoolExecutor(4) as threads:
                for call in [threads.submit(save, store, each) for each in events]:
                    call.result()
            (visit,) = stored(store)[f"{number}-a"]
            assert visit.event_count == len(events)


def _sort_place(order: VisitOrder, visit: Visit) -> tuple[int, str]:
    return (visit.last_activity if order is VisitOrder.LAST_ACTIVE else visit.start), visit.id


def _pages(store: VisitStore, query: VisitQuery) -> list[Visit]:
    found: list[Visit] = []
    page = store.list_visits(query)
    while page:
        found += page
        after = _sort_place(query.order, page[-1])
        options = {name: getattr(query, name) for name in query.__dataclass_fields__}
        page = store.list_visits(VisitQuery(**{**options, "after": after}))
    return found
