"""Whom a refused id belongs to may change after the visit that it began, or that another one began, was written."""

from __future__ import annotations

import random

import pytest

from lastseen.stores import Store
from lastseen.stores.visit_saving import MARK_EVERY
from lastseen.testing.streams import SITE, alias, batches, event, folded, identify
from lastseen.testing.visit_copies import RULE, save, stored
from lastseen.visits.event import Event
from lastseen.visits.visit import StartReason

HOUR = 3_600
LATE = 9 * HOUR


@pytest.mark.parametrize("earlier", [0, 1, 3 * MARK_EVERY], ids=["none", "one", "marked"])
@pytest.mark.parametrize("moment", [LATE - HOUR, LATE], ids=["before", "at once"])
def test_the_first_event_of_a_visit_is_refused_for_another(any_store: Store, earlier: int, moment: int) -> None:
    """The visit begins with the refused event, behind another visit or none; its reason names the new owner."""
    events = [event(f"a{number:03}", "ben", number / 1000) for number in range(earlier)]
    events += [
        identify("m", "ann", "anon", moment),
        event("y", "ben", LATE, "click"),
        identify("x", "ben", "anon", LATE),
        identify("b", "cid", "anon", 1),
    ]
    if moment == LATE:
        # A visit of the same visitor begins in the same microsecond, just before the refused event.
        events.append(event("l", "ben", LATE))
    save(any_store.visits, *events[: earlier + 3])
    begun = any_store.visits.get(SITE, "x")
    assert begun is not None
    assert (begun.id, begun.start_reason) == ("x", StartReason.OTHER_USER)
    for each in events[earlier + 3 :]:
        save(any_store.visits, each)
    assert stored(any_store.visits) == folded(events, RULE)


def test_a_visit_forgets_that_it_was_begun_by_another_user(any_store: Store) -> None:
    """The identification is no longer refused when its user is the owner: the visit begins for another reason."""
    events = [
        event("e1", "ben"),
        identify("e3", "ann", "anon", HOUR),
        identify("e4", "ben", "anon", 2 * HOUR),
    ]
    save(any_store.visits, *events)
    begun = stored(any_store.visits)["ben"][-1]
    assert (begun.id, begun.start_reason) == ("e4", StartReason.OTHER_USER)
    events.append(alias("e2", "ben", "anon", 1))
    save(any_store.visits, events[-1])
    assert stored(any_store.visits) == folded(events, RULE)
    again = any_store.visits.get(begun.site_id, "e4")
    assert again is not None
    assert again.start_reason is StartReason.TIMEOUT


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=pytest.mark.faults)])
def test_many_users_quarrel_about_few_ids(any_store: Store, count: int) -> None:
    """After each batch the visits are those of the links that are known by then."""
    for seed in range(count):
        chance = random.Random(seed)
        there: list[Event] = []
        for batch in batches(seed, _quarrel(chance, f"s{seed}"), most=3):
            save(any_store.visits, *batch)
            there += batch
            assert stored(any_store.visits, f"s{seed}") == folded(there, RULE)


def _quarrel(chance: random.Random, site_id: str) -> list[Event]:
    users, ids = ["ann", "ben", "cid", "dan"], ["anon", "other"]
    events = []
    for number in range(chance.randint(4, 12)):
        event_id = f"e{chance.randrange(100):02}-{number}"
        at = chance.choice((0, 0, 60, 3_000, 3_001, 9_000, 9_000.000001, 9_000.000001))
        kind = chance.random()
        if kind < 0.5:
            each = identify(event_id, chance.choice(users), chance.choice(ids), at, site_id=site_id)
        elif kind < 0.6:
            each = alias(event_id, chance.choice(users), chance.choice(ids), at, site_id=site_id)
        else:
            each = event(event_id, chance.choice(users + ids), at, site_id=site_id)
        events.append(each)
    return events
