"""The store in memory keeps the contract."""

import pytest

from lastseen.activity.store import ClientStore
from lastseen.sessions.store import SessionStore
from lastseen.stores.memory import MemoryStore
from lastseen.testing import ClientStoreContract, SessionStoreContract


class TestMemoryClients(ClientStoreContract):
    @pytest.fixture
    def store(self) -> ClientStore:
        return MemoryStore().clients


class TestMemorySessions(SessionStoreContract):
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore().sessions
