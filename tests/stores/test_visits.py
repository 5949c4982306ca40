"""Every store of visits keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.stores import open_store
from lastseen.stores.memory import MemoryVisits
from lastseen.testing.visits import VisitStoreContract
from lastseen.visits.store import VisitStore


class TestMemoryVisits(VisitStoreContract):
    @pytest.fixture
    def store(self) -> VisitStore:
        return MemoryVisits()


class TestSQLiteVisits(VisitStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[VisitStore]:
        store = open_store(f"sqlite:///{tmp_path}/visits.db")
        store.migrate()
        yield store.visits
        store.close()


class TestPostgresVisits(VisitStoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[VisitStore]:
        store = open_store(postgres_url)
        store.migrate()
        yield store.visits
        store.close()
