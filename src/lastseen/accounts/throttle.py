"""How often somebody may try: the more attempts fail, the longer the next one waits. Pure: moments are handed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_KEYS = 10_000


@dataclass(slots=True)
class _Attempts:
    count: float
    last_at: float


class Throttle:
    """Counts attempts by key: `free` of them at once, then waits of 1, 2, 4 … up to `longest_wait` seconds.

    An attempt counts when it is taken, before its result is known, so that many at the same time help nobody; a good
    one is given back. The count halves every `forget_after` seconds: nothing is locked for ever, and an attempt that
    is refused does not count. At most 10,000 keys are remembered, the least recent one goes first. Moments are
    monotonic seconds. For one thread at a time.
    """

    def __init__(self, *, free: int, longest_wait: float, forget_after: float = 600.0) -> None:
        self._free = free
        self._longest_wait = longest_wait
        self._forget_after = forget_after
        self._keys: OrderedDict[str, _Attempts] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until this key may try; 0 is now."""
        attempts = self._keys.get(key)
        if attempts is None:
            return 0.0
        excess = round(self._count(attempts, now)) - self._free
        if excess < 0:
            return 0.0
        return max(0.0, attempts.last_at + min(2.0 ** min(excess, 30), self._longest_wait) - now)

    def take(self, key: str, now: float) -> None:
        """Count an attempt."""
        attempts = self._keys.get(key)
        count = 0.0 if attempts is None else self._count(attempts, now)
        self._keys[key] = _Attempts(count=count + 1, last_at=now)
        self._keys.move_to_end(key)
        if len(self._keys) > MOST_KEYS:
            self._keys.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Take back one attempt: it was a good one."""
        attempts = self._keys.get(key)
        if attempts is None:
            return
        attempts.count -= 1
        if attempts.count <= 0:
            del self._keys[key]

    def forget(self, key: str) -> None:
        """Begin anew."""
        self._keys.pop(key, None)

    def _count(self, attempts: _Attempts, now: float) -> float:
        return float(attempts.count * 0.5 ** ((now - attempts.last_at) / self._forget_after))
