"""The hours in which clients were active: noted in memory once per client and hour, written with the next batch.

Pure like the buffer; the client tracker serializes `note`'s slow part, `take` and `restore` with its lock.
"""

from __future__ import annotations

from collections.abc import Iterable

SECONDS_PER_HOUR = 3600


class HoursBuffer:
    """Hours (whole hours since 1970) that wait to be written, per client."""

    __slots__ = ("_latest", "_limit", "_waiting")

    def __init__(self, limit: int) -> None:
        self._waiting: dict[str, set[int]] = {}
        self._latest: dict[str, int] = {}
        self._limit = limit

    def is_noted(self, client_id: str, hour: int) -> bool:
        """Whether this was the client's hour when it was last noted: the cheap question before `note`."""
        return self._latest.get(client_id) == hour

    def note(self, client_id: str, hour: int) -> None:
        """Remember that the client was active in this hour."""
        self._waiting.setdefault(client_id, set()).add(hour)
        if len(self._latest) >= self._limit:
            # Forgetting only costs an insert that the database ignores.
            self._latest.clear()
        self._latest[client_id] = hour

    def take(self, client_ids: Iterable[str]) -> dict[str, set[int]]:
        """Take what waits for these clients; `restore` it when it could not be written."""
        return {client_id: self._waiting.pop(client_id) for client_id in client_ids if client_id in self._waiting}

    def restore(self, hours: dict[str, set[int]]) -> None:
        """Put back what could not be written."""
        for client_id, taken in hours.items():
            self._waiting.setdefault(client_id, set()).update(taken)

    def forget(self, client_id: str) -> None:
        """Drop what waits for a client that is not tracked, or can never be written."""
        self._waiting.pop(client_id, None)
        self._latest.pop(client_id, None)

    def clear(self) -> None:
        """Begin with nothing, in a forked child."""
        self._waiting.clear()
        self._latest.clear()

    def __len__(self) -> int:
        """Count the waiting (client, hour) pairs."""
        return sum(map(len, self._waiting.values()))
