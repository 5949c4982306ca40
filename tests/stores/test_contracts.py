"""The stores on a database keep the same contract as the one in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.activity.store import ClientStore
from lastseen.stores import open_store
from lastseen.testing import ClientStoreContract


class TestSQLiteClients(ClientStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ClientStore]:
        store = open_store(f"sqlite:///{tmp_path}/clients.db")
        store.migrate()
        yield store.clients
        store.close()


class TestPostgresClients(ClientStoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[ClientStore]:
        store = open_store(postgres_url)
        store.migrate()
        yield store.clients
        store.close()
