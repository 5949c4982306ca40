"""A SQLite file that takes batches of tens of thousands of events."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lastseen.stores import Store, TakesBulk, open_store
from lastseen.testing.streams import event, folded
from lastseen.testing.visit_copies import RULE, save, stored

EVENTS = [event(f"e{number:05}", f"visitor-{number % 97}", at=number) for number in range(3_000)]


@pytest.mark.parametrize("is_bulk", [True, False], ids=["bulk", "usual"])
def test_what_was_committed_is_copied_to_the_file_while_another_writes(tmp_path: Path, is_bulk: bool) -> None:
    """The copying waits for nobody, and without it nothing is copied yet: that is the control."""
    path = tmp_path / "bulk.db"
    store: Store = open_store(f"sqlite:///{path}")
    store.migrate()
    assert isinstance(store, TakesBulk)
    store.expect_bulk()
    save(store.visits, *EVENTS)
    before = path.stat().st_size
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        if is_bulk:
            store.write_back()
        assert (path.stat().st_size > before + 100_000) is is_bulk
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert stored(store.visits) == folded(EVENTS, RULE)
    store.close()
