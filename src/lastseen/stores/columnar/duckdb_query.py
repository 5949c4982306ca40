"""From a question to one DuckDB statement. Pure.

Whole visits are counted by the moment they started, events by their own. A question that has both is two aggregations,
joined by their dimensions. Every value of the question is bound; what is put together is made of the constants here.
"""

# ruff: noqa: S608 - statements are put together of constants; everything that was asked for is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lastseen.reports.copy import Place
from lastseen.reports.period import DAY, HOUR, Period
from lastseen.reports.question import Bots, Filter, Operator, Question
from lastseen.reports.terms import VISIT_DIMENSIONS, Dimension, Grain, Metric, TimeBucket, adds_up
from lastseen.visits.event import PAGEVIEW

METRICS: dict[Metric, str] = {
    Metric.VISITORS: "count(DISTINCT v.visitor)",
    Metric.VISITS: "count(*)",
    Metric.BOUNCE_RATE: "count(*) FILTER (WHERE v.is_bounce) / nullif(count(*), 0)",
    Metric.AVERAGE_DURATION: "sum(v.duration) / nullif(count(*), 0) / 1e6",
    Metric.MEDIAN_DURATION: "median(v.duration) / 1e6",
    Metric.ENGAGED_TIME: "coalesce(sum(v.engaged_ms), 0) / 1e3",
    Metric.AVERAGE_ENGAGED_TIME: "sum(v.engaged_ms) / nullif(count(*), 0) / 1e3",
    Metric.PAGE_VIEWS: "count(*) FILTER (WHERE e.is_page_view)",
    Metric.EVENTS: "count(*)",
    Metric.ACTIVE_VISITORS: "count(DISTINCT e.visitor) FILTER (WHERE NOT e.is_passive)",
}
# Half the time that FILTER takes.
NEW_VISITORS = "count(CASE WHEN v.is_new THEN 1 END)"
COLUMNS: Mapping[str, str] = {name: f'{{alias}}."{name}"' for name in VISIT_DIMENSIONS} | {
    "page": "{page}",
    "event": "e.name",
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
WIDE = {Operator.IS_NOT, Operator.CONTAINS_NOT, Operator.NONE_OF, Operator.UNKNOWN, Operator.KNOWN}
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
# Events of the range, and those behind it of visits that started in it. One look with OR would skip no block of rows.
STRETCHES = (
    "e.moment >= $start AND e.moment < $end",
    "e.moment >= $end AND e.visit_start >= $start AND e.visit_start < $end",
)
EVENTS_OF_STARTED = "e.site = $site AND e.visit_start >= $start AND e.visit_start < $end"
PASSING = "e.site, e.visit, e.visitor, e.moment, e.visit_start, e.name, e.page, e.is_page_view, e.is_passive, e.is_bot"
# The visits that an event of the range can be in; the bounds let blocks of rows be skipped.
THEIR_VISITS = "LEFT JOIN visits AS v ON v.visit = e.visit AND v.start < $end AND v.last_moment >= $start"

# Visits and pages of the events that pass: most are the first of their visit on the page, so each is another pair.
PASSED = """
SELECT e.visit, {key} FROM events AS e WHERE {passing} AND e.is_first_on_page
UNION ALL
SELECT again.*
FROM (SELECT DISTINCT e.visit, {key} FROM events AS e WHERE {passing} AND NOT e.is_first_on_page) AS again
ANTI JOIN (SELECT e.visit, {key} FROM events AS e WHERE {passing} AND e.is_first_on_page) AS first
    ON first.visit = again.visit AND first.{name} IS NOT DISTINCT FROM again.{name}
"""
# Each visit once for every page that it saw.
SEEN = """
SELECT e.visitor, e.duration, e.engaged_ms, e.is_bounce{old_keys} FROM seen AS e WHERE {settled}
UNION ALL
SELECT v.visitor, v.duration, v.engaged_ms, v.is_bounce{new_keys}
FROM visits AS v JOIN events AS e ON e.visit = v.visit AND e.visit_start = v.start
WHERE {unsettled}
"""
# The same by page, and which row is the first of its visitor in the range: of settled visits it is the one whose
# visitor saw the page before the range, if at all. Of the others it is the first, unless a settled one is counted.
SEEN_WITH_NEW = """
WITH unsettled AS MATERIALIZED (
    SELECT e.page, v.visitor, v.duration, v.engaged_ms, v.is_bounce,
        1 = row_number() OVER (PARTITION BY v.visitor, e.page) AS is_first
    FROM visits AS v JOIN events AS e ON e.visit = v.visit AND e.visit_start = v.start
    WHERE {unsettled}
), counted AS (
    SELECT u.visitor, u.page, true AS is_counted
    FROM seen AS e JOIN unsettled AS u ON u.visitor = e.visitor AND u.page IS NOT DISTINCT FROM e.page AND u.is_first
    WHERE {settled} AND coalesce(e.{previous} < $start, true)
)
SELECT e.page AS k0, e.duration, e.engaged_ms, e.is_bounce, coalesce(e.{previous} < $start, true) AS is_new
FROM seen AS e WHERE {settled}
UNION ALL
SELECT u.page, u.duration, u.engaged_ms, u.is_bounce, u.is_first AND c.is_counted IS NULL
FROM unsettled AS u LEFT JOIN counted AS c ON c.visitor = u.visitor AND c.page IS NOT DISTINCT FROM u.page
"""


class Statement:
    """One statement for one question in one period, and the values that it binds."""

    def __init__(self, question: Question, period: Period) -> None:
        self._question = question
        self._period = period
        self._needs_passing = self._needs_started = False
        self._summands = ""
        self.values: dict[str, Any] = {
            "site": question.site,
            "start": period.start_micros,
            "end": period.end_micros,
        }

    def text(self, keys: Sequence[tuple[Any, ...]] | None = None) -> str:
        """Return the statement: the row of totals first, then the rows in their order; dimensions before metrics.

        With `keys` the rows of these keys alone, in any order.
        """
        question = self._question
        names = [f"d{place}" for place in range(len(question.by))]
        totals = ", ".join(["1 AS is_total", *(f"NULL AS {name}" for name in names), "*"])
        parts = [f"SELECT {totals} FROM ({self._joined(())})"]
        order = self._order()
        if names:
            rows = f"SELECT 0 AS is_total, * FROM ({self._joined(question.by)})"
            if keys is not None:
                rows = self._of_keys(rows, names, keys)
            elif not question.is_series:
                self.values |= {"limit": question.limit + 1, "offset": question.offset}
                rows += f" ORDER BY {order} LIMIT $limit OFFSET $offset"
            parts.append(f"({rows})")
        columns = ", ".join([*names, *(f"m{place}" for place in range(len(question.metrics)))])
        sorting = ", ".join(["is_total DESC", *([order] if order else [])])
        return self._with_tables(f"SELECT {columns} FROM ({' UNION ALL '.join(parts)}) ORDER BY {sorting}")

    def latest(self, limit: int, after: Place | None) -> str:
        """Return the statement for the ids of the visits that are counted, the latest first."""
        source, _ = self._visits(())
        self.values["limit"] = limit
        if after is not None:
            self.values |= {"before": after[0], "before_id": after[1]}
            joint = "AND" if " WHERE " in source else "WHERE"
            source += f" {joint} (v.start < $before OR (v.start = $before AND v.id < $before_id))"
        return self._with_tables(f"SELECT v.id FROM {source} ORDER BY v.start DESC, v.id DESC LIMIT $limit")

    def _order(self) -> str:
        question = self._question
        places = {dimension.name: f"d{place}" for place, dimension in enumerate(question.by)}
        places |= {metric: f"m{place}" for place, metric in enumerate(question.metrics)}
        return ", ".join(
            f"{places[each.by]} {'DESC' if each.is_descending else 'ASC'} NULLS LAST" for each in question.ordered
        )

    def _of_keys(self, rows: str, names: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> str:
        shape = {
            name: "BIGINT" if dimension.bucket else "VARCHAR"
            for name, dimension in zip(names, self._question.by, strict=True)
        }
        self.values["keys"] = msgspec.json.encode([dict(zip(names, key, strict=True)) for key in keys]).decode()
        self.values["shape"] = msgspec.json.encode([shape]).decode()
        same = " AND ".join(f"found.{name} IS NOT DISTINCT FROM wanted.row.{name}" for name in names)
        return (
            f"SELECT found.* FROM ({rows}) AS found "
            f"JOIN (SELECT unnest(from_json($keys::JSON, $shape)) AS row) AS wanted ON {same}"
        )

    def _joined(self, by: Sequence[Dimension]) -> str:
        """Return the aggregation, or the two of them side by side."""
        metrics = self._question.metrics
        parts = {
            grain: [place for place, metric in enumerate(metrics) if metric.grain is grain]
            for grain in Grain
            if any(metric.grain is grain for metric in metrics)
        }
        grouped = {
            grain: self._of_summands(places, by) if self._adds_up(grain, places) else self._grouped(grain, places, by)
            for grain, places in parts.items()
        }
        if len(grouped) == 1:
            names = [f"d{place}" for place in range(len(by))] + [f"m{place}" for place in range(len(metrics))]
            return f"SELECT {', '.join(names)} FROM ({next(iter(grouped.values()))})"
        columns = [f"coalesce(of_visits.d{place}, of_events.d{place}) AS d{place}" for place in range(len(by))]
        for place, metric in enumerate(metrics):
            column = f"of_{metric.grain}s.m{place}"
            columns.append(f"coalesce({column}, 0) AS m{place}" if metric.is_count else f"{column} AS m{place}")
        same = " AND ".join(f"of_visits.d{place} IS NOT DISTINCT FROM of_events.d{place}" for place in range(len(by)))
        return (
            f"SELECT {', '.join(columns)} FROM ({grouped[Grain.VISIT]}) AS of_visits "
            f"FULL JOIN ({grouped[Grain.EVENT]}) AS of_events ON {same or 'true'}"
        )

    def _adds_up(self, grain: Grain, places: Sequence[int]) -> bool:
        """Return whether the totals are the sums of the rows, so that one look for the rows is enough."""
        by = self._question.by
        return grain is Grain.EVENT and bool(by) and all(adds_up(self._question.metrics[place], by) for place in places)

    def _of_summands(self, places: Sequence[int], by: Sequence[Dimension]) -> str:
        self._summands = self._grouped(Grain.EVENT, places, self._question.by)
        if by:
            return "SELECT * FROM summands"
        return f"SELECT {', '.join(f'coalesce(sum(m{place}), 0) AS m{place}' for place in places)} FROM summands"

    def _grouped(self, grain: Grain, places: Sequence[int], by: Sequence[Dimension]) -> str:
        expressions = METRICS
        if grain is Grain.VISIT and self._counts_visitors_by_rows(by):
            expressions = METRICS | {Metric.VISITORS: NEW_VISITORS}
        metrics = [f"{expressions[self._question.metrics[place]]} AS m{place}" for place in places]
        if grain is Grain.EVENT:
            source, keys = self._events(by)
        elif any(dimension.is_of_events for dimension in by):
            source, keys = self._visits_by_events(by)
        else:
            source, keys = self._visits(by)
        columns = [f"{key} AS d{place}" for place, key in enumerate(keys)]
        group = f" GROUP BY {', '.join(f'd{place}' for place in range(len(keys)))}" if keys else ""
        return f"SELECT {', '.join([*columns, *metrics])} FROM {source}{group}"

    def _visits(self, by: Sequence[Dimension]) -> tuple[str, list[str]]:
        keys = [self._key(dimension, "v.start") for dimension in by]
        if self._conditions(of_events=True):
            self._needs_started = True
            return "started AS v", keys
        return f"visits AS v WHERE {self._started()}", keys

    def _started(self) -> str:
        where = ["v.site = $site", "v.start >= $start", "v.start < $end", self._bots("v")]
        return " AND ".join([*where, *self._conditions(of_events=False)])

    def _visits_by_events(self, by: Sequence[Dimension]) -> tuple[str, list[str]]:
        """Return each visit once for every combination of values that its events have."""
        inner, outer = [], []
        for place, dimension in enumerate(by):
            if dimension.is_of_events:
                inner.append(f"{self._key(dimension, '')} AS k{place}")
                outer.append(f"seen.k{place}")
            else:
                outer.append(self._key(dimension, "v.start"))
        filtered = {each.dimension.name for each in self._question.filters if each.dimension.is_of_events}
        of_pages = {each.name for each in by if each.is_of_events} | filtered == {"page"}
        if of_pages:
            return self._seen(by)
        source, conditions = self._passing()
        passing = " AND ".join([EVENTS_OF_STARTED, self._bots("e"), *conditions])
        if source == "events" and [each.name for each in by if each.is_of_events] == ["page"]:
            seen = PASSED.format(key=inner[0], name=inner[0].partition(" AS ")[2], passing=passing)
        else:
            seen = f"SELECT DISTINCT e.visit, {', '.join(inner)} FROM {source} AS e WHERE {passing}"
        started = " AND ".join(
            ["v.start >= $start", "v.start < $end", self._bots("v"), *self._conditions(of_events=False)]
        )
        return f"({seen}) AS seen JOIN visits AS v ON v.visit = seen.visit WHERE {started}", outer

    def _seen(self, by: Sequence[Dimension]) -> tuple[str, list[str]]:
        """Return each visit once for every page that it saw, with its figures: of settled visits they are written down.

        The visits that are not settled are joined with their events.
        """
        of_pages = self._conditions(of_events=True)
        of_visits = self._conditions(of_events=False, visits="e")
        settled = " AND ".join([EVENTS_OF_STARTED, self._bots("e"), *of_visits, *of_pages])
        unsettled = " AND ".join([self._started(), "NOT v.is_settled", "e.is_first_on_page", *of_pages])
        names = [f"v.k{place}" for place in range(len(by))]
        if self._counts_visitors_by_rows(by):
            previous = "previous_start" if self._question.bots is Bots.WITH else "previous_start_of_kind"
            rows = SEEN_WITH_NEW.format(settled=settled, unsettled=unsettled, previous=previous)
            return f"({rows}) AS v", names
        old_keys, new_keys = (
            "".join(f", {self._key(each, moment, visits)} AS k{place}" for place, each in enumerate(by))
            for moment, visits in (("e.visit_start", "e"), ("v.start", "v"))
        )
        return (
            f"({SEEN.format(settled=settled, unsettled=unsettled, old_keys=old_keys, new_keys=new_keys)}) AS v",
            names,
        )

    def _counts_visitors_by_rows(self, by: Sequence[Dimension]) -> bool:
        """Return whether each visitor of a page has exactly one row that is new in the range.

        The row before is that of the visitor's last visit to the same page. Filters about pages leave all rows of a
        page or none; any other one may leave out the row that is new, and keep a later one.
        """
        named = [each.name for each in by] + [each.dimension.name for each in self._question.filters]
        return len(by) == 1 and set(named) == {"page"} and Metric.VISITORS in self._question.metrics

    def _events(self, by: Sequence[Dimension]) -> tuple[str, list[str]]:
        of_visits = self._conditions(of_events=False)
        source, of_events = self._passing(looks_once=self._filters_pages_alone())
        where = ["e.site = $site", "e.moment >= $start", "e.moment < $end", self._bots("e"), *of_visits, *of_events]
        of_visits_too = of_visits or any(dimension.name in VISIT_DIMENSIONS for dimension in by)
        joined = f"{source} AS e {THEIR_VISITS if of_visits_too else ''}"
        return f"{joined} WHERE {' AND '.join(where)}", [self._key(dimension, "e.moment") for dimension in by]

    def _passing(self, *, looks_once: bool = False) -> tuple[str, list[str]]:
        """Return a table of events, and what must hold for those that pass the filters about events.

        To keep what passes takes longer than to look at it again where that is most of what there is.
        """
        if looks_once or self._leaves_most():
            return "events", self._conditions(of_events=True)
        self._needs_passing = True
        return "passing", []

    def _leaves_most(self) -> bool:
        """Return whether the filters about events look as if most events passed; a wrong guess costs time alone."""
        filters = [each for each in self._question.filters if each.dimension.is_of_events]
        return all(each.operator in WIDE or each.values == (PAGEVIEW,) for each in filters)

    def _filters_pages_alone(self) -> bool:
        """Return whether pages are all that filters about events ask for: the marked events tell which visits pass."""
        of_events = {each.dimension.name for each in self._question.filters if each.dimension.is_of_events}
        return of_events == {"page"}

    def _with_tables(self, statement: str) -> str:
        """Put the tables that a statement names before it: one look for each serves rows and totals."""
        tables = []
        if self._needs_started:
            # This may ask for `passing`, which comes first.
            tables.append(f"started AS MATERIALIZED ({self._started_with_passing()})")
        if self._needs_passing:
            tables.insert(0, f"passing AS MATERIALIZED ({self._looks()})")
        if self._summands:
            tables.append(f"summands AS MATERIALIZED ({self._summands})")
        return f"WITH {', '.join(tables)} {statement}" if tables else statement

    def _looks(self) -> str:
        conditions = ["e.site = $site", *self._conditions(of_events=True)]
        columns = PASSING
        if any(each.property_name is not None for each in self._question.by):
            columns += ", e.properties"
        return " UNION ALL ".join(
            f"SELECT {columns} FROM events AS e WHERE {' AND '.join([*conditions, stretch])}" for stretch in STRETCHES
        )

    def _started_with_passing(self) -> str:
        if self._filters_pages_alone():
            return self._started_with_pages()
        source, conditions = self._passing()
        passing = " AND ".join([EVENTS_OF_STARTED, self._bots("e"), *conditions])
        passed = f"SELECT e.visit FROM {source} AS e WHERE {passing}"
        return f"SELECT v.* FROM visits AS v WHERE {self._started()} AND v.visit IN ({passed})"

    def _started_with_pages(self) -> str:
        """Return the visits that saw a page: those whose first page view passes need no look at their events."""
        at_entry = " AND ".join(["v.entry IS NOT NULL", *self._conditions(of_events=True, page="v.entry")])
        passing = " AND ".join([EVENTS_OF_STARTED, "e.is_first_on_page", *self._conditions(of_events=True)])
        passed = f"SELECT e.visit FROM events AS e WHERE {passing}"
        started = f"SELECT v.* FROM visits AS v WHERE {self._started()}"
        return f"{started} AND {at_entry} UNION ALL {started} AND NOT ({at_entry}) AND v.visit IN ({passed})"

    def _bots(self, alias: str) -> str:
        return BOTS[self._question.bots].format(alias=alias)

    def _conditions(self, *, of_events: bool, visits: str = "v", page: str = "e.page") -> list[str]:
        """Return the conditions on events or on visits; `visits` has the columns of visits, `page` is one."""
        return [
            self._condition(place, each, visits, page)
            for place, each in enumerate(self._question.filters)
            if each.dimension.is_of_events is of_events
        ]

    def _condition(self, place: int, condition: Filter, visits: str, page: str) -> str:
        if condition.operator in {Operator.ONE_OF, Operator.NONE_OF}:
            self.values[f"f{place}"] = list(condition.values)
        elif condition.values:
            self.values[f"f{place}"] = condition.values[0]
        column = self._column(condition.dimension, visits, page)
        return f"({CONDITIONS[condition.operator].format(column=column, value=f'$f{place}')})"

    def _key(self, dimension: Dimension, moment: str, visits: str = "v") -> str:
        if dimension.bucket is None:
            return self._column(dimension, visits)
        offset = self._offset(moment)
        return BUCKETS[dimension.bucket].format(local=f"{moment} + ({offset})", offset=offset)

    def _offset(self, moment: str) -> str:
        """Return the zone's offset at a moment: the few that the period has, each from its moment on."""
        first, *later = self._period.offsets()
        if not later:
            return str(int(first[1]))
        cases = " ".join(f"WHEN {moment} >= {int(since)} THEN {int(offset)}" for since, offset in reversed(later))
        return f"CASE {cases} ELSE {int(first[1])} END"

    def _column(self, dimension: Dimension, visits: str, page: str = "e.page") -> str:
        name = dimension.property_name
        if name is None:
            return COLUMNS[dimension.name].format(alias=visits, page=page)
        key = next((key for key, value in self.values.items() if key.startswith("p") and value == name), None)
        if key is None:
            key = f"p{sum(1 for each in self.values if each.startswith('p'))}"
            self.values[key] = name
        return f"variant_extract(e.properties, ${key})::VARCHAR"
