"""What waits to be written: a bounded map from key to its latest time.

Pure: no I/O, no clock, no thread. The tracker that owns a buffer serializes every call with its lock, with one
exception: it moves the time of a key that is *already* in `pending` forward without the lock (see `tracker.py`). Keys
enter and leave `pending` only through the methods here, so under the lock. Merging is by maximum and therefore
commutative: retries, late times and several threads need no further rule.

A key is in one or two of three places:

- `pending`: to be written by the next flush;
- `held`: written less than `min_persist_interval` ago, waits for the rest of it;
- `in_flight`: taken by the flush that runs now; it comes back when that fails. A key that is recorded meanwhile is also
  in `pending`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum


class Outcome(Enum):
    """What became of one recorded activity."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """The key or the time can never be stored."""
    DROPPED = "dropped"
    """The buffer is full of other keys, or closed."""


class ActivityBuffer:
    """Waiting activity of one tracker. Spans and moments are seconds; `now` is monotonic."""

    __slots__ = (
        "_held",
        "_in_flight",
        "_max_pending",
        "_min_persist_interval",
        "_persisted_at",
        "_since",
        "_taken_since",
        "pending",
    )

    def __init__(self, max_pending: int, min_persist_interval: float = 0.0) -> None:
        self.pending: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._in_flight: dict[str, float] = {}
        self._persisted_at: dict[str, float] = {}
        self._since: float | None = None
        self._taken_since: float | None = None
        self._max_pending = max_pending
        self._min_persist_interval = min_persist_interval

    def put(self, key: str, at: float, now: float) -> bool:
        """Merge one activity; False when it is dropped because the buffer is full of other keys."""
        pending = self.pending
        if key in pending:
            merge_newer(pending, key, at)
        elif key in self._held:
            merge_newer(self._held, key, at)
        elif len(pending) + len(self._held) + len(self._in_flight) < self._max_pending or key in self._in_flight:
            pending[key] = at
            if self._since is None:
                self._since = now
        else:
            return False
        return True

    def take(self, now: float, *, everything: bool = False) -> dict[str, float]:
        """Move what is due into flight and return it; `settle` must follow. Everything: also what is held back.

        `pending` is a new dictionary afterwards. Times that still move forward in the old one are in the batch.
        """
        if self._in_flight:
            raise RuntimeError("a flush is under way")
        self._taken_since, self._since = self._since, None
        batch, self.pending = self.pending, {}
        for key in list(self._held) if everything else self._due(now):
            at = self._held.pop(key)
            batch[key] = max(at, batch.get(key, at))
        if self._persisted_at and not everything:
            self._hold_back(batch, now)
        # An emptied dictionary keeps its room; a new one has none.
        self._in_flight = batch or {}
        return self._in_flight

    def _due(self, now: float) -> list[str]:
        return [key for key in self._held if now >= self._next_write_at(key)]

    def _hold_back(self, batch: dict[str, float], now: float) -> None:
        for key in [key for key in batch if now < self._next_write_at(key)]:
            at = batch.pop(key)
            self._held[key] = max(at, self._held.get(key, at))

    def _next_write_at(self, key: str) -> float:
        return self._persisted_at.get(key, float("-inf")) + self._min_persist_interval

    def settle(self, finished: Sequence[str], saved_at: float | None) -> None:
        """End the flush: forget the keys that are finished (saved, or poison) and merge the others back.

        `saved_at`: the moment that counts for `min_persist_interval`.
        """
        left, self._in_flight = self._in_flight, {}
        if self._min_persist_interval and saved_at is not None:
            self._persisted_at.update(dict.fromkeys(finished, saved_at))
            self._forget_persisted_before(saved_at - self._min_persist_interval)
        if len(finished) < len(left):
            self._restore(left, finished)
        self._taken_since = None

    def _restore(self, left: dict[str, float], finished: Sequence[str]) -> None:
        for key in finished:
            left.pop(key, None)
        for key, at in left.items():
            merge_newer(self.pending, key, max(at, self._held.pop(key, at)))
        if self._taken_since is not None:
            self._since = self._taken_since

    def _forget_persisted_before(self, moment: float) -> None:
        """Keep the memory of written keys bounded: past its interval an entry means nothing, oldest come first."""
        for key in [key for key, at in self._persisted_at.items() if at <= moment and key not in self._held]:
            del self._persisted_at[key]
        excess = len(self._persisted_at) - self._max_pending
        for key in list(self._persisted_at)[: max(0, excess)]:
            del self._persisted_at[key]

    def waiting(self, key: str) -> float | None:
        """Return the latest time of a key that is not written yet, or None."""
        times = [place[key] for place in (self.pending, self._held, self._in_flight) if key in place]
        return max(times, default=None)

    def times(self) -> Iterator[tuple[str, float]]:
        """Iterate over every waiting time; a key in two places comes twice."""
        for place in (self.pending, self._held, self._in_flight):
            yield from list(place.items())

    def drop(self) -> int:
        """Forget everything that waits (after a fork, or at the end) and return how many keys that were."""
        size = len(self)
        self.pending.clear()
        self._held.clear()
        self._in_flight = {}
        self._since = self._taken_since = None
        return size

    @property
    def reserved(self) -> int:
        """How much of the bound is taken; a key in two places counts twice."""
        return len(self.pending) + len(self._held) + len(self._in_flight)

    @property
    def full(self) -> bool:
        """Whether a new key would be dropped."""
        return self.reserved >= self._max_pending

    def oldest_age(self, now: float) -> float | None:
        """For how many seconds the oldest waiting key has been waiting at the most; None when nothing waits."""
        began = [since for since in (self._since, self._taken_since) if since is not None]
        began += [self._persisted_at[key] for key in self._held if key in self._persisted_at]
        return max(0.0, now - min(began)) if began else None

    def __len__(self) -> int:
        """Count the distinct waiting keys."""
        if not self._held and not self._in_flight:
            return len(self.pending)
        return len(self.pending.keys() | self._held.keys() | self._in_flight.keys())


def merge_newer(times: dict[str, float], key: str, at: float) -> None:
    """Set the key's time unless a newer one is there; one expression, so that no other thread comes between."""
    if key not in times:
        times[key] = at
    else:
        times[key] = at if (held := times[key]) < at else held
