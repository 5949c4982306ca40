"""Whether a DuckDB copy holds what the truth holds, row by row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.columnar.duckdb_settling import NEVER
from lastseen.visits.store import VisitStore
from lastseen.visits.visit import Visit
from tests.reports.plain import Seen, path, truth_of

EVENTS = """
SELECT site, id, visitor, visit, visit_start, is_bot, is_first_on_page, moment, page FROM events
"""
SETTLED = "SELECT visit FROM visits WHERE is_settled"
ROWS_OF_SETTLED = """
SELECT site, visit, page, name, moment, visitor, visit_start, is_bot, is_first_on_page, is_first_in_visit,
    is_first_of_name, events_on_page, events_in_visit, events_of_name, pair, previous_start,
    previous_start_of_kind, duration, engaged_ms, is_bounce, source, entry, country
FROM settled
"""
PAIRS = """
SELECT count(*), count(DISTINCT pair), count(DISTINCT (pair, spot)) FROM (
    SELECT DISTINCT visitor, page, pair, spot FROM settled
)
"""
VISITS = "SELECT site, id, visitor, start, last_moment, last_id, duration, is_bounce, source, entry FROM visits"


def digest(*parts: str) -> int:
    # DuckDB's md5_number reads the sixteen bytes from the last to the first.
    return int.from_bytes(hashlib.md5(":".join(parts).encode()).digest(), "little")


def assert_equal(copy: DuckDBCopy, store: VisitStore, sites: Iterable[str] = ("default", "other")) -> None:
    """Fail unless every event and visit is there once, under its visitor and in its visit."""
    events: list[tuple[Any, ...]] = []
    visits: list[tuple[Any, ...]] = []
    seen: list[Seen] = []
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
            if visit is not None:
                seen.append(each)
            events.append((site, event.id, digest(site, each.visitor), *marks, event.at, page))
        for v in truth.visits:
            row = (site, v.id, digest(site, v.visitor_id), v.start, *v.last_event, duration_of(v), v.is_bounce)
            visits.append((*row, source_of(v), path(v.landing_page)))
    assert sorted(rows(copy, EVENTS), key=repr) == sorted(events, key=repr)
    assert sorted(rows(copy, VISITS), key=repr) == sorted(visits, key=repr)
    settled = {visit for (visit,) in rows(copy, SETTLED)}
    expected = settled_rows([each for each in seen if each.visit and digest(site_of(each), each.visit.id) in settled])
    assert sorted(without_pairs(rows(copy, ROWS_OF_SETTLED)), key=repr) == sorted(expected, key=repr)
    ((pairs, numbers, marked_numbers),) = rows(copy, PAIRS)
    assert pairs == numbers == marked_numbers


PAIR = 14
"""The place of a pair's number, which may be any."""


def without_pairs(found: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:PAIR], *row[PAIR + 1 :]) for row in found]


def site_of(seen: Seen) -> str:
    return seen.event.site_id


def settled_rows(seen: Sequence[Seen]) -> list[tuple[Any, ...]]:
    """Return the events of settled visits, each with its visit and when its visitor had seen the page before that."""
    found: list[tuple[Any, ...]] = []
    last: dict[tuple[Any, ...], int] = {}
    before: dict[tuple[Any, ...], tuple[int, int]] = {}
    known: set[tuple[Any, ...]] = set()
    sizes = sizes_of(seen)

    def is_first(*what: Any) -> bool:
        is_new = what not in known
        known.add(what)
        return is_new

    def order(each: Seen) -> tuple[Any, ...]:
        assert each.visit is not None
        return each.visit.start, digest(site_of(each), each.visit.id), each.event.order

    for each in sorted(seen, key=order):
        v, event, page = each.visit, each.event, path(each.event.url)
        assert v is not None
        visit = (v.site_id, v.id)
        marks = (is_first("page", *visit, page), is_first("visit", *visit), is_first("name", *visit, event.name))
        who = (v.site_id, v.visitor_id, page)
        if marks[0]:
            before[(*visit, page)] = (last.get(who, NEVER), last.get((*who, v.is_bot), NEVER))
            last[who] = last[(*who, v.is_bot)] = v.start
        counts = tuple(sizes[(*visit, *what)] for what in (("page", page), (), ("name", event.name)))
        figures = (duration_of(v), v.engaged_ms, v.is_bounce)
        of_visit = (source_of(v), path(v.landing_page), v.geo and v.geo.country)
        keys = (v.site_id, digest(*visit), page, event.name, event.at, digest(v.site_id, v.visitor_id))
        found.append((*keys, v.start, v.is_bot, *marks, *counts, *before[(*visit, page)], *figures, *of_visit))
    return found


def sizes_of(seen: Iterable[Seen]) -> Counter[tuple[Any, ...]]:
    """Return how many events there are in each visit, on each of its pages, and of each name."""
    sizes: Counter[tuple[Any, ...]] = Counter()
    for each in seen:
        assert each.visit is not None
        visit = (each.visit.site_id, each.visit.id)
        sizes.update([visit, (*visit, "page", path(each.event.url)), (*visit, "name", each.event.name)])
    return sizes


def duration_of(visit: Visit) -> int:
    return (visit.last_activity if visit.end is None else visit.end) - visit.start


def source_of(visit: Visit) -> str | None:
    return (visit.utm and visit.utm.source) or visit.referrer_domain


def rows(copy: DuckDBCopy, statement: str) -> list[tuple[Any, ...]]:
    """Return what the copy's own tables hold."""
    with copy._connection.cursor() as cursor:
        return cursor.execute(statement).fetchall()
