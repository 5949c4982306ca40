"""What the ingest remembers of sites: for how long, and who waits when it has to ask again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from lastseen.errors import StoreUnavailable
from lastseen.ingest.known_sites import AWAY_FOR, FRESH_FOR, UNKNOWN_FOR, Intake, KnownSites
from lastseen.ingest.outcome import Unacceptable
from lastseen.server.ingest.replies import SiteFinder
from lastseen.stores.memory import MemoryStore
from lastseen.stores.memory.sites import MemorySites
from lastseen.testing import ManualClock
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site
from lastseen.visits.sites import CACHED_FOR, Sites
from tests.server.running import eventually

JUST_BEFORE = 0.01
ANOTHER_RULE = VisitRule(timeout=timedelta(minutes=5))
Change = Callable[["World"], object]


class FaultySites(MemorySites):
    """The sites of a store as one reads them whose reading can fail or be held up."""

    def __init__(self, sites: MemorySites) -> None:
        vars(self).update(vars(sites))
        self.is_away = False
        self.gate = threading.Event()
        self.gate.set()
        self.readings = 0

    def site_by_write_key(self, write_key: str) -> Site | None:
        found = super().site_by_write_key(write_key)
        self._disturb()
        return found

    def get_site(self, site_id: str) -> Site | None:
        found = super().get_site(site_id)
        self._disturb()
        return found

    def _disturb(self) -> None:
        self.readings += 1
        assert self.gate.wait(30)
        if self.is_away:
            raise StoreUnavailable("no connection")


class World:
    """One site, a server that knows it, and another process that changes it."""

    def __init__(self) -> None:
        store = MemoryStore()
        self.elsewhere = Sites(store.sites)
        self.store = FaultySites(store.sites)
        self.clock = ManualClock()
        self.known = KnownSites(Sites(self.store), store.salts, clock=self.clock)
        self.site = self.elsewhere.create("shop", domains=("shop.test",))
        self.known.load()
        self.store.readings = 0

    def find(self, key: str) -> Intake | None:
        """Ask as one request does."""
        return asyncio.run(SiteFinder(self.known).find(key))


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world whose readings are never held up when it ends."""
    world = World()
    yield world
    world.store.gate.set()


CHANGES: list[Change] = [
    lambda world: world.elsewhere.rotate_write_key("shop"),
    lambda world: world.elsewhere.delete("shop"),
]


@pytest.mark.parametrize("change", CHANGES, ids=["another key", "deleted"])
def test_a_key_that_ended_is_refused_by_the_next_request_however_late(world: World, change: Change) -> None:
    """Also of a site to which nothing was sent for an hour."""
    change(world)
    world.clock.advance(hours=1)
    assert world.find(world.site.write_key) is None


@pytest.mark.parametrize("change", CHANGES, ids=["another key", "deleted"])
def test_what_is_fresh_is_used_without_asking(world: World, change: Change) -> None:
    """The negative control: shortly before it is asked again, the old key is still known, and nothing was read."""
    change(world)
    world.clock.advance(FRESH_FOR - JUST_BEFORE)
    assert world.find(world.site.write_key) is not None
    assert world.known.recall_fresh(world.site.write_key) is not None
    assert world.store.readings == 0
    world.clock.advance(JUST_BEFORE)
    assert world.known.recall_fresh(world.site.write_key) is None
    assert world.find(world.site.write_key) is None


def test_a_changed_rule_holds_for_the_next_event_however_late(world: World) -> None:
    """For what makes the events, and for what folds them, which may be asked without a request."""
    world.elsewhere.change("shop", rule=ANOTHER_RULE)
    world.clock.advance(FRESH_FOR - JUST_BEFORE)
    assert world.known.rule("shop").timeout == VisitRule().timeout
    world.clock.advance(JUST_BEFORE)
    assert world.known.rule("shop").timeout == ANOTHER_RULE.timeout
    # So long a rebuild waits, and a second.
    assert CACHED_FOR.total_seconds() >= FRESH_FOR
    intake = world.find(world.site.write_key)
    assert intake is not None
    assert intake.site.rule.timeout == ANOTHER_RULE.timeout


def test_age_counts_from_before_the_reading(world: World) -> None:
    """What took three seconds to read is used for two."""
    world.clock.advance(FRESH_FOR)

    async def read_slowly() -> Intake | None:
        world.store.gate.clear()
        asked = asyncio.create_task(SiteFinder(world.known).find(world.site.write_key))
        await asyncio.to_thread(eventually, lambda: world.store.readings == 1, "it is read")
        world.clock.advance(3)
        world.store.gate.set()
        return await asked

    assert asyncio.run(read_slowly()) is not None
    world.clock.advance(FRESH_FOR - 3)
    assert world.known.recall_fresh(world.site.write_key) is None


@pytest.mark.parametrize("by", ["key", "other.test", "WWW.Other.test"])
def test_a_key_that_was_asked_for_before_its_site_existed(world: World, by: str) -> None:
    """It is refused until the site is there, and a second later at most it is not: many clients never send again."""
    site = world.elsewhere.create("other", domains=("other.test",))
    key = site.write_key if by == "key" else by
    world.elsewhere.delete("other")
    assert world.find(key) is None
    world.elsewhere.store.add_site(site)
    world.clock.advance(UNKNOWN_FOR - JUST_BEFORE)
    assert world.find(key) is None
    world.clock.advance(JUST_BEFORE)
    found = world.find(key)
    assert found is not None
    assert found.site.id == "other"
    assert UNKNOWN_FOR <= FRESH_FOR


@pytest.mark.parametrize("domain", ["münchen.test", "WWW.MÜNCHEN.test", "xn--mnchen-3ya.test"])
def test_a_domain_may_be_named_as_people_write_it(world: World, domain: str) -> None:
    """What a page names in its script's attribute is what its owner typed, umlauts and all."""
    world.elsewhere.create("muenchen", domains=("münchen.test",))
    found = world.find(domain)
    assert found is not None
    assert found.site.id == "muenchen"


@pytest.mark.parametrize("key", ["", ".", "é", "…", "ü." * 60, "a.\u200d.b", "\ud800.test", "a.\0", "ß" * 99 + ".test"])
def test_what_names_no_site(world: World, key: str) -> None:
    """Whatever is sent as a key is answered with a site or with none."""
    assert world.find(key) is None


def test_many_requests_wait_for_one_reading_and_the_loop_for_none(world: World) -> None:
    """Fifty requests of the same key, one question to the store; meanwhile others are answered."""
    other = world.elsewhere.create("other")
    world.clock.advance(FRESH_FOR)
    world.find(other.write_key)
    world.store.readings = 0

    async def ask() -> list[Intake | None]:
        finder = SiteFinder(world.known)
        world.store.gate.clear()
        asked = [asyncio.create_task(finder.find(world.site.write_key)) for _ in range(50)]
        gone = asyncio.create_task(finder.find(world.site.write_key))
        await asyncio.to_thread(eventually, lambda: world.store.readings == 1, "it is read")
        gone.cancel()
        assert await finder.find(other.write_key) is not None
        assert not any(task.done() for task in asked)
        world.store.gate.set()
        return await asyncio.gather(*asked)

    assert all(asyncio.run(ask()))
    assert world.store.readings == 1


def test_while_the_store_is_away_what_was_known_goes_on(world: World) -> None:
    """An hour old or not; a rule cannot be said, because nothing can be folded."""
    world.store.is_away = True
    world.clock.advance(hours=1)
    assert world.find(world.site.write_key) is not None
    with pytest.raises(StoreUnavailable):
        world.known.rule("shop")


@pytest.mark.parametrize("was_asked_for", [False, True], ids=["never", "in vain"])
def test_while_the_store_is_away_an_unknown_key_is_not_refused_for_good(world: World, was_asked_for: bool) -> None:
    """It cannot be looked up, which is told as it is: it may be that of a site made a moment ago."""
    site = world.elsewhere.create("other")
    world.elsewhere.delete("other")
    assert not was_asked_for or world.find(site.write_key) is None
    world.clock.advance(UNKNOWN_FOR)
    world.store.is_away = True
    with pytest.raises(Unacceptable, match="cannot be looked up") as refusal:
        world.find(site.write_key)
    assert refusal.value.status == 503


def test_nobody_waits_for_a_store_that_failed_lately(world: World) -> None:
    """What was known is used while the next reading hangs; when it comes back, the change is seen."""
    world.clock.advance(FRESH_FOR)
    world.store.is_away = True
    assert world.find(world.site.write_key) is not None
    world.clock.advance(FRESH_FOR)

    async def ask_while_it_hangs() -> None:
        finder = SiteFinder(world.known)
        world.store.gate.clear()
        assert await finder.find(world.site.write_key) is not None
        assert await finder.find(world.site.write_key) is not None
        world.store.is_away = False
        world.elsewhere.rotate_write_key("shop")
        world.store.gate.set()
        await asyncio.to_thread(eventually, lambda: not world.known.is_store_away, "the store answers")

    asyncio.run(ask_while_it_hangs())
    world.clock.advance(FRESH_FOR)
    assert world.find(world.site.write_key) is None


def test_a_failure_is_forgotten(world: World) -> None:
    """The negative control: a while after a failure the next request asks first, and does not believe."""
    world.store.is_away = True
    world.clock.advance(FRESH_FOR)
    assert world.find(world.site.write_key) is not None
    world.store.is_away = False
    world.elsewhere.rotate_write_key("shop")
    world.clock.advance(AWAY_FOR)
    assert world.find(world.site.write_key) is None
