"""Long visits: a late event does not read all of them again, and the states that are kept for that are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lastseen.stores import Store, visit_saving
from lastseen.stores.postgres.visit_transaction import PostgresVisitTransaction
from lastseen.stores.sqlite.visit_transaction import SQLiteVisitTransaction
from lastseen.testing.streams import batches, event, folded, identify, stream
from lastseen.testing.visit_copies import RULE, save, stored
from lastseen.visits.event import Event


@pytest.mark.parametrize("seed", range(6))
def test_states_on_the_way_change_no_visit(any_store: Store, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """With a mark at every second event, whatever the order, the visits are those of the fold."""
    monkeypatch.setattr(visit_saving, "MARK_EVERY", 2)
    events = stream(seed + 50, 80, visitors=2)
    for batch in batches(seed, events, most=(3, 9)[seed % 2]):
        save(any_store.visits, *batch)
    assert stored(any_store.visits) == folded(events, RULE)


def _reads(monkeypatch: pytest.MonkeyPatch, kind: Any) -> list[int]:
    """Note how many events each question for them returns."""
    read: list[int] = []
    asked = kind.events_from

    def note(self: Any, moments: Mapping[int, int]) -> Mapping[int, list[Event]]:
        events: Mapping[int, list[Event]] = asked(self, moments)
        read.append(sum(map(len, events.values())))
        return events

    monkeypatch.setattr(kind, "events_from", note)
    return read


# Thousands of events: traced they take twice as long, and the others run the same lines.
@pytest.mark.no_cover
@pytest.mark.parametrize("kept", [True, False], ids=["marks", "no marks"])
def test_events_that_come_a_little_late_read_little(
    any_store: Store, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """Each batch of a visitor who never rests begins before the last one ended; without marks each reads everything."""
    sqlite = any_store.address.startswith("sqlite")
    read = _reads(monkeypatch, SQLiteVisitTransaction if sqlite else PostgresVisitTransaction)
    if not kept:
        monkeypatch.setattr(visit_saving, "MARK_EVERY", 1_000_000)
    events = [event(f"{number:06}", at=number / 10) for number in range(6_000)]
    arriving = sorted(range(6_000), key=lambda number: number + (20 if number % 10 == 0 else 0))
    for first in range(0, 6_000, 100):
        save(any_store.visits, *(events[number] for number in arriving[first : first + 100]))
    assert stored(any_store.visits) == folded(events, RULE)
    assert (max(read) < 1_500) is kept


@pytest.mark.parametrize("kept", [True, False], ids=["marks", "no marks"])
@pytest.mark.parametrize("size", [10, 90, 350])
def test_a_visit_that_goes_on_in_order_is_marked(
    any_store: Store, monkeypatch: pytest.MonkeyPatch, size: int, *, kept: bool
) -> None:
    """In batches smaller and larger than the distance of marks; one late event near the end reads that end."""
    sqlite = any_store.address.startswith("sqlite")
    read = _reads(monkeypatch, SQLiteVisitTransaction if sqlite else PostgresVisitTransaction)
    if not kept:
        monkeypatch.setattr(visit_saving, "MARK_EVERY", 1_000_000)
    events = [event(f"{number:06}", at=number / 10) for number in range(1_400)]
    save(any_store.visits, *events[:1_050])
    for first in range(1_050, 1_400, size):
        save(any_store.visits, *events[first : first + size])
    assert read == []
    late = event("late", at=139.05)
    save(any_store.visits, late)
    assert stored(any_store.visits) == folded([*events, late], RULE)
    assert (read[0] < 700) is kept


def test_what_happened_before_a_state_makes_it_void(any_store: Store) -> None:
    """An event of the beginning, and one that joins another visitor's, are not overlooked."""
    events = [event(f"{number:06}", "anon", at=number) for number in range(1, 1_000)]
    for first in range(0, 1_000, 250):
        save(any_store.visits, *events[first : first + 250])
    late = [event("first", "anon"), event("other", "ann", 500.5), identify("joined", "ann", "anon", 2_000)]
    for each in late:
        save(any_store.visits, each)
    save(any_store.visits, event("later", "anon", 999.5))
    assert stored(any_store.visits) == folded([*events, *late, event("later", "anon", 999.5)], RULE)
