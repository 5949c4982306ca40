"""The example session store keeps the public contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.examples.json_file_sessions import JSONFileSessions

from lastseen.testing import SessionStoreContract


class TestJSONFileSessions(SessionStoreContract):
    """Every test of the contract runs here, races and time travel included."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> JSONFileSessions:
        """Return an empty store."""
        return JSONFileSessions(tmp_path / "sessions.json")
