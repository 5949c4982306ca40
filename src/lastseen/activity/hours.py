"""The hours in which clients were active: written once per client and hour, at almost no memory.

The waiting time of a client tells the hour of that time by itself. What must be remembered beside it are the *other*
hours: those of times that gave way to a newer one of another hour.

Pure like the buffer; the lock of the clients' tracker serializes the methods.
"""

from __future__ import annotations

from collections.abc import Mapping

SECONDS_PER_HOUR = 3600.0

Hours = dict[str, set[int]]
"""Whole hours since 1970, by client id."""


def hour_of(moment: float) -> int:
    """Return the whole hours since 1970."""
    return int(moment // SECONDS_PER_HOUR)


class HoursBuffer:
    """Hours that wait to be written, and who has been written in the current hour already."""

    __slots__ = ("_others", "_written", "current")

    def __init__(self) -> None:
        self.current: int | None = None
        self._others: Hours = {}
        self._written: set[str] = set()

    def turn(self, hour: int) -> None:
        """Make this the current hour."""
        self._written.clear()
        self.current = hour

    def superseded(self, client_id: str, older: float, newer: float) -> None:
        """Note the hour of a time that gave way to a newer one, unless the newer one tells it too."""
        hour = hour_of(older)
        # A time in the future is not an hour in which anybody was active.
        if hour != hour_of(newer) and self.current is not None and hour <= self.current:
            self._others.setdefault(client_id, set()).add(hour)

    def take(self, own: Mapping[str, int]) -> Hours:
        """Take the hours to write with a batch of clients: their own, those of their times, and those noted beside."""
        taken: Hours = {}
        for client_id, hour in own.items():
            noted = self._others.pop(client_id, None)
            if hour != self.current or client_id not in self._written:
                taken[client_id] = {hour} if noted is None else noted | {hour}
            elif noted is not None:
                taken[client_id] = noted
        return taken

    def written(self, taken: Hours) -> None:
        """Remember what was written, so that the current hour is not written again."""
        self._written.update(client_id for client_id, hours in taken.items() if self.current in hours)

    def restore(self, taken: Hours, own: Mapping[str, int]) -> None:
        """Put back what could not be written; their own hours come back with the clients themselves."""
        for client_id, hours in taken.items():
            others = hours - {own[client_id]}
            if others:
                self._others.setdefault(client_id, set()).update(others)

    def clear(self) -> None:
        """Begin with nothing, in a forked child."""
        self.current = None
        self._others.clear()
        self._written.clear()

    def __len__(self) -> int:
        """Count the noted (client, hour) pairs."""
        return sum(map(len, self._others.values()))
