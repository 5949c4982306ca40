"""The end of a whole `LastSeen`, and of a server: what waits is saved at once, everywhere."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from lastseen import LastSeen, Outcome, TrackerSettings
from lastseen.activity.clients import ClientActivity
from lastseen.activity.recorder import ActivityRecorder
from lastseen.activity.tracker import ActivityTracker
from lastseen.server.ingest.metrics import IngestMetrics
from lastseen.server.metrics import Metrics
from lastseen.server.running import _open
from lastseen.settings import load_settings
from lastseen.stores.memory import MemoryClients, MemoryStore
from lastseen.testing import ManualClock
from lastseen.web.environment import open_for_application

PLACES = str(Path(__file__).parent / "data" / "GeoIP2-City-Test.mmdb")
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


def endings() -> int:
    """Return how many things are to be closed at the end of this process."""
    gc.collect()
    partials = [each for each in gc.get_objects() if type(each) is partial]
    return sum(each.func.__name__ == "_close_at_exit" for each in partials if hasattr(each.func, "__name__"))


def test_what_is_closed_leaves_nothing_for_the_end_of_the_process(postgres_url: str, tmp_path: Path) -> None:
    """Whoever opens and closes again and again; the negative control is what is still open."""
    before = endings()
    for url in (f"sqlite:///{tmp_path}/lastseen.db", postgres_url):
        for _ in range(3):
            with LastSeen.open(url, migrate=True, tracking=LATER) as seen:
                seen.clients.record("c")
                seen.devices.record_seen("d")
                assert endings() > before
    del seen
    assert endings() == before


def test_what_an_application_closes_early_is_not_kept_until_its_end(tmp_path: Path) -> None:
    """The negative control is what was opened for it and is not closed yet."""
    one, other = (open_for_application(f"sqlite:///{tmp_path}/lastseen.db", migrate=True) for _ in range(2))
    known = [weakref.ref(one), weakref.ref(other)]
    one.close()
    del one, other
    gc.collect()
    assert [reference() is None for reference in known] == [True, False]
    left = known[1]()
    assert left is not None
    left.close()


def test_a_server_closes_its_geography(tmp_path: Path) -> None:
    """The file is a map of memory until then."""
    settings = load_settings(
        {"database_url": f"sqlite:///{tmp_path}/lastseen.db", "data_folder": tmp_path, "geo_database": PLACES}, {}
    )
    metrics = Metrics()
    opened = _open(settings, metrics, IngestMetrics(metrics.registry))
    assert opened.geography is not None
    assert opened.geography.locate("81.2.69.142") is not None
    opened.stop()
    assert opened.close() == 0
    assert opened.geography.locate("81.2.69.160") is None
