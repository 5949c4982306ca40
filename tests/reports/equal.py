"""Whether a DuckDB copy holds what the truth holds, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.visits.store import VisitStore
from lastseen.visits.visit import Visit
from tests.reports.plain import path, truth_of

EVENTS = """
SELECT site, id, visitor, visit, visit_start, is_bot, is_first_on_page, moment, page FROM events
"""
SETTLED = "SELECT visit FROM visits WHERE is_settled"
SEEN = """
SELECT site, visit, page, visitor, visit_start, is_bot, previous_start, previous_start_of_kind, duration, engaged_ms,
    is_bounce, source, entry, country
FROM seen
"""
VISITS = "SELECT site, id, visitor, start, last_moment, last_id, duration, is_bounce, source, entry FROM visits"


def digest(*parts: str) -> int:
    # DuckDB's md5_number reads the sixteen bytes from the last to the first.
    return int.from_bytes(hashlib.md5(":".join(parts).encode()).digest(), "little")


def assert_equal(copy: DuckDBCopy, store: VisitStore, sites: Iterable[str] = ("default", "other")) -> None:
    """Fail unless every event and visit is there once, under its visitor and in its visit."""
    events: list[tuple[Any, ...]] = []
    visits: list[tuple[Any, ...]] = []
    seen: list[tuple[Visit, str | None]] = []
    for site in sites:
        truth = truth_of(store, site)
        seen_pages: set[tuple[str, str | None]] = set()
        for each in sorted(truth.seen, key=lambda each: each.event.order):
            event, visit, page = each.event, each.visit, path(each.event.url)
            is_first = visit is not None and (visit.id, page) not in seen_pages
            if visit is not None:
                seen_pages.add((visit.id, page))
            in_visit = (digest(site, visit.id), visit.start) if visit else (None, None)
            marks = (*in_visit, each.is_bot, is_first)
            if visit is not None and is_first:
                seen.append((visit, page))
            events.append((site, event.id, digest(site, each.visitor), *marks, event.at, page))
        for v in truth.visits:
            row = (site, v.id, digest(site, v.visitor_id), v.start, *v.last_event, duration_of(v), v.is_bounce)
            visits.append((*row, source_of(v), path(v.landing_page)))
    assert sorted(rows(copy, EVENTS), key=repr) == sorted(events, key=repr)
    assert sorted(rows(copy, VISITS), key=repr) == sorted(visits, key=repr)
    settled = {visit for (visit,) in rows(copy, SETTLED)}
    expected = seen_rows([(v, page) for v, page in seen if digest(v.site_id, v.id) in settled])
    assert sorted(rows(copy, SEEN), key=repr) == sorted(expected, key=repr)


def seen_rows(seen: Iterable[tuple[Visit, str | None]]) -> list[tuple[Any, ...]]:
    """Return the rows of pages seen by settled visits, each knowing when its visitor had seen the page before."""
    found: list[tuple[Any, ...]] = []
    last: dict[tuple[Any, ...], int] = {}
    for v, page in sorted(seen, key=lambda pair: (pair[0].start, digest(pair[0].site_id, pair[0].id))):
        who = (v.site_id, v.visitor_id, page)
        before = (last.get(who), last.get((*who, v.is_bot)))
        last[who] = last[(*who, v.is_bot)] = v.start
        figures = (duration_of(v), v.engaged_ms, v.is_bounce)
        of_visit = (source_of(v), path(v.landing_page), v.geo and v.geo.country)
        keys = (v.site_id, digest(v.site_id, v.id), page, digest(v.site_id, v.visitor_id))
        found.append((*keys, v.start, v.is_bot, *before, *figures, *of_visit))
    return found


def duration_of(visit: Visit) -> int:
    return (visit.last_activity if visit.end is None else visit.end) - visit.start


def source_of(visit: Visit) -> str | None:
    return (visit.utm and visit.utm.source) or visit.referrer_domain


def rows(copy: DuckDBCopy, statement: str) -> list[tuple[Any, ...]]:
    """Return what the copy's own tables hold."""
    with copy._connection.cursor() as cursor:
        return cursor.execute(statement).fetchall()
