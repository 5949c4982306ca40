"""A copy whose file cannot be made for a while is made as soon as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastseen.errors import StoreError
from lastseen.reports.asking import Reports
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.rule import VisitRule
from tests.reports.test_asking import events_in
from tests.stores.test_columnar import simple


def test_a_copy_that_could_not_be_made_again_is_made_later(tmp_path: Path) -> None:
    """Without a restart: meanwhile every question is told so, in words of ours; then nothing is missing or twice."""
    store = MemoryVisits()
    store.save(simple(2), lambda _site: VisitRule())
    folder = tmp_path / "copies"
    reports = Reports(store, lambda: DuckDBCopy(folder / "copy.duckdb"))
    assert events_in(reports) == 2
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("no folder")
    for _ in range(2):
        with pytest.raises(StoreError):
            reports.rebuild()
        with pytest.raises(StoreError):
            events_in(reports)
    folder.unlink()
    store.save(simple(3), lambda _site: VisitRule())
    assert events_in(reports) == 3
    reports.close()
    with pytest.raises(StoreError):
        events_in(reports)
