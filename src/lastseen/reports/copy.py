"""What reports need from the columnar copy of visits and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lastseen.errors import StoreError
from lastseen.reports.export import Table
from lastseen.reports.period import Period
from lastseen.reports.question import Question
from lastseen.visits.store import Changes

Place = tuple[int, str]
"""When a visit began, in microseconds since 1970, and its id."""


class CopyInUse(StoreError):
    """The copy is open already, in another process mostly; the message says which file. It may be once."""


class CopyBroken(StoreError):
    """The copy cannot be read any more, or is of another format: throw it away and copy again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What an engine counted for one period: raw rows, from which the answer is made.

    A row holds the keys (for a stretch of time its number, see `bucket_key`) and then the figures of the metrics.
    """

    rows: Sequence[tuple[Any, ...]]
    totals: tuple[Any, ...]


@runtime_checkable
class ReportCopy(Protocol):
    """A copy of visits and events in an engine that counts fast. It can be thrown away at any time.

    Any thread may call any method. Raises `StoreError` when the engine fails.
    """

    @property
    def is_built(self) -> bool:
        """Whether the first copying is over; until then answers are of what was copied so far, and not exact."""

    def position(self) -> str:
        """Return the position up to which the truth was copied; empty for a new copy."""

    def apply(self, changes: Changes) -> None:
        """Apply a batch and remember its position, all in one transaction: after a crash it is there, or it is not.

        The position decides what comes next, so a batch is applied once; a batch that is already in must not be
        handed in again.
        """

    def finish_building(self) -> None:
        """End the first copying, after its last batch: from then on answers are exact. Again, nothing happens."""

    def count(self, question: Question, period: Period, *, keys: Sequence[tuple[Any, ...]] | None = None) -> Figures:
        """Return the figures of a question in one period, ordered and limited; one row more than the limit if there is.

        With `keys`, the rows of just these keys, in any order, whatever the limit.
        """

    def latest(self, question: Question, period: Period, limit: int, *, after: Place | None = None) -> Sequence[str]:
        """Return the ids of the visits that a question counts, those that began last first; behind a place if given."""

    def parquet(self, table: Table) -> bytes:
        """Return a table as a Parquet file."""

    def interrupt(self) -> None:
        """Break off the batch that another thread applies or builds with, which then fails as a whole."""

    def clear(self) -> None:
        """Throw everything away and begin again at the empty position."""

    def close(self) -> None:
        """Let go of the files. Safe twice."""
