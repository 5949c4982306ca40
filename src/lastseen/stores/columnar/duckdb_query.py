"""From a question to one DuckDB statement. Pure.

Whole visits are counted by the moment they started, events by their own. A question that has both is two aggregations,
joined by their dimensions, or one of rows that stand for both. Every value of the question is bound; what is put
together is made of constants.
"""

# ruff: noqa: S608 - statements are put together of constants; everything that was asked for is bound

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lastseen.reports.copy import Place
from lastseen.reports.period import Period
from lastseen.reports.question import Question
from lastseen.reports.terms import Dimension, Grain, Metric, adds_up
from lastseen.stores.columnar.duckdb_rows import Rows
from lastseen.stores.columnar.duckdb_terms import METRICS, Terms

NEW_VISITORS = "count(*) FILTER (WHERE is_new)"
COUNTED_AT_ONCE = {Metric.VISITS, Metric.PAGE_VIEWS, Metric.EVENTS}
# To count different visitors takes the longest. So first it is counted at least and at most how many each row can have
# of what decides about the order; then all figures are of the rows that can be among those that are asked for.
BOUNDS = "SELECT {keys}, {least} AS least, {most} AS most FROM ({rows}) GROUP BY {keys}"
LEADING = """
SELECT *, row_number() OVER () AS place FROM bounds
WHERE most >= coalesce((SELECT least FROM bounds ORDER BY least DESC LIMIT 1 OFFSET $others), 0)
"""
OF_LEADING = """
SELECT {columns} FROM leaders JOIN (
    SELECT leaders.place, {figures} FROM ({rows}) AS found JOIN leaders ON {same} GROUP BY leaders.place
) AS counted ON counted.place = leaders.place
"""


class Statement:
    """One statement for one question in one period, and the values that it binds."""

    def __init__(self, question: Question, period: Period) -> None:
        self._question = question
        self._terms = Terms(question, period)
        self._rows = Rows(self._terms)
        self.values: dict[str, Any] = self._terms.values
        self._is_leading = False

    def text(self, keys: Sequence[tuple[Any, ...]] | None = None) -> str:
        """Return the statement: the row of totals first, then the rows in their order; dimensions before metrics.

        With `keys` the rows of these keys alone, in any order.
        """
        question = self._question
        self._is_leading = keys is None and self._can_lead()
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
        where = [self._started()]
        if self._terms.filters(of_events=True):
            where.append(f"v.visit IN (SELECT visit FROM ({self._rows.of_visits((), ())}))")
        self.values["limit"] = limit
        if after is not None:
            self.values |= {"before": after[0], "before_id": after[1]}
            where.append("(v.start < $before OR (v.start = $before AND v.id < $before_id))")
        conditions = " AND ".join(where)
        return self._with_tables(
            f"SELECT v.id FROM visits AS v WHERE {conditions} ORDER BY v.start DESC, v.id DESC LIMIT $limit"
        )

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
        if by and self._is_on_pages():
            return self._on_pages()
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
        if grain is Grain.VISIT or not by or self._is_on_pages():
            return False
        return all(adds_up(self._question.metrics[place], by) for place in places)

    def _of_summands(self, places: Sequence[int], by: Sequence[Dimension]) -> str:
        if "summands" not in self._rows.tables:
            self._rows.tables["summands"] = self._grouped(Grain.EVENT, places, self._question.by)
        if by:
            return "SELECT * FROM summands"
        return f"SELECT {', '.join(f'coalesce(sum(m{place}), 0) AS m{place}' for place in places)} FROM summands"

    def _is_on_pages(self) -> bool:
        """Return whether rows are of pages, and one look at events serves the figures of visits as well as their own.

        A visit and its event may be of different stretches of time.
        """
        by, metrics = self._question.by, self._question.metrics
        return (
            len(by) > 1
            and [each.name for each in by if each.is_of_events] == ["page"]
            and all(each.bucket is None for each in by)
            and any(metric.grain is Grain.VISIT for metric in metrics)
        )

    def _can_lead(self) -> bool:
        """Return whether bounds of what decides about the order are cheaper than different visitors in every row."""
        question = self._question
        return (
            self._is_on_pages()
            and Metric.VISITORS in question.metrics
            and question.ordered[0].is_descending
            and question.ordered[0].by in {*COUNTED_AT_ONCE, Metric.VISITORS}
        )

    def _on_pages(self) -> str:
        """Return one aggregation for visits and events, of all the rows or of those that can be asked for."""
        question = self._question
        by, metrics = question.by, question.metrics
        rows = self._rows.on_pages(by, with_events=any(metric.grain is Grain.EVENT for metric in metrics))
        keys = [f"k{place}" for place in range(len(by))]
        figures = [f"{METRICS[metric]} AS m{place}" for place, metric in enumerate(metrics)]
        if not self._is_leading:
            columns = ", ".join([*(f"{key} AS d{place}" for place, key in enumerate(keys)), *figures])
            return f"SELECT {columns} FROM ({rows}) GROUP BY {', '.join(keys)}"
        first = Metric(question.ordered[0].by)
        self.values["others"] = question.limit + question.offset
        self._rows.tables["bounds"] = BOUNDS.format(
            keys=", ".join(keys),
            least=NEW_VISITORS if first is Metric.VISITORS else METRICS[first],
            most=METRICS[Metric.VISITS if first is Metric.VISITORS else first],
            rows=rows,
        )
        self._rows.tables["leaders"] = LEADING
        names = [
            *(f"{key} AS d{place}" for place, key in enumerate(keys)),
            *(f"m{place}" for place in range(len(metrics))),
        ]
        return OF_LEADING.format(
            columns=", ".join(names),
            figures=", ".join(figures),
            rows=rows,
            same=" AND ".join(f"found.{key} IS NOT DISTINCT FROM leaders.{key}" for key in keys),
        )

    def _grouped(self, grain: Grain, places: Sequence[int], by: Sequence[Dimension]) -> str:
        metrics = [self._question.metrics[place] for place in places]
        expressions = METRICS
        keys = [f"k{place}" for place in range(len(by))]
        if grain is Grain.EVENT:
            source = f"({self._rows.of_events(by)}) AS e"
        elif Metric.VISITORS in metrics and [each.name for each in by] == ["page"]:
            expressions = {**METRICS, Metric.VISITORS: NEW_VISITORS}
            source = f"({self._rows.on_page()}) AS v"
        elif of_events := [each.name for each in by if each.is_of_events]:
            source = f"({self._rows.of_visits(by, of_events)}) AS v"
        elif self._terms.filters(of_events=True):
            source = f"{self._passing()} AS v"
        else:
            keys = self._terms.keys(by, "v.start", "v")
            source = f"visits AS v WHERE {self._started()}"
        columns = [f"{key} AS d{place}" for place, key in enumerate(keys)]
        columns += [f"{expressions[metric]} AS m{place}" for place, metric in zip(places, metrics, strict=True)]
        group = f" GROUP BY {', '.join(f'd{place}' for place in range(len(keys)))}" if keys else ""
        return f"SELECT {', '.join(columns)} FROM {source}{group}"

    def _passing(self) -> str:
        """Return the visits with an event that passes: one look serves totals and rows, unless these are of events."""
        if any(each.is_of_events for each in self._question.by):
            return f"({self._rows.of_visits((), ())})"
        if "passing" not in self._rows.tables:
            self._rows.tables["passing"] = self._rows.of_visits(self._question.by, ())
        return "passing"

    def _started(self) -> str:
        where = ["v.site = $site", "v.start >= $start", "v.start < $end", self._terms.bots("v")]
        return " AND ".join([*where, *self._terms.conditions(of_events=False, alias="v")])

    def _with_tables(self, statement: str) -> str:
        """Put the tables that a statement names before it."""
        # Each look at the settled events takes what a filter leaves at once; to keep it pays where many looks follow.
        looked_at_again = {"kept" if "kept" in self._rows.tables else "failed"} if self._rows.keeps_most else set()
        tables = [
            f"{name} AS {'NOT MATERIALIZED' if name in looked_at_again else 'MATERIALIZED'} ({text})"
            for name, text in self._rows.tables.items()
        ]
        return f"WITH {', '.join(tables)} {statement}" if tables else statement
