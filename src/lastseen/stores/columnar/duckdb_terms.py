"""Dimensions, filters and metrics as DuckDB writes them, and the values that they bind. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastseen.reports.period import DAY, HOUR, Period
from lastseen.reports.question import Bots, Filter, Operator, Question
from lastseen.reports.terms import VISIT_DIMENSIONS, Dimension, Metric, TimeBucket
from lastseen.visits.event import PAGEVIEW

# Rows that stand for no visit have no duration, and those that stand for no event are none.
METRICS: Mapping[Metric, str] = {
    Metric.VISITORS: "count(DISTINCT visitor)",
    Metric.VISITS: "count(duration)",
    Metric.BOUNCE_RATE: "count(*) FILTER (WHERE is_bounce) / nullif(count(duration), 0)",
    Metric.AVERAGE_DURATION: "sum(duration) / nullif(count(duration), 0) / 1e6",
    Metric.MEDIAN_DURATION: "median(duration) / 1e6",
    Metric.ENGAGED_TIME: "coalesce(sum(engaged_ms), 0) / 1e3",
    Metric.AVERAGE_ENGAGED_TIME: "sum(engaged_ms) / nullif(count(duration), 0) / 1e3",
    Metric.PAGE_VIEWS: "count(*) FILTER (WHERE is_page_view)",
    Metric.EVENTS: "count(*) FILTER (WHERE is_event)",
    Metric.ACTIVE_VISITORS: "count(DISTINCT actor)",
}
COLUMNS: Mapping[str, str] = {name: f'{{alias}}."{name}"' for name in VISIT_DIMENSIONS} | {
    "page": "{alias}.page",
    "event": "{alias}.name",
}
CONDITIONS: Mapping[Operator, str] = {
    Operator.IS: "{column} = {value}",
    Operator.IS_NOT: "{column} IS DISTINCT FROM {value}",
    Operator.CONTAINS: "contains({column}, {value})",
    Operator.CONTAINS_NOT: "NOT coalesce(contains({column}, {value}), false)",
    Operator.ONE_OF: "list_contains({value}, {column})",
    Operator.NONE_OF: "NOT coalesce(list_contains({value}, {column}), false)",
    Operator.UNKNOWN: "{column} IS NULL",
    Operator.KNOWN: "{column} IS NOT NULL",
}
WIDE = {Operator.IS_NOT, Operator.CONTAINS_NOT, Operator.NONE_OF, Operator.UNKNOWN}
BUCKETS: Mapping[TimeBucket, str] = {
    TimeBucket.HOUR: f"({{local}}) // {HOUR} * {HOUR} - ({{offset}})",
    TimeBucket.DAY: f"({{local}}) // {DAY}",
    TimeBucket.WEEK: f"(({{local}}) // {DAY} + 3) // 7 * 7 - 3",
    TimeBucket.MONTH: (
        f"year(DATE '1970-01-01' + (({{local}}) // {DAY})::INTEGER) * 12"
        f" + month(DATE '1970-01-01' + (({{local}}) // {DAY})::INTEGER) - 1"
    ),
}
BOTS: Mapping[Bots, str] = {Bots.WITHOUT: "NOT {alias}.is_bot", Bots.WITH: "true", Bots.ONLY: "{alias}.is_bot"}


class Terms:
    """The parts of one question in one period; `values` is what they bind."""

    def __init__(self, question: Question, period: Period) -> None:
        self.question = question
        self._period = period
        self.values: dict[str, Any] = {
            "site": question.site,
            "start": period.start_micros,
            "end": period.end_micros,
        }

    def bots(self, alias: str) -> str:
        """Return the condition on what programs did."""
        return BOTS[self.question.bots].format(alias=alias)

    def filters(self, *, of_events: bool) -> Sequence[Filter]:
        """Return the filters on events, or those on visits."""
        return [each for each in self.question.filters if each.dimension.is_of_events is of_events]

    def conditions(self, *, of_events: bool, alias: str = "e") -> list[str]:
        """Return the conditions on events or on visits."""
        return [
            self._condition(place, each, alias)
            for place, each in enumerate(self.question.filters)
            if each.dimension.is_of_events is of_events
        ]

    def _condition(self, place: int, condition: Filter, alias: str) -> str:
        if condition.operator in {Operator.ONE_OF, Operator.NONE_OF}:
            self.values[f"f{place}"] = list(condition.values)
        elif condition.values:
            self.values[f"f{place}"] = condition.values[0]
        column = self._column(condition.dimension, alias)
        return f"({CONDITIONS[condition.operator].format(column=column, value=f'$f{place}')})"

    def keys(self, by: Sequence[Dimension], moment: str, alias: str) -> list[str]:
        """Return what figures are broken down by; `moment` is what the time is taken from."""
        return [self._key(each, moment, alias) for each in by]

    def _key(self, dimension: Dimension, moment: str, alias: str) -> str:
        if dimension.bucket is None:
            return self._column(dimension, alias)
        offset = self._offset(moment)
        return BUCKETS[dimension.bucket].format(local=f"{moment} + ({offset})", offset=offset)

    def _offset(self, moment: str) -> str:
        """Return the zone's offset at a moment: the few that the period has, each from its moment on."""
        first, *later = self._period.offsets()
        if not later:
            return str(int(first[1]))
        cases = " ".join(f"WHEN {moment} >= {int(since)} THEN {int(offset)}" for since, offset in reversed(later))
        return f"CASE {cases} ELSE {int(first[1])} END"

    def _column(self, dimension: Dimension, alias: str) -> str:
        name = dimension.property_name
        if name is None:
            return COLUMNS[dimension.name].format(alias=alias)
        key = next((key for key, value in self.values.items() if key.startswith("p") and value == name), None)
        if key is None:
            key = f"p{sum(1 for each in self.values if each.startswith('p'))}"
            self.values[key] = name
        return f"variant_extract({alias}.properties, ${key})::VARCHAR"


def leave_most(filters: Sequence[Filter]) -> bool:
    """Return whether filters look as if most passed; a wrong guess costs time alone."""
    return all(map(_leaves_most, filters))


def _leaves_most(condition: Filter) -> bool:
    if condition.operator is Operator.KNOWN:
        # Most events have a page and most visits a country, but a custom property is of some kinds of events.
        return condition.dimension.property_name is None
    return condition.operator in WIDE or condition.values == (PAGEVIEW,)
