"""How much a copy is fed at once, and that it gets there in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lastseen.errors import StoreError, StoreUnavailable
from lastseen.reports.asking import Reports
from lastseen.reports.batches import FIRST, LEAST, MOST, MOST_CHARACTERS, BatchSize
from lastseen.stores import open_store
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.testing.visit_copies import save
from lastseen.visits.event import Event
from lastseen.visits.store import Changes
from tests.reports.test_asking import events_in
from tests.stores.test_columnar import simple


def test_batches_grow_to_the_most() -> None:
    """Twice as many each time, and no more than the most."""
    size, seen = BatchSize(), []
    for _ in range(6):
        seen.append(size.changes)
        size.note_copied(Changes(position="1"))
    assert seen == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, 16 * FIRST, MOST]


def test_large_events_come_in_small_batches() -> None:
    """As many as are that large together, by those of the batch before; at least a few, and soon more again."""
    size, ten = BatchSize(), simple(10)
    size.note_copied(Changes(position="1", events=ten, characters=MOST_CHARACTERS))
    assert size.changes == LEAST
    size.note_copied(Changes(position="1", events=ten, characters=10 * MOST_CHARACTERS // 150))
    assert size.changes == 150
    size.note_copied(Changes(position="1", events=ten, characters=10 * 500))
    assert size.changes == 300


def test_what_failed_is_tried_again_as_less() -> None:
    """Half of it each time, down to the least."""
    size = BatchSize()
    for _ in range(20):
        before = size.changes
        size.note_failed()
        assert size.changes in {before // 2, LEAST}
    assert size.changes == LEAST


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_databases_tell_how_large_events_are(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """A change of a thousand characters more has so many more."""
    store = open_store(f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else request.getfixturevalue("postgres_url"))
    store.migrate()
    one, other = simple(2)
    save(store.visits, one)
    first = store.visits.changes()
    save(store.visits, msgspec.structs.replace(other, properties={"a": "x" * 1_000}))
    assert 1_000 <= store.visits.changes(first.position).characters - first.characters < 1_100
    assert store.visits.changes(store.visits.changes(first.position).position).characters == 0
    store.close()


def large(count: int) -> list[Event]:
    """Return events of 20,000 characters each, no two of them alike."""
    return [
        msgspec.structs.replace(each, properties={"text": f"{number}{'x' * 20_000}"})
        for number, each in enumerate(simple(count))
    ]


def test_a_batch_that_memory_has_no_room_for_is_copied_in_parts() -> None:
    """The copy follows after a few turns, instead of failing on the same batch for ever."""
    store = MemoryVisits()
    save(store, *large(1_000))
    reports = Reports(store, lambda: DuckDBCopy(None, threads=1, memory="60MB"))
    with pytest.raises(StoreError, match="Memory"):
        events_in(reports)
    for _ in range(10):
        try:
            assert events_in(reports) == 1_000
            break
        except StoreError:
            continue
    assert events_in(reports) == 1_000
    reports.close()


class Slow(MemoryVisits):
    """A store that cannot read much in the time that it has."""

    asked: tuple[int, ...] = ()

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        self.asked = (*self.asked, limit)
        if limit > 3_000:
            raise StoreUnavailable("no answer in time")
        return super().changes(position, limit)


def test_a_batch_that_there_is_no_time_for_is_read_in_parts() -> None:
    """The same where the database is too slow for so much at once."""
    store = Slow()
    save(store, *simple(20))
    reports = Reports(store, lambda: DuckDBCopy(None))
    outcomes: list[Any] = [_outcome(lambda: events_in(reports)) for _ in range(3)]
    assert outcomes == [StoreUnavailable, StoreUnavailable, 20]
    assert store.asked == (FIRST, FIRST // 2, FIRST // 4)
    reports.close()


def _outcome(run: Callable[[], object]) -> object:
    try:
        return run()
    except StoreError as error:
        return type(error)
