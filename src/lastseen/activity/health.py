"""How a tracker feels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class HealthStatus(StrEnum):
    """Of a tracker; requests succeed in all three."""

    OK = "ok"
    DEGRADED = "degraded"
    """Activity waits longer than it should, or was dropped; it recovers by itself."""
    RED = "red"
    """A person must act: the schema is wrong, or nothing can be written any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivityHealth:
    """One look at a tracker; the counts are since it was made (or since the fork)."""

    status: HealthStatus
    reason: str | None
    """Why the status is not ok, in words that say what to do."""
    buffer_size: int
    """Keys that wait."""
    max_buffer_size: int | None
    max_pending: int
    flush_interval: timedelta
    oldest_waiting_age: timedelta | None
    """At the most; None when nothing waits."""
    last_successful_flush_at: datetime | None
    consecutive_failures: int
    dropped: int
    """New keys refused because the buffer was full, or the tracker closed."""
    rejected: int
    """Keys and times that can never be stored."""
    poison: int
    """Keys that the database refused for ever."""
    flushes: int
    """Flushes that wrote something."""
    updated: int
    """Rows that they moved forward."""
