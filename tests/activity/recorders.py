"""Recorders that a test can watch, stop and break."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime


class Book:
    """Keeps what it is given and every batch; fails, refuses or waits when told to."""

    def __init__(self) -> None:
        self.times: dict[str, datetime] = {}
        self.batches: list[dict[str, datetime]] = []
        self.attempts = 0
        self.failure: Exception | None = None
        self.refused: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.written = threading.Condition()

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        self.attempts += 1
        self.entered.set()
        self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        for key, error in self.refused.items():
            if key in updates:
                raise error
        moved = 0
        with self.written:
            self.batches.append(dict(updates))
            for key, at in updates.items():
                if key not in self.times or self.times[key] < at:
                    self.times[key] = at
                    moved += 1
            self.written.notify_all()
        return moved

    def wait_for(self, *keys: str) -> None:
        """Wait until all these keys have been written."""
        with self.written:
            assert self.written.wait_for(lambda: all(key in self.times for key in keys), timeout=30), self.times
