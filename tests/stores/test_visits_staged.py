"""A SQLite file takes prepared batches from temporary tables, which are filled before the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lastseen.errors import StoreError
from lastseen.stores import Store, TakesBulk, open_store
from lastseen.stores.sqlite.visit_staging import Staged, stage
from lastseen.stores.visit_batch import PreparedBatch, prepare
from lastseen.testing.streams import event, folded
from lastseen.testing.visit_copies import RULE, stored
from lastseen.visits.event import Event

FIRST = [event(f"{number}-{visitor}", visitor, at=number) for number in range(5) for visitor in ("ann", "ben")]
SECOND = [event(f"{number}-{visitor}", visitor, at=number) for number in range(5, 9) for visitor in ("ben", "cem")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staged.db"


@pytest.fixture
def file(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    assert isinstance(store, TakesBulk)
    store.expect_bulk()
    yield store
    store.close()


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note each time that the tables are filled whether that is in a transaction which keeps others from writing."""
    times: list[bool] = []

    def note(connection: sqlite3.Connection, batch: PreparedBatch) -> Staged:
        other = sqlite3.connect(connection.execute("PRAGMA database_list").fetchone()[2], timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            times.append(True)
        else:
            times.append(False)
        other.close()
        return stage(connection, batch)

    monkeypatch.setattr("lastseen.stores.sqlite.visits.stage", note)
    return times


def _stage(store: Store, events: Sequence[Event]) -> Sequence[Event]:
    batch = prepare(events, RULE)
    assert isinstance(batch, PreparedBatch)
    assert isinstance(store, TakesBulk)
    store.stage(batch)
    return batch


def _save(store: Store, events: Sequence[Event]) -> int:
    return store.visits.save(events, lambda _site: RULE).new


def test_what_is_staged_is_saved_as_it_lies_there(file: Store, filled: list[bool]) -> None:
    """The tables are filled once, while others may write; a batch that nobody staged fills them in its transaction."""
    first = _stage(file, FIRST)
    assert filled == [False]
    assert _save(file, first) == len(FIRST)
    assert filled == [False]
    assert file.visits.save(prepare(SECOND, RULE), lambda _site: RULE).new == len(SECOND)
    assert filled == [False, True]
    assert stored(file.visits) == folded([*FIRST, *SECOND], RULE)


def test_staging_changes_nothing(file: Store, path: Path) -> None:
    """Not until the batch is saved; whoever writes meanwhile does, and what they wrote counts."""
    batch = _stage(file, SECOND)
    assert stored(file.visits) == {}
    other = open_store(f"sqlite:///{path}")
    _save(other, [*FIRST, *SECOND[:1]])
    other.close()
    assert _save(file, batch) == len(SECOND) - 1
    assert stored(file.visits) == folded([*FIRST, *SECOND], RULE)


def test_another_batch_is_not_taken_for_what_is_staged(file: Store, filled: list[bool]) -> None:
    """Nor is a batch that was staged before another one; each fills the tables itself then."""
    first, second = _stage(file, FIRST), _stage(file, SECOND)
    assert _save(file, first) == len(FIRST)
    assert _save(file, second) == len(SECOND)
    assert filled == [False, False, True, True]
    assert stored(file.visits) == folded([*FIRST, *SECOND], RULE)


def test_a_file_that_was_closed_has_nothing_staged(file: Store, filled: list[bool]) -> None:
    """Temporary tables end with their connection."""
    batch = _stage(file, FIRST)
    file.close()
    assert _save(file, batch) == len(FIRST)
    assert filled == [False, True]
    assert stored(file.visits) == folded(FIRST, RULE)


def test_a_batch_that_failed_is_saved_as_a_whole(file: Store, path: Path) -> None:
    """Whatever of it was written before the error, in our tables too, is taken back."""
    batch = _stage(file, [*FIRST, *SECOND])
    owner = sqlite3.connect(path, isolation_level=None)
    owner.execute("ALTER TABLE lastseen_visits RENAME TO elsewhere")
    with pytest.raises(StoreError):
        _save(file, batch)
    owner.execute("ALTER TABLE elsewhere RENAME TO lastseen_visits")
    owner.close()
    assert file.visits.changes().events == ()
    assert _save(file, batch) == len(FIRST) + len(SECOND)
    assert _save(file, batch) == 0
    assert stored(file.visits) == folded([*FIRST, *SECOND], RULE)
