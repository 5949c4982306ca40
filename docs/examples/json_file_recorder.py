"""A store of somebody else's: last seen times in one JSON file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from lastseen import SchemaError, StoreUnavailable


class JSONFileRecorder:
    """Keeps `{"key": "2026-01-01T12:00:00+00:00"}` in one file, which one process uses at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`: upserts, in one step, and returns how many times moved forward."""
        if not updates:
            return 0
        with self._lock:
            times = self._load()
            newer = {key: at for key, at in updates.items() if key not in times or times[key] < at}
            if newer:
                self._save(times | newer)
        return len(newer)

    def last_seen_at(self, key: str) -> datetime | None:
        """Return the stored time, or None."""
        return self._load().get(key)

    def _load(self) -> dict[str, datetime]:
        try:
            stored = json.loads(self._path.read_text("utf-8"))
            return {key: datetime.fromisoformat(at) for key, at in stored.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise SchemaError(f"{self._path} does not hold times by key: {error}") from error

    def _save(self, times: Mapping[str, datetime]) -> None:
        """Write beside the file and put it in its place, so that after an error nothing has changed."""
        beside = self._path.with_suffix(".new")
        try:
            beside.write_text(json.dumps({key: at.isoformat() for key, at in times.items()}), "utf-8")
            os.replace(beside, self._path)  # noqa: PTH105 - named as the atomic operation that it is
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
