"""Devices that were named by somebody who may only speak for one group: checked when they are written.

Whether a device belongs to the group is a question to the store, which a request must not wait for. So a *claim* waits
in the tracker in place of the device's id, and the flush asks for a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from lastseen.activity.recorder import ActivityRecorder
from lastseen.devices.store import DeviceStore

# No id contains it (see `activity/key.py`).
_MARK = "\x1f"


def claim(device_id: str, group_id: str) -> str:
    """Return what waits for the device until it is known to belong to the group."""
    return f"{_MARK}{group_id}{_MARK}{device_id}"


class SeenRecorder:
    """Writes devices and claims; a claim for a device of another group, or of none, writes nothing."""

    def __init__(self, store: DeviceStore) -> None:
        self._store = store

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        claims = {key: at for key, at in updates.items() if key.startswith(_MARK)}
        if not claims:
            return self._recorder.batch_record_activity(updates)
        seen = {key: at for key, at in updates.items() if key not in claims}
        groups = self._store.groups_of({key.rpartition(_MARK)[2] for key in claims})
        for key, at in claims.items():
            _, group_id, device_id = key.split(_MARK)
            if groups.get(device_id) == group_id:
                seen[device_id] = max(at, seen.get(device_id, at))
        return self._recorder.batch_record_activity(dict(sorted(seen.items())))

    @property
    def _recorder(self) -> ActivityRecorder:
        return self._store.devices_recorder


class Forgetful(Protocol):
    """Whatever remembers keys for a moment."""

    def forget_cached(self) -> None:
        """Forget them all."""
