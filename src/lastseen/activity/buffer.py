"""What waits to be written: a bounded map from key to its latest time.

Pure: no I/O, no clock, no thread. The tracker that owns a buffer serializes every call with its lock, with two
exceptions: without the lock it moves the time of a key that is *already* in `pending` forward, and puts a new key into
`pending` while it knows of room (see `tracker.py`). Keys leave `pending` only through the methods here, so under the
lock. Merging is by maximum and therefore commutative: retries, late times and several threads need no further rule.

A key is in one or two of three places:

- `pending`: to be written by the next flush;
- `_spaced`: written less than `min_persist_interval` ago; its latest time is held for the rest of it;
- `in_flight`: taken by the flush that runs now; it comes back when that fails. A key that is recorded meanwhile is also
  in `pending`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum


class Outcome(Enum):
    """What became of one recorded activity."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """The key or the time can never be stored."""
    DROPPED = "dropped"
    """The buffer is full of other keys, or closed."""


Superseded = Callable[[str, float, float], object]
"""Hears of a key, of a time of it that will not be written, and of the newer one that will."""

NOTHING_HELD = -1.0


class ActivityBuffer:
    """Waiting activity of one tracker. Spans and moments are seconds; `now` is monotonic.

    `superseded` is called under the lock whenever one waiting time gives way to another; not for what the tracker moves
    forward without it.
    """

    __slots__ = (
        "_held",
        "_in_flight",
        "_max_pending",
        "_min_persist_interval",
        "_since",
        "_spaced",
        "_superseded",
        "_taken_since",
        "pending",
    )

    def __init__(
        self, max_pending: int, min_persist_interval: float = 0.0, superseded: Superseded | None = None
    ) -> None:
        self.pending: dict[str, float] = {}
        self._in_flight: dict[str, float] = {}
        # The moment of the last write and the time that is held since then, in one number of 32 bytes: two dictionaries
        # of floats, or a tuple, take twice as much a key.
        self._spaced: dict[str, complex] = {}
        self._held = 0
        self._since: float | None = None
        self._taken_since: float | None = None
        self._max_pending = max_pending
        self._min_persist_interval = min_persist_interval
        self._superseded = superseded

    def put(self, key: str, at: float, now: float) -> bool:
        """Merge one activity; False when it is dropped because the buffer is full of other keys."""
        pending = self.pending
        if key in pending:
            self._merge(pending, key, at)
        elif self._held and self._held_time(key) is not None:
            self._hold(key, at)
        elif len(pending) + self._held + len(self._in_flight) < self._max_pending or key in self._in_flight:
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
        for key in self._held_keys():
            if everything or now >= self._next_write_at(key):
                self._merge(batch, key, self._release(key))
        if self._spaced and not everything:
            for key in [key for key in batch if now < self._next_write_at(key)]:
                self._hold(key, batch.pop(key))
        # An emptied dictionary keeps its room; a new one has none.
        self._in_flight = batch or {}
        return self._in_flight

    def _merge(self, times: dict[str, float], key: str, at: float) -> None:
        older = merge_newer(times, key, at)
        if self._superseded is not None:
            self._superseded(key, older, times[key])

    def _next_write_at(self, key: str) -> float:
        spaced = self._spaced.get(key)
        return float("-inf") if spaced is None else spaced.real + self._min_persist_interval

    def _held_keys(self) -> list[str]:
        return [key for key, spaced in self._spaced.items() if spaced.imag >= 0] if self._held else []

    def _held_time(self, key: str) -> float | None:
        spaced = self._spaced.get(key)
        return None if spaced is None or spaced.imag < 0 else spaced.imag

    def _hold(self, key: str, at: float) -> None:
        times = {key: at}
        held = self._held_time(key)
        if held is None:
            self._held += 1
        else:
            self._merge(times, key, held)
        self._spaced[key] = complex(self._spaced[key].real, times[key])

    def _release(self, key: str) -> float:
        spaced = self._spaced[key]
        self._spaced[key] = complex(spaced.real, NOTHING_HELD)
        self._held -= 1
        return spaced.imag

    def settle(self, finished: Sequence[str], saved_at: float | None) -> None:
        """End the flush: forget the keys that are finished (saved, or poison) and merge the others back.

        `saved_at`: the moment that counts for `min_persist_interval`.
        """
        left, self._in_flight = self._in_flight, {}
        if self._min_persist_interval and saved_at is not None:
            self._spaced.update(dict.fromkeys(finished, complex(saved_at, NOTHING_HELD)))
            self._forget_persisted_before(saved_at - self._min_persist_interval)
        if len(finished) < len(left):
            self._restore(left, finished)
        self._taken_since = None

    def _restore(self, left: dict[str, float], finished: Sequence[str]) -> None:
        for key in finished:
            left.pop(key, None)
        for key, at in left.items():
            self._merge(self.pending, key, at)
        if self._taken_since is not None:
            self._since = self._taken_since

    def _forget_persisted_before(self, moment: float) -> None:
        """Keep the memory of written keys bounded: past its interval an entry means nothing, oldest come first."""
        for key in [key for key, spaced in self._spaced.items() if spaced.real <= moment and spaced.imag < 0]:
            del self._spaced[key]
        excess = len(self._spaced) - self._max_pending
        if excess > 0:
            for key in [key for key, spaced in self._spaced.items() if spaced.imag < 0][:excess]:
                del self._spaced[key]

    def waiting(self, key: str) -> float | None:
        """Return the latest time of a key that is not written yet, or None."""
        found = (self.pending.get(key), self._held_time(key), self._in_flight.get(key))
        return max((at for at in found if at is not None), default=None)

    def times(self) -> Iterator[tuple[str, float]]:
        """Iterate over every waiting time; a key in two places comes twice."""
        # Copies: others may put keys into `pending` meanwhile.
        yield from self.pending.copy().items()
        yield from [(key, self._spaced[key].imag) for key in self._held_keys()]
        yield from self._in_flight.copy().items()

    def drop(self) -> int:
        """Forget everything that waits (after a fork, or at the end) and return how many keys that were."""
        size = len(self)
        self.pending.clear()
        self._spaced.clear()
        self._held = 0
        self._in_flight = {}
        self._since = self._taken_since = None
        return size

    @property
    def reserved(self) -> int:
        """How much of the bound is taken; a key in two places counts twice."""
        return len(self.pending) + self._held + len(self._in_flight)

    @property
    def room(self) -> int:
        """How many keys may be put into `pending` directly, when it is not empty: none while it matters which."""
        return 0 if self._held else self._max_pending - self.reserved

    @property
    def full(self) -> bool:
        """Whether a new key would be dropped."""
        return self.reserved >= self._max_pending

    def oldest_age(self, now: float) -> float | None:
        """For how many seconds the oldest waiting key has been waiting at the most; None when nothing waits."""
        began = [since for since in (self._since, self._taken_since) if since is not None]
        began += [self._spaced[key].real for key in self._held_keys()]
        return max(0.0, now - min(began)) if began else None

    def __len__(self) -> int:
        """Count the distinct waiting keys."""
        if not self._held and not self._in_flight:
            return len(self.pending)
        return len(self.pending.keys() | set(self._held_keys()) | self._in_flight.keys())


def merge_newer(times: dict[str, float], key: str, at: float) -> float:
    """Set the key's time unless a newer one is there, and return the older of the two.

    Nothing comes between the read, the comparison and the store, so no other thread does.
    """
    if key not in times:
        times[key] = at
    elif (held := times[key]) < at:
        times[key] = at
        return held
    return at
