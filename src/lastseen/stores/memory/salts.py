"""Salts in memory."""

from __future__ import annotations

import threading
from datetime import date


class MemorySalts:
    """See `SaltStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._salts: dict[date, bytes] = {}

    def ensure_salt(self, day: date, fresh: bytes) -> bytes:
        """See `SaltStore`."""
        with self._lock:
            return self._salts.setdefault(day, fresh)

    def get_salt(self, day: date) -> bytes | None:
        """See `SaltStore`."""
        with self._lock:
            return self._salts.get(day)

    def delete_salts(self, before: date) -> int:
        """See `SaltStore`."""
        with self._lock:
            old = [day for day in self._salts if day < before]
            for day in old:
                del self._salts[day]
        return len(old)
