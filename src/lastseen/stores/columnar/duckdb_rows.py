"""Which rows of the copy a question about events counts, as DuckDB reads them. Pure.

Events of settled visits bear what is true of their visit (`duckdb_settling`); those of the few others are joined with
it. A visit counts once for each value that its events have: where a marked event passes, it stands for them. Where it
does not, the events that a filter stops tell whether there are others that pass: these are fewer than all.
"""

# ruff: noqa: S608 - statements are put together of constants; everything that was asked for is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lastseen.reports.question import Bots, Filter
from lastseen.reports.terms import VISIT_DIMENSIONS, Dimension
from lastseen.stores.columnar.duckdb_settling import EVENT_COLUMNS, SPOT, VISIT_COLUMNS
from lastseen.stores.columnar.duckdb_terms import Terms, leave_most

IN_RANGE = "e.moment >= $start AND e.moment < $end"
BEGAN_IN_RANGE = "e.visit_start >= $start AND e.visit_start < $end"
HAPPENED = f"e.site = $site AND {IN_RANGE}"
STARTED = f"e.site = $site AND {BEGAN_IN_RANGE}"
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
    same: tuple[str, ...]
    """What makes the others the same."""
    size: str
    """How many are the same."""
    again: str
    """The table of those where the marked event does not pass, and another does."""


MARKS: Mapping[tuple[str, ...], Mark] = {
    ("page",): Mark("e.is_first_on_page", ("visit", "pair"), "e.events_on_page", "again_on_page"),
    ("event",): Mark("e.is_first_of_name", ("visit", "name"), "e.events_of_name", "again_of_name"),
}
FIGURES = "visitor, duration, engaged_ms, is_bounce"
OF_EVENT = {
    "is_event": "true",
    "is_page_view": "e.is_page_view",
    "actor": "CASE WHEN NOT e.is_passive THEN e.visitor END",
}
"""What is counted of an event."""
OF_MARKED = {
    "is_event": IN_RANGE,
    "is_page_view": f"e.is_page_view AND {IN_RANGE}",
    "actor": f"CASE WHEN {IN_RANGE} AND NOT e.is_passive THEN e.visitor END",
}
"""The same of one that stands for its visit too, which may have begun in the range while it happened after that."""
# Those that do not pass tell of the others: where they are fewer than all that are the same, another one passes.
AGAIN = """
SELECT {columns}
FROM (SELECT * FROM failed AS e WHERE {mark.size} > 1{passing}) AS e
SEMI JOIN (SELECT * FROM failed AS e WHERE {mark.size} > 1 AND {mark.condition}) AS marked ON {same}
GROUP BY {keys} HAVING count(*) < any_value({mark.size})
"""

# Each visit once for every page that it saw. Settled ones have a pair of visitor and page; the first visit of each pair
# in the range is not old, as its visitor saw the page before the range, if at all.
IS_OLD = "e.{previous} >= $start"
# Visits of which no event passes: fewer than those that count.
LOST = """
SELECT e.visit
FROM (SELECT * FROM failed AS e{passing}) AS e
SEMI JOIN (SELECT * FROM failed AS e WHERE e.is_first_in_visit) AS marked ON marked.visit = e.visit
GROUP BY e.visit HAVING count(*) = any_value(e.events_in_visit)
"""
NOT_LOST = """
SELECT {columns} FROM visits AS e ANTI JOIN lost ON lost.visit = e.visit WHERE e.is_settled AND {started}
"""

# Pairs that count although their first visit does not pass; those are few where most visits pass.
LATER_OF_FAILED = """
SELECT first.pair, first.visitor, first.k0
FROM (
    SELECT e.pair, e.visitor, e.page AS k0 FROM failed AS e WHERE e.is_first_on_page AND NOT ({is_old})
) AS first
SEMI JOIN (SELECT pair FROM kept WHERE is_old) AS kept ON kept.pair = first.pair
ANTI JOIN (SELECT pair FROM again_on_page WHERE NOT is_old) AS passed ON passed.pair = first.pair
"""
LATER_OF_ALL = """
SELECT kept.*
FROM (
    SELECT pair, any_value(visitor) AS visitor, any_value(k0) AS k0 FROM kept WHERE is_old GROUP BY pair
) AS kept
ANTI JOIN (SELECT pair FROM kept WHERE NOT is_old) AS passed ON passed.pair = kept.pair
"""
NONE_LATER = "SELECT pair, visitor, k0 FROM kept WHERE false"
# Who was on a page in a visit that is not settled counts unless a settled one is counted.
WITH_NEW = """
SELECT *, NOT is_old AS is_new FROM kept
UNION ALL BY NAME
SELECT k0, true AS is_new FROM later
UNION ALL BY NAME
SELECT others.* EXCLUDE (is_first), others.is_first AND met.is_met IS NULL AS is_new
FROM others LEFT JOIN met ON met.visitor = others.visitor AND met.k0 IS NOT DISTINCT FROM others.k0
"""
OTHERS = f"""
SELECT *, 1 = row_number() OVER (PARTITION BY visitor, k0) AS is_first,
    {SPOT.format("e").replace("e.page", "e.k0")} AS spot
FROM ({{unsettled}}) AS e
"""
MET = """
SELECT kept.visitor, kept.k0, true AS is_met
FROM (SELECT * FROM kept WHERE NOT is_old AND spot IN (SELECT spot FROM others WHERE is_first)) AS kept
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
        if terms.conditions(of_events=False) or any(each.name in VISIT_DIMENSIONS for each in by):
            return f"{self._events('settled', by)} UNION ALL {self._other_events(by)}"
        return self._events("events", by)

    def _events(self, source: str, by: Sequence[Dimension]) -> str:
        terms = self._terms
        columns = OF_EVENT | _numbered(terms.keys(by, "e.moment", "e"))
        passing = [
            HAPPENED, terms.bots("e"), *terms.conditions(of_events=False), *terms.conditions(of_events=True)
        ]  # fmt: skip
        return f"SELECT {_named(columns)} FROM {source} AS e WHERE {' AND '.join(passing)}"

    def _other_events(self, by: Sequence[Dimension]) -> str:
        """Return the events that pass of visits that are not settled, and those without a visit."""
        return self._events(f"({UNSETTLED.format(end='last_moment')} UNION ALL {WITHOUT_VISIT})", by)

    def of_visits(self, by: Sequence[Dimension], of_events: Sequence[str]) -> str:
        """Return each visit of the range once for every combination of `of_events` that passes, with its keys."""
        columns = _columns(self._terms.keys(by, "e.visit_start", "e"))
        if not of_events and leave_most(self._filters()):
            settled = self._not_lost(by)
        else:
            settled = self._settled(columns, of_events)
        return f"{settled} UNION ALL {self._unsettled(columns)}"

    def _not_lost(self, by: Sequence[Dimension]) -> str:
        """Return the settled visits with an event that passes, where most have one: all but those that have none."""
        terms = self._terms
        of_visits = terms.conditions(of_events=False)
        self._tell_failed()
        self.tables["lost"] = LOST.format(passing=f" WHERE {' AND '.join(of_visits)}" if of_visits else "")
        began = ["e.site = $site", "e.start >= $start", "e.start < $end", terms.bots("e"), *of_visits]
        columns = _columns(terms.keys(by, "e.start", "e"))
        return NOT_LOST.format(columns=_named(columns), started=" AND ".join(began))

    def on_page(self) -> str:
        """Return each visit once for every page (`k0`); those that are `is_new` stand for a visitor of the page."""
        columns = _columns(self._terms.keys((Dimension("page"),), "e.visit_start", "e"))
        is_old = self._keep(columns, {})
        if all(each.dimension.name == "page" for each in self._terms.question.filters):
            self.tables["later"] = NONE_LATER
        elif self.keeps_most:
            self._tell_failed()
            self.tables.setdefault("again_on_page", "SELECT pair, is_old FROM kept WHERE false")
            self.tables["later"] = LATER_OF_FAILED.format(is_old=is_old)
        else:
            self.tables["later"] = LATER_OF_ALL
        self.tables["others"] = OTHERS.format(unsettled=self._unsettled(columns))
        self.tables["met"] = MET
        return WITH_NEW

    def on_pages(self, by: Sequence[Dimension], *, with_events: bool) -> str:
        """Return each visit once for every page, and each event; the marked events stand for both in one row.

        Of those that are the same in their keys, all that are `is_new` are of different visitors.
        """
        columns = _columns(self._terms.keys(by, "e.visit_start", "e"))
        self._keep(columns, OF_MARKED if with_events else {})
        self.tables["others"] = self._unsettled(columns)
        rows = "SELECT *, NOT is_old AS is_new FROM kept UNION ALL BY NAME SELECT * FROM others"
        if not with_events:
            return rows
        self.tables["events_beside"] = f"{self._unmarked_events(by)} UNION ALL {self._other_events(by)}"
        return f"{rows} UNION ALL BY NAME SELECT * FROM events_beside"

    def _keep(self, columns: Mapping[str, str], of_marked: Mapping[str, str]) -> str:
        """Have a table of the settled visits, each once for every page; return what makes one of them old."""
        is_old = IS_OLD.format(
            previous="previous_start" if self._terms.question.bots is Bots.WITH else "previous_start_of_kind"
        )
        with_pairs = {**columns, "pair": "e.pair", "spot": "e.spot", "is_old": is_old}
        self.tables["kept"] = self._settled(with_pairs, ("page",), of_marked)
        return is_old

    def _unmarked_events(self, by: Sequence[Dimension]) -> str:
        """Return the events of settled visits that are not in the same row as their visit."""
        events = self._events("settled", by)
        if not self._is_marked(("page",)):
            return events
        # Two looks with plain conditions take less than one with all of them.
        return (
            f"{events} AND NOT e.is_first_on_page UNION ALL "
            f"{events} AND e.is_first_on_page AND (e.visit_start < $start OR e.visit_start >= $end)"
        )

    def _tell_failed(self) -> None:
        """Have a table of the settled events that do not pass, of all the visits that began in the range."""
        terms = self._terms
        passing = " AND ".join([*terms.conditions(of_events=False), *terms.conditions(of_events=True)])
        self.tables.setdefault(
            "failed", f"SELECT * FROM settled AS e WHERE {STARTED} AND {terms.bots('e')} AND ({passing}) IS NOT TRUE"
        )

    def _unsettled(self, columns: Mapping[str, str]) -> str:
        source = UNSETTLED.format(end="start")
        return f"SELECT DISTINCT {_named(columns)} FROM ({source}) AS e WHERE {self._passing()}"

    def _passing(self) -> str:
        return " AND ".join([self._visits(), *self._terms.conditions(of_events=True)])

    def _visits(self) -> str:
        return " AND ".join([STARTED, self._terms.bots("e"), *self._terms.conditions(of_events=False)])

    def _is_marked(self, of_events: Sequence[str]) -> bool:
        """Return whether marked events stand for their visits; where few pass it is better to look at these alone."""
        return tuple(of_events) in MARKS and (self._is_decided(of_events) or leave_most(self._filters()))

    def _is_decided(self, of_events: Sequence[str]) -> bool:
        """Return whether all events that are the same pass, or none."""
        return {each.dimension.name for each in self._filters()} <= set(of_events)

    def _filters(self) -> Sequence[Filter]:
        return self._terms.filters(of_events=True)

    def _settled(
        self, columns: Mapping[str, str], of_events: Sequence[str], of_marked: Mapping[str, str] | None = None
    ) -> str:
        """Return the visits that are settled, each once for every value, see the module; `of_marked` is of events."""
        if not self._is_marked(of_events):
            return f"SELECT DISTINCT {_named(columns)} FROM settled AS e WHERE {self._passing()}"
        mark = MARKS[tuple(of_events)]
        marked = (
            f"SELECT {_named({**columns, **(of_marked or {})})} "
            f"FROM settled AS e WHERE {self._passing()} AND {mark.condition}"
        )
        if self._is_decided(of_events):
            return marked
        self._tell_failed()
        self.tables[mark.again] = AGAIN.format(
            columns=_named({name: f"any_value({column})" for name, column in columns.items()}),
            passing="".join(f" AND {each}" for each in self._terms.conditions(of_events=False)),
            same=" AND ".join(f"marked.{name} = e.{name}" for name in mark.same),
            keys=", ".join(f"e.{name}" for name in mark.same),
            mark=mark,
        )
        return f"{marked} UNION ALL BY NAME SELECT * FROM {mark.again}"


def _columns(keys: Sequence[str]) -> dict[str, str]:
    """Return what is taken of each visit, by the name that it gets."""
    figures = {name: f"e.{name}" for name in ["visit", *FIGURES.split(", ")]}
    return figures | _numbered(keys)


def _numbered(keys: Sequence[str]) -> dict[str, str]:
    return {f"k{place}": key for place, key in enumerate(keys)}


def _named(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{column} AS {name}" for name, column in columns.items())
