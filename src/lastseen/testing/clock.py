"""A clock that only moves by hand."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from lastseen.clock import utc

_LOOK_AGAIN = 0.002


class ManualClock:
    """Both clocks of `lastseen.clock.Clock`; any thread may move them and wait on them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._waiting: list[float] = []

    def now(self) -> float:
        """Return seconds since 1970, as last set."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds by which the clock was moved forward."""
        return self._monotonic

    def utc(self) -> datetime:
        """Return now as an aware datetime."""
        return utc(self._now)

    @property
    def waiting(self) -> int:
        """How many threads wait on this clock: what is advanced from now on passes for them.

        Ask before time passes for another thread. One that has yet to begin its wait would begin it after that.
        """
        return len(self._waiting)

    def advance(self, seconds: float = 0.0, **span: float) -> None:
        """Let time pass: seconds, or the words of timedelta (`minutes=31`)."""
        passed = seconds + timedelta(**span).total_seconds()
        if passed < 0:
            raise ValueError("time does not go back; to set the wall clock alone, use jump")
        self._now += passed
        self._monotonic += passed

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a person or a time server does; the monotonic clock stays."""
        self._now += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set, or until somebody has advanced this clock by the seconds."""
        until = self._monotonic + seconds
        self._waiting.append(until)
        try:
            while not event.wait(_LOOK_AGAIN):
                if self._monotonic >= until:
                    return event.is_set()
            return True
        finally:
            self._waiting.remove(until)
