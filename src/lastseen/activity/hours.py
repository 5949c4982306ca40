"""The hours in which clients were active: written once per client and hour, at almost no memory.

The waiting time of a client tells the hour of that time by itself. What must be remembered beside it are the *other*
hours: those of older activity that arrives late, and, at the turn of an hour, the old hour of everybody who waits.

Pure like the buffer; the recorder of clients serializes the methods with its lock. `began` and `ends` may be read
without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

SECONDS_PER_HOUR = 3600.0

Hours = dict[str, set[int]]
"""Whole hours since 1970, by client id."""


def hour_of(moment: float) -> int:
    """Return the whole hours since 1970."""
    return int(moment // SECONDS_PER_HOUR)


class HoursBuffer:
    """Hours that wait to be written, and who has been written in the current hour already."""

    __slots__ = ("_others", "_written", "began", "current", "ends")

    def __init__(self) -> None:
        self.current: int | None = None
        """The hour whose activity needs no note."""
        self.began = self.ends = math.inf
        """Its first moment, and that of the next; infinite makes every record come and ask."""
        self._others: Hours = {}
        self._written: set[str] = set()

    def turn(self, hour: int, waiting: Iterable[tuple[str, float]]) -> None:
        """Make this the current hour, and note what the waiting times of the clients say about other hours.

        While it works no time is in the current hour, so that nobody records past it.
        """
        self.began = self.ends = math.inf
        self._written.clear()
        for client_id, at in waiting:
            # A time in the future is not an hour in which anybody was active.
            if hour_of(at) < hour:
                self.note(client_id, hour_of(at))
        self.current = hour
        self.ends = (hour + 1) * SECONDS_PER_HOUR
        self.began = hour * SECONDS_PER_HOUR

    def note(self, client_id: str, hour: int) -> None:
        """Remember that the client was active in this hour."""
        self._others.setdefault(client_id, set()).add(hour)

    def forget(self, client_id: str, hour: int) -> None:
        """Take a note back, of a client that is not tracked after all."""
        noted = self._others.get(client_id, set())
        noted.discard(hour)
        if not noted:
            self._others.pop(client_id, None)

    def take(self, times: Mapping[str, float]) -> Hours:
        """Take the hours to write with a batch of clients: of their times, and those noted beside them."""
        taken: Hours = {}
        for client_id, at in times.items():
            hours = self._others.pop(client_id, set())
            if not (hour_of(at) == self.current and client_id in self._written):
                hours.add(hour_of(at))
            if hours:
                taken[client_id] = hours
        return taken

    def written(self, taken: Hours) -> None:
        """Remember what was written, so that the current hour is not written again."""
        self._written.update(client_id for client_id, hours in taken.items() if self.current in hours)

    def restore(self, taken: Hours) -> None:
        """Put back what could not be written; the current hour comes back with the clients themselves."""
        for client_id, hours in taken.items():
            for hour in hours:
                if hour != self.current:
                    self.note(client_id, hour)

    def clear(self) -> None:
        """Begin with nothing, in a forked child."""
        self.current = None
        self.began = self.ends = math.inf
        self._others.clear()
        self._written.clear()

    def __len__(self) -> int:
        """Count the noted (client, hour) pairs."""
        return sum(map(len, self._others.values()))
