"""B2: what a waiting key costs beside the key itself."""

from __future__ import annotations

import gc
import logging
import time
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from benchmarks.measure import Row
from benchmarks.record import NullRecorder
from lastseen import ActivityTracker, ClientActivity, FlushError, StoreUnavailable, TrackerSettings
from lastseen.stores.memory import MemoryClients

SILENT = logging.getLogger("benchmarks")
SILENT.disabled = True
QUIET = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)
SPARING = TrackerSettings(
    flush_interval=timedelta(hours=1), max_buffer_size=None, min_persist_interval=timedelta(hours=1)
)
MOST_A_KEY = 100
MOST_FOR_400 = 40_000
LONG_AGO = 1_700_000_000.0

Fill = Callable[[list[str]], "Closable | dict[str, float]"]


class Closable(Protocol):
    """What keeps a thread, and so itself, alive until it is closed."""

    def close(self) -> int: ...


class BrokenClients(MemoryClients):
    """A database that is away."""

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        raise StoreUnavailable(f"away, with {len(updates)} keys")


def run() -> list[Row]:
    """Count with tracemalloc; the keys exist before."""
    rows = []
    for count in (400, 10_000, 50_000):
        keys = [f"client-{number:08d}" for number in range(count)]
        peer = _bytes_of(_dict, keys)
        for case, fill in CASES.items():
            size = _bytes_of(fill, keys)
            limit = f"at most {MOST_A_KEY} B a key" + (f", {MOST_FOR_400 // 1000} KB in all" if count == 400 else "")
            met = size / count <= MOST_A_KEY and (count > 400 or size < MOST_FOR_400)
            rows.append(
                Row(
                    bar="B2",
                    case=f"{case}, {count:,} keys",
                    figure=f"{size / count:.0f} B a key, {size / 1000:,.0f} KB",
                    limit=limit,
                    peer=f"dict of floats {peer / count:.0f} B",
                    ratio=f"{size / peer:.2f}",
                    met=met,
                )
            )
    return rows


def _bytes_of(fill: Fill, keys: list[str]) -> int:
    _close(fill(keys[:10]))  # what is allocated only once, at first use, is not the keys'
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = fill(keys)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    _close(kept)
    return after - before


def _close(kept: Closable | dict[str, float]) -> None:
    if not isinstance(kept, dict):
        kept.close()


def _dict(keys: list[str]) -> dict[str, float]:
    return {key: LONG_AGO + number for number, key in enumerate(keys)}


def _waiting(keys: list[str]) -> Closable:
    tracker = ActivityTracker(NullRecorder(), QUIET, logger=SILENT)
    _record(tracker, keys, time.time())
    return tracker


def _after_failure(keys: list[str]) -> Closable:
    tracker = ActivityTracker(BrokenClients(), QUIET, logger=SILENT)
    _record(tracker, keys, time.time())
    with suppress(FlushError):
        tracker.flush()
    return tracker


def _held(keys: list[str]) -> Closable:
    """Written a moment ago, active again, and so held back until the interval has passed."""
    tracker = ActivityTracker(NullRecorder(), SPARING, logger=SILENT)
    _record(tracker, keys, time.time())
    tracker.flush()
    _record(tracker, keys, time.time())
    tracker._flush(everything=False)
    return tracker


def _clients(keys: list[str]) -> Closable:
    clients = ClientActivity(MemoryClients(), QUIET, logger=SILENT)
    _record(clients, keys, time.time())
    return clients


def _clients_late(keys: list[str]) -> Closable:
    """Activity of another hour than the present one, as an import brings it."""
    clients = ClientActivity(MemoryClients(), QUIET, logger=SILENT)
    _record(clients, keys, LONG_AGO)
    return clients


def _clients_after_failure(keys: list[str]) -> Closable:
    clients = ClientActivity(BrokenClients(), QUIET, logger=SILENT)
    _record(clients, keys, time.time())
    with suppress(FlushError):
        clients.flush()
    return clients


def _record(tracker: ActivityTracker | ClientActivity, keys: list[str], began_at: float) -> None:
    for number, key in enumerate(keys):
        tracker.record(key, began_at + number / 1e6)


CASES: dict[str, Fill] = {
    "ActivityTracker, waiting": _waiting,
    "ActivityTracker, after a failed flush": _after_failure,
    "ActivityTracker, held by min_persist_interval": _held,
    "ClientActivity, waiting": _clients,
    "ClientActivity, waiting, of another hour": _clients_late,
    "ClientActivity, after a failed flush": _clients_after_failure,
}
