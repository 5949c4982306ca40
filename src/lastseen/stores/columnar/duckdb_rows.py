"""Which rows of the copy a question about events counts, as DuckDB reads them. Pure.

Events of settled visits bear what is true of their visit (`duckdb_settling`); those of the few others are joined with
it. A visit counts once for each value that its events have: where a marked event passes, it stands for them, and only
where it does not are the others looked at.
"""

# ruff: noqa: S608 - statements are put together of constants; everything that was asked for is bound

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lastseen.reports.question import Bots
from lastseen.reports.terms import VISIT_DIMENSIONS, Dimension
from lastseen.stores.columnar.duckdb_settling import EVENT_COLUMNS, SPOT, VISIT_COLUMNS
from lastseen.stores.columnar.duckdb_terms import Terms, leave_most

HAPPENED = "e.site = $site AND e.moment >= $start AND e.moment < $end"
STARTED = "e.site = $site AND e.visit_start >= $start AND e.visit_start < $end"
UNSETTLED = f"""
SELECT {", ".join(f"e.{name}" for name in EVENT_COLUMNS)}, {", ".join(f'v."{name}"' for name in VISIT_COLUMNS)}
FROM visits AS v JOIN events AS e ON e.visit = v.visit AND e.visit_start = v.start
WHERE NOT v.is_settled AND v.start < $end AND v.{{end}} >= $start
"""
WITHOUT_VISIT = f"""
SELECT {", ".join(f"e.{name}" for name in EVENT_COLUMNS)}, NULL, NULL, NULL,
    {", ".join("NULL::VARCHAR" for _ in VISIT_DIMENSIONS)}
FROM events AS e WHERE e.visit IS NULL
"""


class Mark(NamedTuple):
    """Which event of a visit stands for all that are the same in something."""

    condition: str
    same: str
    """What makes the others the same."""
    others: str
    """The table of others that pass where the marked one does not."""


SAME_VISIT = "failed.visit = e.visit"
MARKS = {
    (): Mark("e.is_first_in_visit", SAME_VISIT, "again_in_visit"),
    ("page",): Mark("e.is_first_on_page", f"{SAME_VISIT} AND failed.page IS NOT DISTINCT FROM e.page", "again_on_page"),
    ("event",): Mark(
        "e.is_first_of_name", f"{SAME_VISIT} AND failed.name IS NOT DISTINCT FROM e.name", "again_of_name"
    ),
}
FIGURES = "visitor, duration, engaged_ms, is_bounce"

# Each visit once for every page that it saw. Settled ones have a pair of visitor and page; the first visit of each pair
# in the range is not old, as its visitor saw the page before the range, if at all.
PAIR_COLUMNS = ", e.pair, e.spot, e.{previous} >= $start AS is_old"
# Pairs that count although their first visit does not pass; those are few where most visits pass.
# As a list, or the engine would take them for the most and remember all the others.
LATER_OF_FAILED = """
SELECT kept.pair, any_value(kept.visitor) AS visitor, any_value(kept.k0) AS k0
FROM (SELECT * FROM kept WHERE is_old) AS kept
SEMI JOIN (SELECT unnest(list(e.pair)) AS pair FROM settled AS e WHERE {failed}) AS failed ON failed.pair = kept.pair
ANTI JOIN (SELECT pair FROM again_on_page WHERE is_old IS NOT TRUE) AS passed ON passed.pair = kept.pair
GROUP BY kept.pair
"""
LATER_OF_ALL = """
SELECT kept.*
FROM (
    SELECT pair, any_value(visitor) AS visitor, any_value(k0) AS k0 FROM kept WHERE is_old GROUP BY pair
) AS kept
ANTI JOIN (SELECT pair FROM kept WHERE is_old IS NOT TRUE) AS passed ON passed.pair = kept.pair
"""
NONE_LATER = "SELECT pair, visitor, k0 FROM kept WHERE false"
# Who was on a page in a visit that is not settled counts unless a settled one is counted.
WITH_NEW = """
SELECT {figures}, k0, is_old FROM kept
UNION ALL
SELECT NULL, NULL, NULL, NULL, k0, NULL FROM later
UNION ALL
SELECT {others}, others.k0, NOT others.is_first OR met.is_met IS NOT NULL
FROM others LEFT JOIN met ON met.visitor = others.visitor AND met.k0 IS NOT DISTINCT FROM others.k0
"""
OTHERS = f"""
SELECT *, 1 = row_number() OVER (PARTITION BY visitor, k0) AS is_first,
    {SPOT.format("e").replace("e.page", "e.k0")} AS spot
FROM ({{unsettled}}) AS e
"""
MET = """
SELECT kept.visitor, kept.k0, true AS is_met
FROM (SELECT * FROM kept WHERE is_old IS NOT TRUE AND spot IN (SELECT spot FROM others WHERE is_first)) AS kept
SEMI JOIN others ON others.visitor = kept.visitor AND others.k0 IS NOT DISTINCT FROM kept.k0
UNION ALL
SELECT later.visitor, later.k0, true
FROM later SEMI JOIN others ON others.visitor = later.visitor AND others.k0 IS NOT DISTINCT FROM later.k0
"""


class Rows:
    """The rows that a question about events counts; `tables` is what they name, by name."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.keeps_most = leave_most(terms.question.filters)
        self.tables: dict[str, str] = {}

    def of_events(self, by: Sequence[Dimension]) -> str:
        """Return each event of the range that passes, with its keys beside it (`k0`, and so on)."""
        terms = self._terms
        keys = _named(terms.keys(by, "e.moment", "e"))
        of_visits = terms.conditions(of_events=False)
        passing = " AND ".join([HAPPENED, terms.bots("e"), *of_visits, *terms.conditions(of_events=True)])
        select = f"SELECT e.visitor, e.is_page_view, e.is_passive{keys}"
        if not of_visits and not any(each.name in VISIT_DIMENSIONS for each in by):
            return f"{select} FROM events AS e WHERE {passing}"
        others = f"{UNSETTLED.format(end='last_moment')} UNION ALL {WITHOUT_VISIT}"
        return f"{select} FROM settled AS e WHERE {passing} UNION ALL {select} FROM ({others}) AS e WHERE {passing}"

    def of_visits(self, by: Sequence[Dimension], of_events: Sequence[str]) -> str:
        """Return each visit of the range once for every combination of `of_events` that passes, with its keys."""
        columns = _columns(self._terms.keys(by, "e.visit_start", "e"))
        return f"{self._settled(columns, of_events)} UNION ALL {self._unsettled(columns)}"

    def of_pages(self, by: Sequence[Dimension]) -> str:
        """Return each visit once for every page; all but those that are `is_old` stand for a visitor of the page."""
        columns = _columns(self._terms.keys(by, "e.visit_start", "e"))
        previous = "previous_start" if self._terms.question.bots is Bots.WITH else "previous_start_of_kind"
        with_pairs = columns + PAIR_COLUMNS.format(previous=previous)
        self.tables["kept"] = self._settled(with_pairs, ("page",))
        if all(each.dimension.name == "page" for each in self._terms.question.filters):
            self.tables["later"] = NONE_LATER
        elif self.keeps_most:
            self.tables.setdefault("again_on_page", "SELECT pair, is_old FROM kept WHERE false")
            self.tables["later"] = LATER_OF_FAILED.format(failed=self._failed(previous))
        else:
            self.tables["later"] = LATER_OF_ALL
        self.tables["others"] = OTHERS.format(unsettled=self._unsettled(columns))
        self.tables["met"] = MET
        others = ", ".join(f"others.{name}" for name in FIGURES.split(", "))
        return WITH_NEW.format(figures=FIGURES, others=others)

    def _failed(self, previous: str) -> str:
        """Return the conditions on the first visits of pairs that do not pass, or not with their first event."""
        terms = self._terms
        passing = " AND ".join([*terms.conditions(of_events=False), *terms.conditions(of_events=True)])
        first = f"e.is_first_on_page AND (e.{previous} >= $start) IS NOT TRUE"
        return f"{STARTED} AND {terms.bots('e')} AND {first} AND ({passing}) IS NOT TRUE"

    def _unsettled(self, columns: str) -> str:
        source = UNSETTLED.format(end="start")
        return f"SELECT DISTINCT {columns} FROM ({source}) AS e WHERE {self._passing()}"

    def _passing(self) -> str:
        return " AND ".join([self._visits(), *self._terms.conditions(of_events=True)])

    def _visits(self) -> str:
        return " AND ".join([STARTED, self._terms.bots("e"), *self._terms.conditions(of_events=False)])

    def _settled(self, columns: str, of_events: Sequence[str]) -> str:
        """Return the visits that are settled, each once for every value: see the module."""
        mark = MARKS.get(tuple(of_events))
        filters = self._terms.filters(of_events=True)
        # All events that are the same pass, or none.
        is_decided = {each.dimension.name for each in filters} <= set(of_events)
        if mark is None or not (is_decided or leave_most(filters)):
            return f"SELECT DISTINCT {columns} FROM settled AS e WHERE {self._passing()}"
        marked = f"SELECT {columns} FROM settled AS e WHERE {self._passing()} AND {mark.condition}"
        if is_decided:
            return marked
        passes = " AND ".join(self._terms.conditions(of_events=True))
        failed = f"SELECT * FROM settled AS e WHERE {self._visits()} AND {mark.condition} AND ({passes}) IS NOT TRUE"
        others = f"SELECT * FROM settled AS e WHERE {self._passing()} AND NOT {mark.condition}"
        self.tables[mark.others] = (
            f"SELECT DISTINCT {columns} FROM ({others}) AS e SEMI JOIN ({failed}) AS failed ON {mark.same}"
        )
        return f"{marked} UNION ALL SELECT * FROM {mark.others}"


def _columns(keys: Sequence[str]) -> str:
    figures = ", ".join(f"e.{name}" for name in FIGURES.split(", "))
    return f"e.visit, {figures}{_named(keys)}"


def _named(keys: Sequence[str]) -> str:
    return "".join(f", {key} AS k{place}" for place, key in enumerate(keys))
