"""The store in memory keeps the contract."""

import pytest

from lastseen.activity.store import ClientStore
from lastseen.stores.memory import MemoryStore
from lastseen.testing import ClientStoreContract


class TestMemoryClients(ClientStoreContract):
    @pytest.fixture
    def store(self) -> ClientStore:
        return MemoryStore().clients
