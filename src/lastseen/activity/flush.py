"""Writing one batch: in chunks, until a deadline, around keys that the database refuses for ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from lastseen.activity.recorder import ActivityRecorder
from lastseen.errors import InvalidData, StoreUnavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class FlushResult:
    """What one flush did."""

    updated_count: int = 0
    """Rows inserted or moved forward."""
    batch_size: int = 0
    """Keys in the batch."""
    duration: float = 0.0
    """Seconds."""
    poison: tuple[str, ...] = ()
    """Keys that the database refuses for ever; they were dropped."""
    error: Exception | None = None
    """Why the rest of the batch was not written; it waits for the next flush."""


@dataclass(slots=True)
class BatchWriter:
    """Writes sorted updates through a recorder and remembers which keys are finished.

    A chunk that is refused as `InvalidData` is halved until the bad key stands alone. Any other exception ends the
    batch and is kept in `error`; so does the deadline, between two chunks.
    """

    recorder: ActivityRecorder
    chunk_size: int
    deadline: float
    monotonic: Callable[[], float]
    updated_count: int = 0
    saved: list[str] = field(default_factory=list)
    poison: dict[str, InvalidData] = field(default_factory=dict)
    error: Exception | None = None

    def write(self, updates: Mapping[str, datetime]) -> None:
        """Write everything, or as much as can be written."""
        remaining = iter(updates.items())
        while self.error is None and (chunk := dict(islice(remaining, self.chunk_size))):
            self._write_chunk(chunk)

    def _write_chunk(self, chunk: Mapping[str, datetime]) -> None:
        if self.monotonic() >= self.deadline:
            self.error = StoreUnavailable("the flush did not finish within its deadline")
            return
        try:
            self.updated_count += self.recorder.batch_record_activity(chunk)
        except InvalidData as error:
            self._split(chunk, error)
        except Exception as error:  # noqa: BLE001 - a recorder may be anybody's; whatever it raises, keep the keys
            self.error = error
        else:
            self.saved.extend(chunk)

    def _split(self, chunk: Mapping[str, datetime], error: InvalidData) -> None:
        if len(chunk) == 1:
            self.poison[next(iter(chunk))] = error
            return
        items = list(chunk.items())
        half = len(items) // 2
        for part in (items[:half], items[half:]):
            if self.error is None:
                self._write_chunk(dict(part))
