"""From what an engine counted to an answer: stretches of time named and filled, comparison beside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lastseen.reports.answer import Answer, Column, Figure, Row
from lastseen.reports.copy import Figures
from lastseen.reports.period import Period, bucket_label
from lastseen.reports.question import Question
from lastseen.reports.terms import adds_up

Count = Callable[[Period, Sequence[tuple[Any, ...]] | None], Figures]
"""Asks the engine for one period: all rows up to the limit, or the rows of these keys."""


def assemble(question: Question, now: datetime, count: Count, *, is_complete: bool) -> Answer:
    """Return the answer to a question; `count` is called once, and once more for what is compared."""
    period = question.period(now)
    figures = count(period, None)
    rows = list(figures.rows)
    has_more = bool(question.by) and not question.is_series and len(rows) > question.limit
    if has_more:
        del rows[question.limit :]
    if question.is_series:
        rows = _filled(question, period, rows)
    compared = None if question.compare is None else period.before(question.compare)
    before = _Before(question, period, compared, rows, count)
    return Answer(
        question=question,
        period=period,
        compared_period=compared,
        columns=columns_of(question),
        rows=[_row(question, period, row, before) for row in rows],
        totals=figures.totals,
        compared_totals=before.totals,
        has_more=has_more,
        asked_at=now,
        is_complete=is_complete,
    )


def columns_of(question: Question) -> tuple[Column, ...]:
    """Return the columns of a question's answer."""
    dimensions = [
        Column(name=each.name, is_metric=False, unit="text" if each.bucket is None else "time") for each in question.by
    ]
    metrics = [
        Column(name=metric.value, is_metric=True, unit=metric.unit, adds_up=adds_up(metric, question.by))
        for metric in question.metrics
    ]
    return (*dimensions, *metrics)


class _Before:
    """The figures of the period that is compared with, by the keys of the period that was asked for."""

    def __init__(
        self,
        question: Question,
        period: Period,
        compared: Period | None,
        rows: Sequence[tuple[Any, ...]],
        count: Count,
    ) -> None:
        self.totals: tuple[Figure, ...] | None = None
        self.period = compared
        self._found: dict[tuple[Any, ...], tuple[Figure, ...]] = {}
        self._nothing = nothing(question)
        self._time_place, self._times = _matching_times(question, period, compared)
        self._width = len(question.by)
        if compared is None:
            return
        keys = {key for row in rows if (key := self.key_of(row)) is not None}
        found = count(compared, None if question.is_series or not question.by else sorted(keys, key=repr))
        self.totals = found.totals
        self._found = {row[: self._width]: row[self._width :] for row in found.rows}

    def key_of(self, row: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the key that a row is compared with; None where there is no such stretch of time."""
        key = row[: self._width]
        if self._time_place is None:
            return key
        time = self._times.get(key[self._time_place])
        return None if time is None else (*key[: self._time_place], time, *key[self._time_place + 1 :])

    def figures(self, key: tuple[Any, ...]) -> tuple[Figure, ...]:
        """Return the figures of a key; those of nothing where nothing was counted."""
        return self._found.get(key, self._nothing)

    def label(self, question: Question, key: tuple[Any, ...]) -> str | None:
        """Return what the stretch of time is called that a row is compared with."""
        if self._time_place is None or self.period is None or question.bucket is None:
            return None
        return bucket_label(key[self._time_place], question.bucket, self.period.zone)


def nothing(question: Question) -> tuple[Figure, ...]:
    """Return the figures of what nothing was counted for: 0 for counts, None for shares and averages."""
    return tuple(0 if metric.is_count else None for metric in question.metrics)


def _matching_times(
    question: Question, period: Period, compared: Period | None
) -> tuple[int | None, Mapping[int, int]]:
    """Return where the time is among the dimensions, and with which stretch each is compared: that at its place."""
    place = next((place for place, each in enumerate(question.by) if each.bucket is not None), None)
    if place is None or compared is None or question.bucket is None:
        return place, {}
    pairs = zip(period.buckets(question.bucket), compared.buckets(question.bucket), strict=False)
    return place, dict(pairs)


def _filled(question: Question, period: Period, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return a row for every stretch of time, in the order that was asked for."""
    assert question.bucket is not None  # noqa: S101 - a series has one
    found = {row[0]: row for row in rows}
    empty = nothing(question)
    filled = [found.get(key, (key, *empty)) for key in period.buckets(question.bucket)]
    first = question.ordered[0]
    if first.by == question.by[0].name:
        return filled[::-1] if first.is_descending else filled
    place = 1 + question.metrics.index(first.by)
    known = [row for row in filled if row[place] is not None]
    known.sort(key=lambda row: row[place], reverse=first.is_descending)
    return known + [row for row in filled if row[place] is None]


def _row(question: Question, period: Period, row: tuple[Any, ...], before: _Before) -> Row:
    width = len(question.by)
    keys = tuple(
        value if each.bucket is None else bucket_label(value, each.bucket, period.zone)
        for value, each in zip(row[:width], question.by, strict=True)
    )
    key = None if before.period is None else before.key_of(row)
    if key is None:
        return Row(keys=keys, figures=row[width:])
    return Row(
        keys=keys,
        figures=row[width:],
        compared=before.figures(key),
        compared_key=before.label(question, key),
    )
