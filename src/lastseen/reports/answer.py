"""What a report answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lastseen.reports.period import Period
from lastseen.reports.question import Question

Figure = int | float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of an answer."""

    name: str
    is_metric: bool
    unit: str
    """Of a metric: `count`, `share` (0 to 1) or `seconds`; of a dimension: `text`, or `time` for a stretch of it."""
    adds_up: bool = False
    """Whether all the rows, where no limit cuts them, sum up to the total: never for visitors and averages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: the dimensions' values, None where unknown, and the metrics' figures, None where there is none."""

    keys: tuple[str | None, ...]
    figures: tuple[Figure, ...]
    compared: tuple[Figure, ...] | None = None
    """The figures of the same keys in the period that it is compared with; of stretches of time, of the one at the same
    place. None where nothing is compared, or there is no such stretch."""
    compared_key: str | None = None
    """Of stretches of time: what the one that it is compared with is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to one question."""

    question: Question
    period: Period
    compared_period: Period | None
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    totals: tuple[Figure, ...]
    """The figures of everything in the range, not of the rows shown."""
    compared_totals: tuple[Figure, ...] | None
    has_more: bool
    """Whether the limit left rows out."""
    asked_at: datetime
    is_complete: bool
    """Whether the copy held all that the store held when it last looked; False while a copy is built."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the figures."""
        return tuple(column.name for column in self.columns if column.is_metric)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat mapping a row, for exports; what is compared is named `previous_…`."""
        return [self._record(row) for row in self.rows]

    def _record(self, row: Row) -> dict[str, Any]:
        names = tuple(column.name for column in self.columns)
        record: dict[str, Any] = dict(zip(names, (*row.keys, *row.figures), strict=True))
        if self.compared_period is not None:
            compared = row.compared or (None,) * len(row.figures)
            record |= zip((f"previous_{name}" for name in self.metrics), compared, strict=True)
        return record

    def document(self) -> Mapping[str, Any]:
        """Return all of it as JSON has it: what the command line and the API show."""
        question = self.question
        compared = self.compared_period
        return {
            "site": question.site,
            "from": self.period.start,
            "to": self.period.end,
            "time_zone": question.time_zone,
            "bots": question.bots,
            "columns": [
                {"name": column.name, "kind": "metric" if column.is_metric else "dimension", "unit": column.unit}
                | ({"adds_up": column.adds_up} if column.is_metric else {})
                for column in self.columns
            ],
            "rows": self.records(),
            "totals": dict(zip(self.metrics, self.totals, strict=True)),
            "comparison": None
            if compared is None
            else {
                "from": compared.start,
                "to": compared.end,
                "totals": dict(zip(self.metrics, self.compared_totals or (), strict=True)),
            },
            "has_more": self.has_more,
            "asked_at": self.asked_at,
            "is_complete": self.is_complete,
        }
