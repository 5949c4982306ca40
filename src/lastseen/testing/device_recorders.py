"""The contracts of the two recorders of a `DeviceStore`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import pytest

from lastseen.activity.recorder import ActivityRecorder
from lastseen.devices.device import Device
from lastseen.devices.store import DeviceStore
from lastseen.testing.api_keys import new_key
from lastseen.testing.factories import moment
from lastseen.testing.recorder import ActivityRecorderContract


class DeviceRecorderContract(ActivityRecorderContract):
    """The contract of recorders for `devices_recorder`; inherit and override `store`."""

    upserts = False

    @pytest.fixture
    def store(self) -> DeviceStore:
        """Return an empty store with its tables."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def recorder(self, store: DeviceStore) -> ActivityRecorder:
        """Return the recorder, which remembers its store for the test."""
        return _Remembering(store, store.devices_recorder)

    def stored(self, recorder: Any, key: str) -> datetime | None:
        """Ask the store."""
        device = recorder.store.get_device(key)
        return None if device is None else device.last_seen_at

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        """Register."""
        recorder.store.upsert_device(Device(id=key, created_at=moment()), at)

    def test_never_becomes_seen(self, recorder: Any) -> None:
        """The first activity of a device that was entered by somebody counts."""
        recorder.store.upsert_device(Device(id="a", created_at=moment()))
        assert recorder.batch_record_activity({"a": moment(-999)}) == 1
        assert self.stored(recorder, "a") == moment(-999)


class KeyRecorderContract(ActivityRecorderContract):
    """The contract of recorders for `keys_recorder`; inherit and override `store`."""

    upserts = False

    @pytest.fixture
    def store(self) -> DeviceStore:
        """Return an empty store with its tables."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def recorder(self, store: DeviceStore) -> ActivityRecorder:
        """Return the recorder, which remembers its store for the test."""
        return _Remembering(store, store.keys_recorder)

    def stored(self, recorder: Any, key: str) -> datetime | None:
        """Ask the store."""
        found = recorder.store.get_key(key)
        return None if found is None else found.last_used_at

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        """Make a key that was used then."""
        prefix = hashlib.sha256(key.encode()).hexdigest()[:8]
        recorder.store.add_key(new_key(key, prefix=prefix, last_used_at=at))


class _Remembering:
    def __init__(self, store: DeviceStore, recorder: ActivityRecorder) -> None:
        self.store = store
        self.batch_record_activity = recorder.batch_record_activity
