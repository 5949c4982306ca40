"""Batches that were prepared before their transaction are saved as any others, whatever is there already."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from lastseen.errors import InvalidData, StoreError
from lastseen.stores import Store, open_store
from lastseen.stores.visit_batch import LINKING, PreparedBatch, prepare
from lastseen.testing.streams import SITE, batches, event, folded, identify, stream
from lastseen.testing.visit_copies import RULE, stored
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule

SHORT = VisitRule(timeout=timedelta(minutes=1))


def _save(store: Store, events: list[Event], prepared_for: VisitRule = RULE) -> int:
    return store.visits.save(prepare(events, prepared_for), lambda _site: RULE).new


def _order(event: Event) -> tuple[int, str]:
    return event.order


def _visits(*moments: float) -> list[Event]:
    return [event(f"{number}-{visitor}", visitor, at=at) for number, at in enumerate(moments) for visitor in "ab"]


@pytest.mark.parametrize("seed", range(6))
def test_prepared_batches_give_the_same_visits(any_store: Store, seed: int) -> None:
    """In any order and any number of copies: of visitors who are new, who are known, and who came later."""
    events = [each for each in stream(seed, 240, visitors=20) if each.name not in LINKING]
    prepared = 0
    for batch in batches(seed, events, most=40, repeats=0.05):
        prepared += isinstance(prepare(batch, RULE), PreparedBatch)
        _save(any_store, batch)
    assert prepared
    assert stored(any_store.visits) == folded(events, RULE)


@pytest.mark.parametrize("seed", range(3))
def test_visitors_whom_links_have_joined(any_store: Store, seed: int) -> None:
    """Batches with links are saved as they are; those of ids that belong together are folded together."""
    events = stream(seed + 40, 160, visitors=6)
    Random(seed).shuffle(events)
    for start in range(0, len(events), 16):
        _save(any_store, events[start : start + 16])
    assert stored(any_store.visits) == folded(events, RULE)


def test_what_was_folded_by_another_rule_is_folded_again(any_store: Store) -> None:
    """The rule of the moment counts, not that of the preparation."""
    events = _visits(0, 120)
    assert _save(any_store, events, SHORT) == 4
    assert stored(any_store.visits) == folded(events, RULE)


def test_what_was_folded_is_taken_as_it_is(any_store: Store) -> None:
    """The control of these tests: of visitors who are new, nothing is folded in the transaction."""
    events = _visits(0, 120)
    batch = prepare(events, SHORT)
    assert isinstance(batch, PreparedBatch)
    batch.rule = RULE
    any_store.visits.save(batch, lambda _site: RULE)
    assert stored(any_store.visits) == folded(events, SHORT) != folded(events, RULE)


def test_what_is_there_already_is_not_taken_from_the_preparation(any_store: Store) -> None:
    """Neither events that were saved before nor visitors who had some."""
    _save(any_store, _visits(0))
    assert _save(any_store, _visits(0, 120)) == 2
    assert _save(any_store, [event("later", "a", at=240), event("first", "c", at=240)]) == 2
    every = [*_visits(0, 120), event("later", "a", at=240), event("first", "c", at=240)]
    assert stored(any_store.visits) == folded(every, RULE)


@pytest.mark.parametrize("seed", range(6))
def test_prepared_batches_among_others(any_store: Store, seed: int) -> None:
    """What a store remembers of visitors between two batches is what a prepared one has left."""
    events = sorted((each for each in stream(seed + 80, 240, visitors=8) if each.name not in LINKING), key=_order)
    random, start = Random(seed), 0
    while start < len(events):
        batch = events[start : start + random.randrange(1, 30)]
        start += len(batch)
        any_store.visits.save(random.choice([batch, prepare(batch, RULE)]), lambda _site: RULE)
    assert stored(any_store.visits) == folded(events, RULE)


def test_a_prepared_batch_that_failed_is_saved_as_a_whole(tmp_path: Path) -> None:
    """Whatever of it was written before the error is taken back."""
    store, events = open_store(f"sqlite:///{tmp_path}/failing.db"), _visits(0, 120, 7_200)
    store.migrate()
    _save(store, events[:2])
    batch = prepare(events[2:], RULE)
    owner = sqlite3.connect(tmp_path / "failing.db", isolation_level=None)
    owner.execute("ALTER TABLE lastseen_visits RENAME TO elsewhere")
    with pytest.raises(StoreError):
        store.visits.save(batch, lambda _site: RULE)
    owner.execute("ALTER TABLE elsewhere RENAME TO lastseen_visits")
    owner.close()
    assert stored(store.visits) == folded(events[:2], RULE)
    assert [store.visits.save(batch, lambda _site: RULE).new for _ in range(2)] == [4, 0]
    assert stored(store.visits) == folded(events, RULE)
    store.close()


def test_a_visit_that_somebody_left_without_events_is_replaced(tmp_path: Path) -> None:
    """By the one of the same event, wherever it stands in the batch."""
    store, events = open_store(f"sqlite:///{tmp_path}/rest.db"), _visits(0, 120, 7_200)
    store.migrate()
    _save(store, events[2:])
    owner = sqlite3.connect(tmp_path / "rest.db", isolation_level=None)
    owner.execute("UPDATE lastseen_visits SET body = '{}', visitor = 99")
    for table in ("events", "identities"):
        owner.execute(f"DELETE FROM lastseen_{table}")
    owner.close()
    _save(store, events[2:])
    assert stored(store.visits) == folded(events[2:], RULE)
    store.close()


ODD = ["plain", "a\\b", "tab\there", "line\nbreak\rback", '"', "\\N", "ü€🙂"]


@pytest.mark.parametrize("count", [7, 140], ids=["few", "many"])
@pytest.mark.parametrize("is_prepared", [True, False], ids=["prepared", "as they are"])
def test_each_event_is_saved_with_what_is_its_own(any_store: Store, *, count: int, is_prepared: bool) -> None:
    """In whatever order they come, with whatever is in their ids, names and properties."""
    events = [
        event(f"{number}-{text}", f"visitor-{text}", number, f"name {text}", properties={"n": number, "text": text})
        for number, text in enumerate(ODD * (count // len(ODD)))
    ]
    Random(count).shuffle(events)
    batch = prepare(events, RULE) if is_prepared else events
    assert isinstance(batch, PreparedBatch) is is_prepared
    assert any_store.visits.save(batch, lambda _site: RULE).new == count
    assert sorted(any_store.visits.all_events(SITE), key=_order) == sorted(events, key=_order)
    assert stored(any_store.visits) == folded(events, RULE)


@pytest.mark.parametrize(
    "events",
    [
        [event("1"), event("1")],
        [event("1"), event("2", site_id="other")],
        [event("1"), identify("2", "ann", "alice")],
        [],
    ],
    ids=["copies", "two-sites", "links", "none"],
)
def test_what_cannot_be_prepared_is_returned_as_it_is(events: list[Event]) -> None:
    """Copies, events of several sites, and links."""
    assert prepare(events, RULE) is events


def test_what_cannot_be_written_is_refused_before() -> None:
    """As saving it would."""
    with pytest.raises(InvalidData):
        prepare([event("1", properties={"set": object()})], RULE)
    with pytest.raises(InvalidData):
        prepare([event("1\0")], RULE)
