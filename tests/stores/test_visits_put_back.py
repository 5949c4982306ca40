"""Copies of a database that is put back to an earlier state begin anew, instead of missing what comes then."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastseen.errors import InvalidCursor
from lastseen.reports.asking import Reports
from lastseen.stores import open_store
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.testing.streams import event
from lastseen.testing.visit_copies import Replica, save
from tests.reports.equal import assert_equal
from tests.reports.test_asking import events_in
from tests.stores.test_columnar import simple


def test_reports_of_a_file_from_a_backup_are_of_what_is_in_it(tmp_path: Path) -> None:
    """What was saved after the backup is gone from reports, and what comes instead is there, by the same numbers."""
    file, backup, copy = tmp_path / "truth.db", tmp_path / "backup.db", tmp_path / "copy.duckdb"
    store = open_store(f"sqlite:///{file}")
    store.migrate()
    save(store.visits, *simple(10))
    store.close()
    backup.write_bytes(file.read_bytes())
    save(store.visits, *simple(10, first=10))
    reports = Reports(store.visits, lambda: DuckDBCopy(copy))
    assert events_in(reports) == 20
    reports.close()
    store.close()
    file.write_bytes(backup.read_bytes())
    save(store.visits, *simple(5, first=20))
    after = DuckDBCopy(copy)
    reports = Reports(store.visits, lambda: after)
    assert events_in(reports) == 15
    assert_equal(after, store.visits, ["default"])
    reports.close()
    store.close()


def test_a_position_that_postgresql_has_not_reached_is_refused(postgres_url: str) -> None:
    """It is of a state that was lost; the negative control is the position itself, over and over."""
    store = open_store(postgres_url)
    store.migrate()
    save(store.visits, event("e1", "bob"))
    replica = Replica()
    replica.catch_up(store.visits)
    replica.catch_up(store.visits)
    epoch, tx_of_events, seq_of_events, tx_of_visits, seq_of_visits = replica.position.split(".")
    ahead = str(int(tx_of_events) + 1_000)
    for events, visits in ((ahead, tx_of_visits), (tx_of_events, ahead)):
        with pytest.raises(InvalidCursor, match="put back"):
            store.visits.changes(".".join([epoch, events, seq_of_events, visits, seq_of_visits]))
    store.close()
