"""Questions about events and visits in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from lastseen.clock import to_micros
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.visit_transaction import EVENT
from lastseen.stores.sqlite.visit_values import slot_of
from lastseen.stores.text import can_be_stored
from lastseen.stores.visit_questions import (
    after_conditions,
    event_conditions,
    in_order,
    is_answerable,
    visit_conditions,
)
from lastseen.stores.visit_rows import event_of, visit_of
from lastseen.visits.event import Event
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery, VisitOrder, VisitQuery
from lastseen.visits.visit import Visit

FROM_EVENTS = "FROM lastseen_events AS e JOIN lastseen_identities AS i ON i.no = e.identity"

# Events that are not in the tables of `event_index` yet. With an index SQLite would go through the whole site.
FROM_WAITING = """
FROM lastseen_events AS e NOT INDEXED CROSS JOIN lastseen_identities AS i ON i.no = e.identity
WHERE e.seq > (SELECT indexed FROM lastseen_visit_counter)
"""

FIND_EVENT = f"""
SELECT i.visitor, e.at FROM lastseen_event_ids AS k
CROSS JOIN lastseen_events AS e ON e.seq = k.seq CROSS JOIN lastseen_identities AS i ON i.no = e.identity
WHERE k.site_id = ?1 AND k.id = ?2
UNION ALL SELECT i.visitor, e.at {FROM_WAITING} AND e.site_id = ?1 AND e.id = ?2
"""  # noqa: S608 - constants

GET = "SELECT body FROM lastseen_visits WHERE site_id = ? AND id = ?"

# Two visits may begin in the same microsecond.
AROUND = """
SELECT body FROM lastseen_visits WHERE visitor = ?1 AND started_at >= coalesce((
    SELECT max(started_at) FROM lastseen_visits WHERE visitor = ?1 AND started_at < ?2
), ?2) AND started_at <= ?2
"""

NEWEST = """
SELECT v.body FROM lastseen_identities AS i JOIN lastseen_visits AS v ON v.visitor = i.visitor
WHERE i.site_id = ? AND i.distinct_id = ? ORDER BY v.started_at DESC, v.id DESC LIMIT 1
"""

VISIT_CONDITIONS = {
    "site": "v.site_id = :site",
    "started_from": "v.started_at >= :started_from",
    "started_before": "v.started_at < :started_before",
    "visitor": """v.visitor = (
        SELECT visitor FROM lastseen_identities WHERE site_id = :site AND distinct_id = :visitor
    )""",
    "active_since": "v.active_slot >= :active_slot AND v.last_activity_at >= :active_since",
    "bots": "v.is_bot = :bots",
    "start_reason": "v.start_reason = :start_reason",
    "url": "instr(v.entry_url, :url) > 0",
}

# The index knows ten minutes of the last activity, see the migration.
VISIT_ORDERS = {
    VisitOrder.NEWEST: "v.started_at DESC, v.id DESC",
    VisitOrder.OLDEST: "v.started_at, v.id",
    VisitOrder.LAST_ACTIVE: "v.active_slot DESC, v.last_activity_at DESC, v.id DESC",
}
VISIT_AFTER = {
    VisitOrder.NEWEST: "(v.started_at, v.id) < (:after_at, :after_id)",
    VisitOrder.OLDEST: "(v.started_at, v.id) > (:after_at, :after_id)",
    VisitOrder.LAST_ACTIVE: "v.active_slot <= :after_slot AND (v.last_activity_at, v.id) < (:after_at, :after_id)",
}

EVENT_CONDITIONS = {
    "site": "e.site_id = :site",
    "from": "e.at >= :from",
    "before": "e.at < :before",
    "distinct_id": """e.identity = (
        SELECT no FROM lastseen_identities WHERE site_id = :site AND distinct_id = :distinct_id
    )""",
    "name": "e.name = :name",
    "after_at": "e.at <= :after_at",
    "after_id": "(e.at, e.id) < (:after_at, :after_id)",
}

IN_PAGES = " ORDER BY 4 DESC, 2 DESC LIMIT :limit"

# The events of a distinct id, by their moments.
FROM_MOMENTS = """
FROM lastseen_event_moments AS m CROSS JOIN lastseen_events AS e ON e.seq = m.seq
CROSS JOIN lastseen_identities AS i ON i.no = e.identity
WHERE true
"""

SITES_WITH_OPEN_VISITS = """
WITH RECURSIVE sites (id) AS (
    SELECT min(site_id) FROM lastseen_visits WHERE is_open = 1
    UNION ALL
    SELECT (SELECT min(site_id) FROM lastseen_visits WHERE is_open = 1 AND site_id > sites.id) FROM sites
    WHERE sites.id IS NOT NULL
)
SELECT id FROM sites WHERE id IS NOT NULL
"""

# By their start, though many are overdue by their last activity: an index of that would be written with every event.
OVERDUE = """
SELECT body FROM lastseen_visits
WHERE is_open = 1 AND site_id = :site AND started_at < :started AND (last_activity_at < :silent OR started_at < :long)
ORDER BY started_at LIMIT :limit
"""

VISITOR_IDS = f"""
SELECT i.distinct_id FROM lastseen_identities AS i
WHERE i.site_id = ?1 AND i.distinct_id > ?2 AND i.visitor = i.no AND (
    EXISTS (
        SELECT 1 FROM lastseen_identities AS o JOIN lastseen_event_moments AS m ON m.identity = o.no
        WHERE o.visitor = i.no
    ) OR i.no IN (SELECT i.visitor {FROM_WAITING})
)
ORDER BY i.distinct_id LIMIT ?3
"""  # noqa: S608 - constants

# CROSS JOIN: see visit_transaction.
IDENTITIES_OF = """
FROM json_each(?2) AS wanted
CROSS JOIN lastseen_identities AS v ON v.site_id = ?1 AND v.distinct_id = wanted.value AND v.visitor = v.no
CROSS JOIN lastseen_identities AS i ON i.visitor = v.no
"""

EVENTS_OF_VISITORS = f"""
SELECT v.distinct_id, {EVENT} {IDENTITIES_OF}
CROSS JOIN lastseen_event_moments AS m ON m.identity = i.no AND m.at BETWEEN ?3 AND ?4
CROSS JOIN lastseen_events AS e ON e.seq = m.seq
UNION ALL
SELECT (SELECT distinct_id FROM lastseen_identities WHERE no = i.visitor), {EVENT} {FROM_WAITING}
AND e.at BETWEEN ?3 AND ?4 AND e.identity IN (SELECT i.no {IDENTITIES_OF})
"""  # noqa: S608 - constants

VISITS_OF_VISITORS = """
SELECT i.distinct_id, v.body FROM json_each(?2) AS wanted
CROSS JOIN lastseen_identities AS i ON i.site_id = ?1 AND i.distinct_id = wanted.value AND i.visitor = i.no
JOIN lastseen_visits AS v ON v.visitor = i.no
ORDER BY v.started_at, v.id
"""

ALL_EVENTS = f"SELECT e.seq, {EVENT} {FROM_EVENTS} WHERE e.seq > ? AND e.site_id = ? ORDER BY e.seq LIMIT ?"

PAGE = 1_000
ALWAYS = (-(2**63), 2**63 - 1)


class SQLiteVisitReading:
    """The questions of `VisitStore`."""

    _database: Database

    def get(self, site_id: str, visit_id: str) -> Visit | None:
        """See `VisitStore`."""
        if not (can_be_stored(site_id) and can_be_stored(visit_id)):
            return None
        with self._database.read() as connection:
            return find_visit(connection, site_id, visit_id)

    def get_by_visitor(self, site_id: str, distinct_id: str) -> Visit | None:
        """See `VisitStore`."""
        if not (can_be_stored(site_id) and can_be_stored(distinct_id)):
            return None
        visits = self._visits(NEWEST, (site_id, distinct_id))
        return visits[0] if visits else None

    def overdue(self, now: datetime, rules: Callable[[str], VisitRule], limit: int = 1_000) -> Sequence[Visit]:
        """See `VisitStore`."""
        micros = to_micros(now)
        found: dict[tuple[str, str], Visit] = {}
        for (site_id,) in self._ask(SITES_WITH_OPEN_VISITS, ()):
            rule = rules(site_id)
            silent, long = to_micros(now - rule.timeout), to_micros(now - rule.max_duration)
            parameters = {"site": site_id, "silent": silent, "long": long, "started": max(silent, long), "limit": limit}
            for visit in self._visits(OVERDUE, parameters):
                if close_overdue(visit, micros, rule) is not None:
                    found[site_id, visit.id] = visit
        return list(found.values())[:limit]

    def list_visits(self, query: VisitQuery) -> Sequence[Visit]:
        """See `VisitStore`."""
        values = visit_conditions(query)
        if not is_answerable(values):
            return []
        conditions = [VISIT_CONDITIONS[name] for name in values]
        if query.after is not None:
            conditions.append(VISIT_AFTER[query.order])
            values |= after_conditions(query.after) | {"after_slot": slot_of(query.after[0])}
        statement = (
            f"SELECT v.body FROM lastseen_visits AS v WHERE {' AND '.join(conditions)} "  # noqa: S608 - constants
            f"ORDER BY {VISIT_ORDERS[query.order]} LIMIT :limit"
        )
        return self._visits(statement, {**_with_slot(values), "limit": query.limit})

    def count_visits(self, query: VisitQuery) -> int:
        """See `VisitStore`."""
        values = visit_conditions(query)
        if not is_answerable(values):
            return 0
        conditions = " AND ".join(VISIT_CONDITIONS[name] for name in values)
        return int(self._ask(f"SELECT count(*) FROM lastseen_visits AS v WHERE {conditions}", _with_slot(values))[0][0])  # noqa: S608

    def list_events(self, query: EventQuery) -> Sequence[Event]:
        """See `VisitStore`."""
        values = event_conditions(query)
        if not is_answerable(values):
            return []
        values |= after_conditions(query.after)
        rows = self._ask(_events(EVENT, values) + IN_PAGES, {**values, "limit": query.limit})
        return [event_of(row) for row in rows]

    def count_events(self, query: EventQuery) -> int:
        """See `VisitStore`."""
        values = event_conditions(query)
        if not is_answerable(values):
            return 0
        return sum(count for (count,) in self._ask(_events("count(*)", values), values))

    def events_of(self, visit: Visit) -> Sequence[Event]:
        """See `VisitStore`."""
        moments = (visit.start, visit.last_event[0])
        events = self._events_of_visitors(visit.site_id, [visit.visitor_id], moments).get(visit.visitor_id, [])
        return [event for event in events if (visit.start, visit.id) <= event.order <= visit.last_event]

    def visitor_ids(self, site_id: str, after: str = "", limit: int = 1_000) -> Sequence[str]:
        """See `VisitStore`."""
        if not (can_be_stored(site_id) and can_be_stored(after)):
            return []
        return [distinct_id for (distinct_id,) in self._ask(VISITOR_IDS, (site_id, after, limit))]

    def events_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Event]]:
        """See `VisitStore`."""
        return self._events_of_visitors(site_id, visitor_ids, ALWAYS)

    def visits_of_visitors(self, site_id: str, visitor_ids: Sequence[str]) -> Mapping[str, Sequence[Visit]]:
        """See `VisitStore`."""
        visits: dict[str, list[Visit]] = {}
        for distinct_id, text in self._ask(VISITS_OF_VISITORS, (site_id, _json(visitor_ids))):
            visits.setdefault(distinct_id, []).append(visit_of(text))
        return visits

    def all_events(self, site_id: str) -> Iterator[Event]:
        """See `VisitStore`."""
        rows = self._ask(ALL_EVENTS, (0, site_id, PAGE))
        while rows:
            for _, *row in rows:
                yield event_of(row)
            rows = self._ask(ALL_EVENTS, (rows[-1][0], site_id, PAGE))

    def _events_of_visitors(
        self, site_id: str, visitor_ids: Sequence[str], moments: tuple[int, int]
    ) -> Mapping[str, Sequence[Event]]:
        events: dict[str, list[Event]] = {}
        for visitor_id, *row in self._ask(EVENTS_OF_VISITORS, (site_id, _json(visitor_ids), *moments)):
            events.setdefault(visitor_id, []).append(event_of(row))
        return {visitor_id: in_order(of_visitor) for visitor_id, of_visitor in events.items()}

    def _visits(self, statement: str, parameters: Any) -> list[Visit]:
        return [visit_of(text) for (text,) in self._ask(statement, parameters)]

    def _ask(self, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
        with self._database.read() as connection:
            return connection.execute(statement, parameters).fetchall()


def _with_slot(values: Mapping[str, Any]) -> Mapping[str, Any]:
    since = values.get("active_since")
    return values if since is None else {**values, "active_slot": slot_of(since)}


def _events(columns: str, values: Mapping[str, Any]) -> str:
    """Return the statement, or both of them, that find events under the conditions of these names."""
    conditions = " AND ".join(EVENT_CONDITIONS[name] for name in values)
    if "distinct_id" not in values:
        return f"SELECT {columns} {FROM_EVENTS} WHERE {conditions}"
    indexed = f"SELECT {columns} {FROM_MOMENTS} AND {conditions}"
    for name in ("e.at", "e.identity ="):
        indexed = indexed.replace(name, f"m{name[1:]}")
    return f"{indexed} UNION ALL SELECT {columns} {FROM_WAITING} AND {conditions}"


def find_visit(connection: sqlite3.Connection, site_id: str, visit_id: str) -> Visit | None:
    """Return the visit that begins with an event, or that the event is in."""
    for (text,) in connection.execute(GET, (site_id, visit_id)):
        return visit_of(text)
    for visitor, at in connection.execute(FIND_EVENT, (site_id, visit_id)).fetchall():
        for (text,) in connection.execute(AROUND, (visitor, at)):
            visit = visit_of(text)
            if (visit.start, visit.id) <= (at, visit_id) <= visit.last_event:
                return visit
    return None


def _json(texts: Sequence[str]) -> str:
    return json.dumps([text for text in dict.fromkeys(texts) if can_be_stored(text)])
