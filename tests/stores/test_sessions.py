"""The stores on a database keep the contract of login sessions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.sessions.store import SessionStore
from lastseen.stores import open_store
from lastseen.testing import SessionStoreContract


class TestSQLiteSessions(SessionStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SessionStore]:
        store = open_store(f"sqlite:///{tmp_path}/sessions.db")
        store.migrate()
        yield store.sessions
        store.close()


class TestPostgresSessions(SessionStoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SessionStore]:
        store = open_store(postgres_url)
        store.migrate()
        yield store.sessions
        store.close()
