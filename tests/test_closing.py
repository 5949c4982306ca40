"""The end of a whole `LastSeen`, and of a server: what waits is saved at once, everywhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lastseen import LastSeen, Outcome, TrackerSettings
from lastseen.activity.clients import ClientActivity
from lastseen.activity.recorder import ActivityRecorder
from lastseen.activity.tracker import ActivityTracker
from lastseen.stores.memory import MemoryClients, MemoryStore
from lastseen.testing import ManualClock

LATER = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)


class Meeting:
    """Lets nobody write before all are there."""

    def __init__(self, inner: ActivityRecorder, door: threading.Barrier) -> None:
        self._inner = inner
        self._door = door

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        self._door.wait(30)
        return self._inner.batch_record_activity(updates)


class MeetingClients(MemoryClients):
    """Clients whose writer waits for the others."""

    door: threading.Barrier

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        self.door.wait(30)
        return super().batch_record_activity(updates)


def test_all_are_saved_together() -> None:
    """Clients, devices and keys write at the same time: one after the other, each would take its whole deadline."""
    store, door = MemoryStore(), threading.Barrier(3)
    clients: Any = MeetingClients()
    clients.door = door
    devices: Any = store.devices
    devices.devices_recorder = Meeting(store.devices.devices_recorder, door)
    devices.keys_recorder = Meeting(store.devices.keys_recorder, door)
    store.clients = clients
    seen = LastSeen(store, ClientActivity(clients, LATER))
    seen.devices.register("d", by_device=False)
    key, _ = seen.keys.create("k")
    seen.clients.record("c")
    seen.devices.record_seen("d")
    seen.keys.record_used(key.id)
    assert seen.close() == 0
    assert clients.get_client("c") is not None
    device, used = store.devices.get_device("d"), store.devices.get_key(key.id)
    assert device is not None
    assert used is not None
    assert None not in {device.last_seen_at, used.last_used_at}


def test_nothing_is_recorded_once_it_ends() -> None:
    """What comes after the beginning of the end is dropped and told so; what waited is saved."""
    seen = LastSeen.open("memory:", tracking=LATER)
    key, _ = seen.keys.create("k")
    seen.devices.register("d")
    seen.clients.record("before")
    seen.stop_recording()
    outcomes = {seen.clients.record("c"), seen.devices.record_seen("d"), seen.keys.record_used(key.id)}
    assert outcomes == {Outcome.DROPPED}
    assert seen.close() == 0
    assert seen.store.clients.get_client("before") is not None


class Hung:
    """Takes ten seconds, unless it is let go."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        self.entered.set()
        self.gate.wait(10)
        return len(updates)


def test_the_deadline_begins_with_the_end_of_recording() -> None:
    """Who closes several waits once for all of them, not once for each; twice tells the same."""
    hung, clock = Hung(), ManualClock()
    settings = TrackerSettings(flush_interval=timedelta(hours=1), close_deadline=timedelta(hours=1))
    tracker = ActivityTracker(hung, settings, clock=clock)
    tracker.record("a")
    tracker.stop_recording()
    assert hung.entered.wait(30)
    clock.advance(hours=1)
    # Had it waited for an hour of its own, the recorder would have saved it meanwhile.
    assert [tracker.close(), tracker.close()] == [1, 1]
    assert tracker.health().buffer_size == 0
    hung.gate.set()


def test_reports_follow_no_longer_once_it_ends() -> None:
    """Their thread ends before it is waited for."""
    with LastSeen.open("memory:", migrate=True) as seen:
        seen.reports.follow()
        follower = seen.reports._follower
        assert follower is not None
        seen.stop_recording()
        follower.join(30)
        assert not follower.is_alive
