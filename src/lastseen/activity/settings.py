"""The settings of a tracker, checked once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from datetime import timedelta

from lastseen.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackerSettings:
    """How a tracker keeps and writes. Every value has a default that suits a few hundred clients."""

    flush_interval: timedelta = timedelta(seconds=1)
    """A batch is written this often, jittered by 20 % so that processes do not beat together."""

    max_buffer_size: int | None = 100
    """A batch is written at once when this many keys wait; None leaves it to the interval alone."""

    max_pending: int = 50_000
    """At most this many keys wait; beyond it known keys still move forward and new keys are dropped and counted."""

    min_persist_interval: timedelta = timedelta(0)
    """The same key is written at most this often; its latest time waits meanwhile and is never lost."""

    chunk_size: int = 5_000
    """At most this many keys go into one statement and one transaction."""

    flush_deadline: timedelta = timedelta(seconds=5)
    """A flush that is not done by then stops; what it has not written waits for the next one."""

    close_deadline: timedelta = timedelta(seconds=5)
    """Closing waits this long for the last flush, then reports how many keys could not be saved."""

    future_tolerance: timedelta = timedelta(seconds=5)
    """A time further in the future than this is written as now plus this much."""

    flush_log_level: int = logging.DEBUG
    """The level at which a flush that wrote something is logged."""

    def __post_init__(self) -> None:
        for name in ("flush_interval", "flush_deadline", "close_deadline"):
            _require(getattr(self, name) > timedelta(0), name, "must be longer than zero")
        for name in ("min_persist_interval", "future_tolerance"):
            _require(getattr(self, name) >= timedelta(0), name, "must not be negative")
        for name in ("max_pending", "chunk_size"):
            _require(getattr(self, name) >= 1, name, "must be at least 1")
        if self.max_buffer_size is not None:
            _require(self.max_buffer_size >= 1, "max_buffer_size", "must be at least 1, or None to switch it off")
            _require(
                self.max_buffer_size <= self.max_pending,
                "max_buffer_size",
                f"must not exceed max_pending ({self.max_pending}), or it could never be reached",
            )


TRACKER_SETTING_NAMES = frozenset(field.name for field in fields(TrackerSettings))


def _require(holds: bool, name: str, demand: str) -> None:  # noqa: FBT001 - an assertion, not an option
    if not holds:
        raise ConfigurationError(f"{name} {demand}")
