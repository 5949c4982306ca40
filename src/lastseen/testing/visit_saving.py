"""What stores of visits promise of saving: the same visits whatever the order, the batches, the copies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any

import msgspec
import pytest

from lastseen.clock import to_micros
from lastseen.errors import InvalidData
from lastseen.testing.factories import moment
from lastseen.testing.streams import SITE, alias, batches, event, folded, identify, stream
from lastseen.testing.visit_copies import MINUTE, ROUNDS, RULE, Replica, save, stored
from lastseen.visits.event import SESSION_END, Device, Event, EventFlags, Geo
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, EventQuery, VisitQuery, VisitStore
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import EndReason, StartReason, Visit


class VisitSavingContract:
    """What every store of visits promises of saving; inherited by `VisitStoreContract`."""

    @pytest.fixture
    def store(self) -> VisitStore:
        """Return an empty store of visits with its tables."""
        raise NotImplementedError("override the store fixture")

    def test_it_is_a_visit_store(self, store: VisitStore) -> None:
        """The protocol is there."""
        assert isinstance(store, VisitStore)

    def test_an_event_begins_a_visit(self, store: VisitStore) -> None:
        """It is found by its id, by the ids of its events and by its visitor."""
        result = save(store, event("e1"), event("e2", at=MINUTE))
        (visit,) = result.visits
        assert (result.new, result.duplicates) == (2, 0)
        assert (visit.id, visit.visitor_id, visit.page_views, visit.start_reason) == ("e1", "alice", 2, "first")
        assert store.get(SITE, "e1") == store.get(SITE, "e2") == store.get_by_visitor(SITE, "alice") == visit
        assert stored(store) == {"alice": [visit]} == folded([event("e1"), event("e2", at=MINUTE)], RULE)

    def test_an_event_comes_back_as_it_was(self, store: VisitStore) -> None:
        """With all its details, and those that have none."""
        whole = event(
            "e1",
            referrer="https://search.example/?q=\u00e4",
            referrer_domain="search.example",
            utm=UtmParams(source="a", term="b"),
            user_id="ann",
            session_id="s",
            window_id="w",
            flags=int(EventFlags.BOT | EventFlags.LATE),
            engaged_ms=7,
            device=Device(type="desktop", screen_resolution="1x1"),
            geo=Geo(country="DE"),
            properties={"nested": {"list": [1, 2.5, None, True, "\0 \U0001f600"]}},
        )
        bare = event("e2", at=MINUTE, name="bare", received_at=1)
        save(store, whole, bare)
        assert store.list_events(EventQuery(site_id=SITE)) == [bare, whole]
        assert sorted(store.all_events(SITE), key=attrgetter("at")) == [whole, bare]
        assert store.events_of_visitors(SITE, ["alice", "nobody"]) == {"alice": [whole, bare]}

    @pytest.mark.parametrize("text", ["", "nobody", "\0", "a\0b", "\ud800"])
    def test_what_is_not_there_is_not_found(self, store: VisitStore, text: str) -> None:
        """Also text that a database cannot hold."""
        save(store, event("e1"))
        assert store.get(SITE, text) is None
        assert store.get(text, "e1") is None
        assert store.get_by_visitor(SITE, text) is None
        assert store.list_visits(VisitQuery(site_id=SITE, visitor_id=text)) == []
        assert store.list_events(EventQuery(site_id=text)) == []
        assert store.count_visits(VisitQuery(site_id=text)) == store.count_events(EventQuery(site_id=text)) == 0
        assert store.visitor_ids(text) == []
        assert dict(store.events_of_visitors(SITE, [text])) == {}
        assert dict(store.visits_of_visitors(SITE, [text])) == {}
        assert store.end(SITE, text, moment(), "timeout") is False
        assert store.refold(SITE, [text], RULE) == 0

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff"])
    @pytest.mark.parametrize("field", ["id", "distinct_id", "name", "url"])
    def test_text_that_no_database_can_hold_is_refused(self, store: VisitStore, field: str, text: str) -> None:
        """Together with the batch that it is in; the same batch without it is saved."""
        bad = msgspec.structs.replace(event("bad", at=MINUTE), **{field: text})
        with pytest.raises(InvalidData):
            save(store, event("e1"), bad)
        assert store.count_events(EventQuery(site_id=SITE)) == 0
        assert save(store, event("e1"), event("bad", at=MINUTE)).new == 2

    @pytest.mark.parametrize("properties", [{"\ud800": 1}, {"a": ["\udfff"]}, {"a": object()}])
    def test_properties_that_cannot_be_written_as_json_are_refused(
        self, store: VisitStore, properties: dict[str, Any]
    ) -> None:
        """As text that no database can hold; the negative control is what JSON can write."""
        with pytest.raises(InvalidData):
            save(store, event("e1", properties=properties))
        assert save(store, event("e1", properties={"\0": "\0"})).new == 1

    def test_the_same_event_again_changes_nothing(self, store: VisitStore) -> None:
        """In one batch, in two, and when the copy says something else under the same id."""
        first = event("e1")
        assert save(store, first, first, event("e1", at=MINUTE, name="other")).new == 1
        again = save(store, first, event("e1", "bob", at=-MINUTE), event("e2", at=MINUTE))
        assert (again.new, again.duplicates) == (1, 2)
        assert store.count_events(EventQuery(site_id=SITE)) == 2
        assert stored(store) == folded([first, event("e2", at=MINUTE)], RULE)
        assert save(store).new == 0

    def test_sites_have_nothing_in_common(self, store: VisitStore) -> None:
        """The same ids in two sites are different events, visitors and visits, under different rules."""
        rules = {"one": VisitRule(), "two": VisitRule(timeout=timedelta(seconds=30))}
        events = [
            event(name, "alice", at, site_id=site_id) for site_id in rules for name, at in (("e1", 0), ("e2", MINUTE))
        ]
        assert store.save(events, rules.__getitem__).new == 4
        assert {site_id: len(stored(store, site_id)["alice"]) for site_id in rules} == {"one": 1, "two": 2}
        save(store, identify("e3", "ann", "alice", 2 * MINUTE, site_id="one"))
        assert {site_id: list(stored(store, site_id)) for site_id in rules} == {"one": ["ann"], "two": ["alice"]}

    def test_a_batch_is_saved_as_a_whole_or_not_at_all(self, store: VisitStore) -> None:
        """When something fails on the way, nothing has happened, and the same batch can be saved later."""
        save(store, event("e1"))
        replica = Replica()
        replica.catch_up(store)

        def failing(site_id: str) -> VisitRule:
            raise LookupError(site_id)

        with pytest.raises(LookupError):
            store.save([event("e2", at=MINUTE), identify("e3", "ann", "alice", 90)], failing)
        assert store.count_events(EventQuery(site_id=SITE)) == 1
        assert list(stored(store)) == ["alice"]
        assert replica.follow(store) == Changes(position=replica.position)
        assert save(store, event("e2", at=MINUTE), identify("e3", "ann", "alice", 90)).new == 2
        assert list(stored(store)) == ["ann"]

    @pytest.mark.parametrize("seed", range(ROUNDS))
    def test_order_batches_and_copies_do_not_matter(self, store: VisitStore, seed: int) -> None:
        """Whatever comes, and however: the visits are those of the fold over each visitor's distinct events."""
        events = stream(seed, 50)
        for batch in batches(seed, events, most=(2, 5, 25)[seed % 3]):
            save(store, *batch)
        assert stored(store) == folded(events, RULE)
        assert store.count_events(EventQuery(site_id=SITE)) == len(events)

    def test_every_step_on_the_way_is_right(self, store: VisitStore) -> None:
        """After each batch the visits are those of the events that are there."""
        events = stream(99, 50, visitors=2)
        there: list[Event] = []
        for batch in batches(99, events, most=5):
            save(store, *batch)
            there += batch
            assert stored(store) == folded(there, RULE)

    def test_a_late_event_merges_two_visits(self, store: VisitStore) -> None:
        """It closes the gap between them; the visit that is no more is found as the one that it became part of."""
        save(store, event("e1"), event("e3", at=50 * MINUTE))
        assert [visit.id for visit in stored(store)["alice"]] == ["e1", "e3"]
        save(store, event("e2", at=25 * MINUTE))
        (visit,) = stored(store)["alice"]
        assert (visit.id, visit.page_views) == ("e1", 3)
        assert store.get(SITE, "e3") == visit

    def test_a_late_event_splits_a_visit(self, store: VisitStore) -> None:
        """A campaign in its middle begins another one."""
        save(store, event("e1", utm=UtmParams(source="a")), event("e3", at=20 * MINUTE))
        save(store, event("e2", at=10 * MINUTE, utm=UtmParams(source="b")))
        first, second = stored(store)["alice"]
        assert (first.id, second.id, second.start_reason) == ("e1", "e2", StartReason.CAMPAIGN)
        assert store.get(SITE, "e3") == second

    def test_an_earlier_event_moves_the_start(self, store: VisitStore) -> None:
        """The visit's id is that of its first event, and the former one still finds it."""
        save(store, event("e2", at=MINUTE))
        save(store, event("e1"))
        (visit,) = stored(store)["alice"]
        assert (visit.id, visit.landing_page) == ("e1", "https://shop.example/e1")
        assert store.get(SITE, "e2") == visit

    def test_an_event_between_visits_is_in_none(self, store: VisitStore) -> None:
        """It is kept as an event, and joins when a late event extends the visit to it."""
        hidden = event("e2", at=40 * MINUTE, name="heartbeat", flags=int(EventFlags.PASSIVE))
        save(store, event("e1"), hidden)
        assert store.get(SITE, "e2") is None
        assert store.count_events(EventQuery(site_id=SITE)) == 2
        save(store, event("e3", at=20 * MINUTE))
        visit = store.get(SITE, "e2")
        assert visit is not None
        assert (visit.id, visit.event_count) == ("e1", 3)
        assert [each.id for each in store.events_of(visit)] == ["e1", "e3", "e2"]

    def test_identifying_joins_without_a_break(self, store: VisitStore) -> None:
        """The running visit becomes the known user's, and both ids find it."""
        save(store, event("e1", "anon"), identify("e2", "ann", "anon", MINUTE), event("e3", "ann", 2 * MINUTE))
        assert list(stored(store)) == ["ann"]
        visit = store.get_by_visitor(SITE, "anon")
        assert visit is not None
        assert visit == store.get_by_visitor(SITE, "ann")
        assert (visit.id, visit.distinct_id, visit.event_count) == ("e1", "anon", 3)

    def test_a_link_may_come_late_or_before_what_it_joins(self, store: VisitStore) -> None:
        """Either way the visits are the same."""
        events = [event("e1", "anon"), event("e2", "ann", MINUTE), identify("e3", "ann", "anon", MINUTE)]
        for number, order in enumerate(([0, 1, 2], [2, 0, 1], [2, 1, 0], [1, 2, 0])):
            site_id = f"site-{number}"
            for place in order:
                save(store, _in_site(events[place], site_id))
            (visits,) = stored(store, site_id).values()
            assert [visit.id for visit in visits] == ["e1"]

    def test_two_known_users_stay_two(self, store: VisitStore) -> None:
        """On one device: the second begins a visit of another user, whichever is told first."""
        events = [
            event("e1", "anon"),
            identify("e2", "ann", "anon", MINUTE),
            identify("e3", "ben", "anon", 2 * MINUTE),
            event("e4", "ben", 3 * MINUTE),
        ]
        for number, order in enumerate((events, events[::-1])):
            for each in order:
                save(store, _in_site(each, f"site-{number}"))
            visits = stored(store, f"site-{number}")
            assert {
                visitor: [visit.start_reason for visit in of_visitor] for visitor, of_visitor in visits.items()
            } == {
                "ann": [StartReason.FIRST],
                "ben": [StartReason.OTHER_USER],
            }

    def test_a_late_link_takes_back_an_earlier_join(self, store: VisitStore) -> None:
        """What was said first counts, whenever it is heard: the id moves to the other user with its events."""
        events = [event("e1", "anon"), identify("e3", "ben", "anon", 2 * MINUTE)]
        save(store, *events)
        assert list(stored(store)) == ["ben"]
        events.append(identify("e2", "ann", "anon", MINUTE))
        save(store, events[-1])
        assert stored(store) == folded(events, RULE)
        assert [visit.id for visit in stored(store)["ann"]] == ["e1"]

    def test_the_owner_of_a_refused_id_may_turn_out_to_be_another(self, store: VisitStore) -> None:
        """The visit that began there names the user whom the id belongs to, as far as it is known by then."""
        events = [
            event("e1", "anon"),
            identify("e3", "ann", "anon", 2 * MINUTE),
            identify("e4", "ben", "anon", 3 * MINUTE),
            identify("e2", "cid", "anon", MINUTE),
        ]
        for each in events:
            save(store, each)
        assert stored(store) == folded(events, RULE)
        evidence = stored(store)["ben"][0].start_evidence
        assert evidence is not None
        assert (evidence.before, evidence.after) == ("cid", "ben")

    def test_long_chains_of_ids_are_one_visitor(self, store: VisitStore) -> None:
        """However many links lie between them, and in whatever order they come."""
        ids = [f"id-{number:02}" for number in range(20)]
        events = [event(f"v{number}", each, number) for number, each in enumerate(ids)]
        events += [alias(f"l{number}", one, ids[number + 1], 100) for number, one in enumerate(ids[:-1])]
        random.Random(7).shuffle(events)  # noqa: S311 - not for secrets
        for each in events:
            save(store, each)
        assert stored(store) == folded(events, RULE)
        assert list(stored(store)) == ["id-00"]

    def test_an_end_by_hand_is_an_event(self, store: VisitStore) -> None:
        """The visit is over, and what comes next begins another one; a rebuild knows both."""
        save(store, event("e1"), event("e2", at=MINUTE, name=SESSION_END), event("e3", at=2 * MINUTE))
        first, second = stored(store)["alice"]
        assert (first.end_reason, second.start_reason) == (EndReason.ASKED, StartReason.ENDED)
        assert store.refold(SITE, ["alice"], RULE) == 0

    def test_time_ends_a_visit_once(self, store: VisitStore) -> None:
        """Overdue visits are found by timeout and by length; ended ones are not ended again."""
        save(store, event("e1"), event("e1", "bob", site_id="other"))
        ends = moment()
        assert list(store.overdue(moment(minutes=30), lambda _site: RULE)) == []
        overdue = store.overdue(moment(minutes=31), lambda _site: RULE)
        assert sorted(visit.visitor_id for visit in overdue) == ["alice", "bob"]
        assert len(store.overdue(moment(minutes=31), lambda _site: RULE, limit=1)) == 1
        assert store.end(SITE, "e1", ends, "timeout")
        assert not store.end(SITE, "e1", ends, "timeout")
        visit = store.get(SITE, "e1")
        assert visit is not None
        assert (visit.ended_at, visit.end_reason, visit.is_active) == (ends, EndReason.TIMEOUT, False)
        assert [visit.site_id for visit in store.overdue(moment(minutes=31), lambda _site: RULE)] == ["other"]
        day = VisitRule(timeout=timedelta(days=2), max_duration=timedelta(minutes=10))
        assert [visit.site_id for visit in store.overdue(moment(minutes=11), lambda _site: day)] == ["other"]

    def test_time_ends_many_visits_together(self, store: VisitStore) -> None:
        """Of several sites and visitors, each once, as if each had been ended by itself."""
        save(
            store,
            event("e1"),
            event("e1", "bob", site_id="other"),
            event("e2", "carol"),
            event("e3", "dora", 40 * MINUTE),
        )
        now = moment(minutes=60)
        over = [close_overdue(visit, to_micros(now), RULE) for visit in store.overdue(now, lambda _site: RULE)]
        ended = [visit for visit in over if visit is not None]
        assert sorted(visit.visitor_id for visit in ended) == ["alice", "bob", "carol"]
        assert store.end_overdue(ended) == 3
        assert store.end_overdue(ended) == store.end_overdue([]) == 0
        assert [store.get(visit.site_id, visit.id) for visit in ended] == ended
        assert store.overdue(now, lambda _site: RULE) == []

    def test_a_visit_that_went_on_is_not_ended_by_time(self, store: VisitStore) -> None:
        """Who found it overdue before the last event comes too late."""
        save(store, event("e1"))
        (overdue,) = store.overdue(moment(minutes=31), lambda _site: RULE)
        ended = close_overdue(overdue, to_micros(moment(minutes=31)), RULE)
        assert ended is not None
        save(store, event("e2", at=20 * MINUTE))
        assert store.end_overdue([ended]) == 0
        assert not store.end(SITE, "e1", overdue.last_activity_at, "timeout")
        visit = store.get(SITE, "e1")
        assert visit is not None
        assert visit.is_active

    def test_a_late_event_opens_what_time_has_ended(self, store: VisitStore) -> None:
        """And an end by time that still holds is kept when its visitor is folded again."""
        save(store, event("e1"), event("e1b", "bob"))
        for visit_id in ("e1", "e1b"):
            assert store.end(SITE, visit_id, moment(), "timeout")
        assert store.refold(SITE, ["alice", "bob"], RULE) == 0
        save(store, event("e2", at=20 * MINUTE), event("e2b", "bob", 40 * MINUTE))
        assert stored(store) == folded(
            [event("e1"), event("e1b", "bob"), event("e2", at=20 * MINUTE), event("e2b", "bob", 40 * MINUTE)], RULE
        )

    def test_another_rule_folds_history_again(self, store: VisitStore) -> None:
        """The number says how many visits changed, appeared or vanished; then there is nothing left to do."""
        events = stream(5, 80)
        save(store, *events)
        hour = VisitRule(timeout=timedelta(hours=1), new_visit_on_utm_change=False)
        before, visitors = stored(store), store.visitor_ids(SITE)
        assert store.refold(SITE, visitors, RULE) == 0
        assert store.refold(SITE, visitors, hour) == _differences(before, folded(events, hour)) > 0
        assert stored(store) == folded(events, hour)
        assert store.refold(SITE, visitors, hour) == 0


def _in_site(each: Event, site_id: str) -> Event:
    return Event(**{**{name: getattr(each, name) for name in each.__struct_fields__}, "site_id": site_id})


def _differences(before: Mapping[str, Sequence[Visit]], after: Mapping[str, Sequence[Visit]]) -> int:
    one, other = ({visit.id: visit for visits in side.values() for visit in visits} for side in (before, after))
    return sum(one.get(visit_id) != other.get(visit_id) for visit_id in one.keys() | other.keys())
