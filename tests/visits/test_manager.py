"""Visits the classic way: get or create, update, end, clean up, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.errors import InvalidData, MissingAbility
from lastseen.stores import Store, open_store
from lastseen.testing import ManualClock
from lastseen.visits.event import Device
from lastseen.visits.manager import VisitContext, VisitManager, VisitNotFound, event, pageview
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import SiteNotFound
from lastseen.visits.sites import Sites
from lastseen.visits.visit import EndReason, StartReason

PAGE = "https://shop.example/"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Make an empty store with its tables."""
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/visits.db"}
    store = open_store(urls.get(request.param) or request.getfixturevalue("postgres_url"))
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that is moved by hand."""
    return ManualClock()


@pytest.fixture
def manager(store: Store, clock: ManualClock) -> VisitManager:
    """Return the manager of the first site."""
    sites = Sites(store.sites, clock=clock)
    sites.ensure_first()
    return VisitManager(store.visits, sites, clock=clock)


def test_a_new_visit_has_no_page_views_yet(manager: VisitManager, clock: ManualClock) -> None:
    """It knows where its visitor came from, and is found by its id and by its visitor."""
    context = VisitContext(
        url=f"{PAGE}?utm_source=news&utm_medium=mail",
        referrer="https://search.example/",
        device=Device(type="mobile"),
        properties={"plan": "pro"},
    )
    visit = manager.get_or_create("alice", context)
    assert (visit.page_views, visit.event_count, visit.is_active, visit.started_at) == (0, 0, True, clock.utc())
    assert visit.utm is not None
    assert (visit.utm.source, visit.referrer_domain, visit.device) == ("news", "search.example", Device(type="mobile"))
    assert (visit.entry_url, visit.landing_page, dict(visit.custom)) == (
        f"{PAGE}?utm_source=news&utm_medium=mail",
        None,
        {"plan": "pro"},
    )
    assert manager.get(visit.id) == manager.get_by_visitor("alice") == visit
    assert manager.get("nonsense") is manager.get_by_visitor("nobody") is None


def test_an_open_visit_is_returned_as_it_is(manager: VisitManager, clock: ManualClock) -> None:
    """Looking at it is no activity, and writes nothing."""
    visit = manager.get_or_create("alice")
    position = manager.store.changes().position
    clock.advance(minutes=30)
    assert manager.get_or_create("alice") == visit
    assert manager.store.changes(position).visits == ()
    clock.advance(0.001)
    other = manager.get_or_create("alice")
    assert (other.previous_id, other.start_reason) != (None, StartReason.FIRST)
    assert other.previous_id == visit.id


def test_what_happens_is_counted_where_it_belongs(manager: VisitManager, clock: ManualClock) -> None:
    """Page views and events extend the visit; behind the timeout they begin another one, which is returned."""
    visit = manager.get_or_create("alice")
    clock.advance(minutes=10)
    manager.update(visit.id, pageview(f"{PAGE}first"))
    clock.advance(minutes=25)
    visit = manager.update(visit.id, event("signup", {"plan": "pro"}))
    assert (visit.page_views, visit.event_count, visit.landing_page) == (1, 2, f"{PAGE}first")
    assert visit.duration == timedelta(minutes=35)
    clock.advance(minutes=31)
    other = manager.update(visit.id, pageview(f"{PAGE}later"))
    assert (other.previous_id, other.page_views, other.start_reason) == (visit.id, 1, StartReason.TIMEOUT)


def test_an_unknown_visit_cannot_be_updated_and_may_be_ended(manager: VisitManager) -> None:
    """The first is an error, the second is none."""
    with pytest.raises(VisitNotFound):
        manager.update("nonsense", pageview(PAGE))
    assert manager.end("nonsense") is None


def test_an_end_by_hand_is_kept(manager: VisitManager, clock: ManualClock) -> None:
    """The visitor's next visit is another one, ending twice changes nothing, and a rebuild gives the same."""
    visit = manager.get_or_create("alice")
    clock.advance(minutes=5)
    manager.update(visit.id, pageview(PAGE))
    ended = manager.end(visit.id)
    assert ended is not None
    assert (ended.end_reason, ended.is_active, ended.page_views) == (EndReason.ASKED, False, 1)
    assert manager.end(visit.id) == ended
    other = manager.get_or_create("alice")
    assert other.id != visit.id
    assert manager.store.refold("default", ["alice"], VisitRule()) == 0
    assert manager.get(visit.id) == ended


def test_a_visit_that_timed_out_ended_at_its_last_activity(manager: VisitManager, clock: ManualClock) -> None:
    """Also when somebody ends it by hand later."""
    visit = manager.get_or_create("alice")
    clock.advance(hours=1)
    ended = manager.end(visit.id)
    assert ended is not None
    assert (ended.ended_at, ended.end_reason) == (visit.started_at, EndReason.TIMEOUT)


def test_cleaning_up_ends_what_time_has_ended(manager: VisitManager, clock: ManualClock) -> None:
    """Each visit is saved as ended, with the reason; those that go on are left alone; again there is nothing to do."""
    silent = [manager.get_or_create(f"silent-{number}") for number in range(5)]
    long = manager.get_or_create("long")
    for _ in range(72):
        clock.advance(minutes=20)
        long = manager.update(long.id, pageview(PAGE))
    clock.advance(minutes=20)
    fresh = manager.get_or_create("fresh")
    assert manager.cleanup(limit=2) == 6
    assert manager.cleanup() == 0
    ends = [manager.get(visit.id) for visit in [*silent, long, fresh]]
    reasons = [None if visit is None else visit.end_reason for visit in ends]
    assert reasons == [EndReason.TIMEOUT] * 5 + [EndReason.MAX_DURATION, None]
    assert [visit.ended_at for visit in ends if visit and visit.end_reason is EndReason.TIMEOUT] == [
        visit.started_at for visit in silent
    ]


def test_a_campaign_begins_another_visit(manager: VisitManager, clock: ManualClock) -> None:
    """And the same campaign, written differently, does not."""
    first = manager.get_or_create("alice", VisitContext(url=f"{PAGE}?utm_source=news"))
    clock.advance(60)
    assert manager.get_or_create("alice", VisitContext(url=f"{PAGE}?utm_source=NEWS")) == first
    other = manager.get_or_create("alice", VisitContext(url=f"{PAGE}?utm_source=ads"))
    assert (other.start_reason, other.previous_id) == (StartReason.CAMPAIGN, first.id)


def test_first_hits_at_once_make_one_visit(manager: VisitManager) -> None:
    """All of them are given the same one; a naive look and insert would make several."""
    for number in range(10):
        with ThreadPoolExecutor(4) as threads:
            visits = list(threads.map(manager.get_or_create, [f"visitor-{number}"] * 4))
        assert len({visit.id for visit in visits}) == 1
    assert len(manager.store.visitor_ids("default")) == 10


def test_a_clock_that_goes_back_ends_no_visit_before_it_began(manager: VisitManager, clock: ManualClock) -> None:
    """No duration is negative, and the visit is still found."""
    visit = manager.get_or_create("alice")
    clock.jump(-3_600)
    assert manager.get_or_create("alice").id == visit.id
    ended = manager.end(visit.id)
    assert ended is not None
    assert ended.duration >= timedelta(0)
    assert not ended.is_active


def test_each_site_has_visits_of_its_own(manager: VisitManager) -> None:
    """With its own rule; a site that is not there has none."""
    manager._sites.create("other", rule=VisitRule(new_visit_on_utm_change=False))
    other = manager.of_site("other")
    first = other.get_or_create("alice", VisitContext(url=f"{PAGE}?utm_source=news"))
    assert other.get_or_create("alice", VisitContext(url=f"{PAGE}?utm_source=ads")) == first
    assert manager.get(first.id) is None
    with pytest.raises(SiteNotFound):
        manager.of_site("nonsense").get_or_create("alice")


@pytest.mark.parametrize("wrong", ["", "x" * 201, "a\0b", "\ud800"], ids=["empty", "too long", "NUL", "half a letter"])
def test_an_id_that_no_database_holds_begins_no_visit(manager: VisitManager, wrong: str) -> None:
    """Every store says the same, in words, and of a user's id too."""
    for attempt in ((wrong, None), ("alice", VisitContext(user_id=wrong))):
        with pytest.raises(InvalidData, match="1 to 200 characters"):
            manager.get_or_create(*attempt)
    assert manager.get_by_visitor("alice") is None
    assert manager.get_or_create("é" * 200).distinct_id == "é" * 200


def test_a_store_without_visits_is_refused_at_once() -> None:
    """With the name of what it lacks."""
    nothing: Any = object()
    with pytest.raises(MissingAbility, match="VisitStore"):
        VisitManager(nothing, nothing)


def test_visits_are_at_hand_where_the_database_is_opened(tmp_path: Path, clock: ManualClock) -> None:
    """With the rule that new sites were given."""
    rule = VisitRule(timeout=timedelta(minutes=5))
    with LastSeen.open(f"sqlite:///{tmp_path}/visits.db", migrate=True, visit_rule=rule, clock=clock) as lastseen:
        first = lastseen.visits.get_or_create("alice")
        clock.advance(minutes=6)
        assert lastseen.visits.cleanup() == 1
        assert lastseen.visits.get_or_create("alice").previous_id == first.id
