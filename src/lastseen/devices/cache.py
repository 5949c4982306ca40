"""A short memory of keys that were verified: off unless asked for, five seconds at the most."""

from __future__ import annotations

import threading
from datetime import timedelta

from lastseen.devices.key import ApiKey
from lastseen.errors import ConfigurationError
from lastseen.forking import reset_in_forked_children

LONGEST = timedelta(seconds=5)
MOST_ENTRIES = 10_000


class KeyCache:
    """Remembers keys by the digest of their secret; another process's revocation is noticed that much later.

    What is revoked in this process is forgotten at once, and a read that was under way meanwhile is not remembered: it
    may have seen the key as it was before. Expiry is in the key and is checked on every hit. `now` is monotonic
    seconds; any thread may call.
    """

    def __init__(self, span: timedelta) -> None:
        if not timedelta(0) <= span <= LONGEST:
            raise ConfigurationError("the cache of keys may last from zero (off) to 5 seconds")
        self._span = span.total_seconds()
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()
        self._entries: dict[bytes, tuple[float, ApiKey]] = {}
        self.generation = 0
        """Goes up whenever something is forgotten; look at it before reading the store."""

    def get(self, digest: bytes, now: float) -> ApiKey | None:
        """Return what was remembered and is fresh."""
        entry = self._entries.get(digest)
        return entry[1] if entry is not None and now - entry[0] < self._span else None

    def put(self, digest: bytes, key: ApiKey | None, now: float, generation: int) -> None:
        """Remember a key that was read then, unless something was forgotten since; that there is none is no memory."""
        if key is None or not self._span:
            return
        with self._lock:
            if generation != self.generation:
                return
            if len(self._entries) >= MOST_ENTRIES:
                self._entries.clear()
            self._entries[digest] = (now, key)

    def forget(self) -> None:
        """Forget everything: changes of keys are rare, and reading one again costs little."""
        with self._lock:
            self.generation += 1
            self._entries.clear()
