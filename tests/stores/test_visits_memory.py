"""What a SQLite store remembers of visitors between two transactions holds only while nobody else has written."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from lastseen.errors import InvalidData, LastSeenError
from lastseen.stores import Store, open_store
from lastseen.stores.sqlite import visit_memory
from lastseen.stores.sqlite.visit_memory import Memory, VisitMemory
from lastseen.stores.sqlite.visit_transaction import SQLiteVisitTransaction
from lastseen.stores.visit_rows import Identity
from lastseen.testing.streams import batches, event, folded, stream
from lastseen.testing.visit_copies import RULE, save, stored
from lastseen.visits.event import Event
from tests.stores.test_visits_model import TABLES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "visits.db"


@pytest.fixture
def file(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note of how many visitors each transaction asks for the newest visit."""
    numbers: list[int] = []
    load = SQLiteVisitTransaction.load_newest

    def note(self: SQLiteVisitTransaction, visitors: Collection[Identity]) -> None:
        numbers.append(len(visitors))
        load(self, visitors)

    monkeypatch.setattr(SQLiteVisitTransaction, "load_newest", note)
    return numbers


def _clicks(first: int, last: int, *visitors: str) -> list[Event]:
    return [
        event(f"{visitor}-{number:03}", visitor, at=number)
        for number in range(first, last)
        for visitor in visitors or ("ann", "ben")
    ]


def test_visitors_just_seen_are_not_asked_for_again(file: Store, asked: list[int]) -> None:
    """Neither those who were new nor those who were read; one who was folded again is."""
    for first in range(0, 40, 10):
        save(file.visits, *_clicks(first, first + 10))
    assert asked == []
    file.close()
    for first in range(40, 80, 10):
        save(file.visits, *_clicks(first, first + 10))
    assert asked == [2]
    save(file.visits, event("late", "ann", at=5.5))
    save(file.visits, *_clicks(80, 90))
    assert asked == [2, 1]
    assert stored(file.visits) == folded([*_clicks(0, 90), event("late", "ann", at=5.5)], RULE)


@pytest.mark.parametrize("seed", range(4))
def test_two_stores_that_write_in_turn(file: Store, path: Path, seed: int) -> None:
    """Each finds what the other has changed, whoever has written how often in between."""
    events = stream(seed + 90, 120)
    other = open_store(f"sqlite:///{path}")
    for number, batch in enumerate(batches(seed, events, most=6)):
        save((other if number % 7 in {2, 3, 5} else file).visits, *batch)
    other.close()
    assert stored(file.visits) == folded(events, RULE)


@pytest.mark.parametrize("most", [0, 3, 6])
def test_little_room_changes_no_visit(file: Store, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Whatever is forgotten is read again."""
    monkeypatch.setattr(visit_memory, "MOST_IDENTITIES", most)
    events = stream(95, 120)
    for batch in batches(95, events, most=6):
        save(file.visits, *batch)
    assert stored(file.visits) == folded(events, RULE)


@pytest.mark.parametrize(("bound", "most"), [("MOST_IDENTITIES", 10), ("MOST_CHARACTERS", 10_000)])
def test_what_is_remembered_is_bounded(file: Store, monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """Too many visitors, or too long visits: everything is forgotten, also that of one large batch."""
    monkeypatch.setattr(visit_memory, bound, most)
    sizes = []
    begin = VisitMemory.begin

    def note(self: VisitMemory, connection: sqlite3.Connection) -> Memory:
        memory = begin(self, connection)
        sizes.append((len(memory.held.by_no), memory.size))
        return memory

    monkeypatch.setattr(VisitMemory, "begin", note)
    for number in range(30):
        save(file.visits, *_clicks(number, number + 1, f"visitor-{number}", "ann"))
    save(file.visits, *_clicks(30, 31, *(f"one of many {number}" for number in range(100))))
    save(file.visits, *_clicks(31, 32))
    measured = [size[bound == "MOST_CHARACTERS"] for size in sizes]
    assert most / 2 < max(measured) <= most
    assert sizes[-1] == (0, 0)


def _by_hand(path: Path) -> None:
    """Erase everything, as somebody with a tool for databases does, while the store is open."""
    connection = sqlite3.connect(path)
    connection.executescript(";".join(f"DELETE FROM {table}" for table in TABLES))
    connection.close()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_another_program_writes(file: Store, path: Path, monkeypatch: pytest.MonkeyPatch, *, guarded: bool) -> None:
    """What it erased is gone and begins anew; a store that did not look at the version would lose what comes next."""
    if not guarded:
        monkeypatch.setattr(visit_memory, "DATA_VERSION", "SELECT 0")
    save(file.visits, *_clicks(0, 5))
    _by_hand(path)
    save(file.visits, *_clicks(5, 9))
    assert (stored(file.visits) == folded(_clicks(5, 9), RULE)) is guarded


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_a_transaction_that_failed_is_forgotten(file: Store, monkeypatch: pytest.MonkeyPatch, *, guarded: bool) -> None:
    """Its new visitors were never there; who remembered them would give their numbers to others."""
    if not guarded:
        monkeypatch.setattr(VisitMemory, "_take", lambda self: self._kept[-1] if self._kept else None)
    save(file.visits, *_clicks(0, 5))
    with pytest.raises(InvalidData):
        save(file.visits, *_clicks(5, 6, "ann", "carl"), event("bad", "ben", 7, properties={"a": object()}))
    later = [*_clicks(6, 9, "dora"), *_clicks(9, 12, "carl")]
    save(file.visits, *later[:3])
    try:
        save(file.visits, *later[3:])
    except LastSeenError:
        assert not guarded
    assert (stored(file.visits) == folded([*_clicks(0, 5), *later], RULE)) is guarded


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_what_is_given_back_too_late_is_not_believed(
    file: Store, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    """Another thread may have committed between the end of a transaction and giving back what it knew."""
    keep, late = VisitMemory.keep, []
    monkeypatch.setattr(VisitMemory, "keep", lambda _self, memory: late.append(memory))
    save(file.visits, *_clicks(0, 5))
    save(file.visits, *_clicks(5, 9))
    monkeypatch.setattr(VisitMemory, "keep", keep)
    memory: Any = file.visits
    if not guarded:
        late[0].count, late[0].events.indexed = late[1].count, late[1].events.indexed
    keep(memory._memory, late[0])  # as a thread that was held up does
    save(file.visits, *_clicks(9, 12))
    assert (stored(file.visits) == folded(_clicks(0, 12), RULE)) is guarded
