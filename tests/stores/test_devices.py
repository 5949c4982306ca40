"""Devices, groups and API keys in every store: the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.devices.store import DeviceStore
from lastseen.stores import Store, open_store
from lastseen.testing.device_recorders import DeviceRecorderContract, KeyRecorderContract
from lastseen.testing.devices import DeviceStoreContract


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Open an empty store of each kind."""
    url = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/devices.db"}.get(request.param)
    store = open_store(url or request.getfixturevalue("postgres_url"))
    store.migrate()
    yield store
    store.close()


class _OfEveryStore:
    @pytest.fixture
    def store(self, opened: Store) -> DeviceStore:
        """Return the ability under test."""
        return opened.devices


class TestDevices(_OfEveryStore, DeviceStoreContract):
    """The contract of device stores."""


class TestDevicesRecorder(_OfEveryStore, DeviceRecorderContract):
    """The contract of recorders, for `last_seen_at`."""


class TestKeysRecorder(_OfEveryStore, KeyRecorderContract):
    """The contract of recorders, for `last_used_at`."""
