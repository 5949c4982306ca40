"""Time, handed in: the edges ask a clock once, rules and stores are given moments."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where moments come from. `lastseen.testing.ManualClock` is the one that tests move by hand."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump when somebody sets the machine's clock."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. Intervals are measured with this."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds have passed; True when the event is set."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def wait(event: threading.Event, seconds: float) -> bool:
        """Wait in real time."""
        return event.wait(seconds)


SYSTEM_CLOCK = SystemClock()


def utc(moment: float) -> datetime:
    """Return seconds since 1970 as an aware UTC datetime, to the microsecond."""
    return datetime.fromtimestamp(moment, UTC)


def seconds_since_1970(at: object) -> float | None:
    """Return the moment as seconds, or None for what is none: naive, not finite, before 1970, not a time at all."""
    if type(at) is float:
        moment = at
    elif isinstance(at, datetime):
        moment = at.timestamp() if at.tzinfo is not None else math.nan
    elif isinstance(at, int | float) and not isinstance(at, bool):
        moment = float(at)
    else:
        return None
    return moment if 0 <= moment < math.inf else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the aware UTC moment that many microseconds after 1970; exact, unlike a float of seconds."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Return the microseconds from 1970-01-01 UTC to an aware moment; exact."""
    return (moment - _EPOCH) // _MICROSECOND
