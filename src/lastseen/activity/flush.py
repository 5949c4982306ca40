"""Writing one batch: in chunks, until a deadline, around keys that the database refuses for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lastseen.activity.recorder import ActivityRecorder
from lastseen.activity.updates import Updates
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

    def write(self, updates: Updates) -> None:
        """Write everything, or as much as can be written."""
        for begin in range(0, len(updates), self.chunk_size):
            if self.error is None:
                self._write_chunk(updates.part(begin, begin + self.chunk_size))

    def _write_chunk(self, chunk: Updates) -> None:
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
            self.saved.extend(chunk.keys_sorted)

    def _split(self, chunk: Updates, error: InvalidData) -> None:
        if len(chunk) == 1:
            self.poison[chunk.keys_sorted[0]] = error
            return
        half = len(chunk) // 2
        for part in (chunk.part(0, half), chunk.part(half, len(chunk))):
            if self.error is None:
                self._write_chunk(part)
