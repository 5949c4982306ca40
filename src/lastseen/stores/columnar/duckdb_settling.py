"""Which page a visit saw, with what is true of the visit beside it: written once, when the visit has come to rest.

Reports by page count different visitors. To remember every pair of a page and a visitor costs six times what the rest
of the question does, so each row says when the visitor saw the same page in the visit before: whoever did so before the
asked range began is counted by the first of the rows in it, and counting visitors is counting these rows.

A row is in `seen` exactly while its visit is settled (`visits.is_settled`), and tells of the row before it among the
rows that are there. Visits that go on or changed a moment ago are not; reports look at their events instead. Anything
that touches a settled visit takes its rows out again within the same transaction, so when a visit is settled is a
matter of speed alone.
"""

from __future__ import annotations

import duckdb

from lastseen.reports.terms import VISIT_DIMENSIONS

SETTLE_FROM = 10_000
"""So many visits at rest are settled together: it takes a look at all that is settled, however few they are."""
BEHIND = 10
"""So many times as many while more changes wait to be copied."""
QUIET = 3_600_000_000
"""A visit is at rest when others have been active an hour later, microseconds."""

TABLE = f"""
CREATE TABLE IF NOT EXISTS seen (
    site VARCHAR, page VARCHAR, visitor UHUGEINT, visit UHUGEINT, visit_start BIGINT, is_bot BOOLEAN,
    previous_start BIGINT, previous_start_of_kind BIGINT, duration BIGINT, engaged_ms BIGINT, is_bounce BOOLEAN,
    {", ".join(f'"{name}" VARCHAR' for name in VISIT_DIMENSIONS)}
);
"""
# What is true of the whole visit: to join it with what is filtered took longer than all the rest of a question.
OF_VISIT = ", ".join(f'{{0}}."{name}"' for name in ("duration", "engaged_ms", "is_bounce", *VISIT_DIMENSIONS))

# The row before among people only, or bots only, and among both: questions leave one of them out, or neither.
BEFORE = """
    lag(seen.visit_start) OVER (
        PARTITION BY seen.visitor, seen.page ORDER BY seen.visit_start, seen.visit
    ) AS previous_start,
    lag(seen.visit_start) OVER (
        PARTITION BY seen.visitor, seen.page, seen.is_bot ORDER BY seen.visit_start, seen.visit
    ) AS previous_start_of_kind
"""
# Not the newest of all: one clock that is a year ahead would have everything at rest that still goes on.
AT_REST = """
CREATE OR REPLACE TEMP TABLE settling AS
SELECT visit, start FROM visits
WHERE NOT is_settled
    AND last_moment <= (SELECT quantile_disc(last_moment, 0.99) FROM visits WHERE NOT is_settled) - $quiet
"""
COUNT_AT_REST = "SELECT count(*) FROM settling"
MARK_SETTLED = """
UPDATE visits SET is_settled = true FROM settling
WHERE visits.visit = settling.visit AND visits.start = settling.start
"""
NEW_SEEN = """
CREATE OR REPLACE TEMP TABLE new_seen AS
SELECT visits.site, events.page, visits.visitor, visits.visit, visits.start AS visit_start, visits.is_bot
FROM settling
JOIN visits ON visits.visit = settling.visit AND visits.start = settling.start
JOIN events ON events.visit = settling.visit AND events.visit_start = settling.start
WHERE events.is_first_on_page
"""
LATEST = """
CREATE OR REPLACE TEMP TABLE latest AS
SELECT seen.visitor, seen.page, max(seen.visit_start) AS start,
    max(seen.visit_start) FILTER (WHERE seen.is_bot) AS start_of_bot,
    max(seen.visit_start) FILTER (WHERE NOT seen.is_bot) AS start_of_person
FROM seen SEMI JOIN new_seen ON new_seen.visitor = seen.visitor AND new_seen.page IS NOT DISTINCT FROM seen.page
GROUP BY seen.visitor, seen.page
"""
# Right where all that is there began before: going through all the rows of the pairs takes ten times as long. Rows are
# not sorted: what is settled together began at about the same time, and fits into one block.
ADD_SEEN = f"""
INSERT INTO seen
SELECT seen.site, seen.page, seen.visitor, seen.visit, seen.visit_start, seen.is_bot,
    coalesce(seen.previous_start, latest.start),
    coalesce(
        seen.previous_start_of_kind, CASE WHEN seen.is_bot THEN latest.start_of_bot ELSE latest.start_of_person END
    ),
    {OF_VISIT.format("visits")}
FROM (SELECT seen.*, {BEFORE} FROM new_seen AS seen) AS seen
JOIN visits ON visits.visit = seen.visit AND visits.start = seen.visit_start
LEFT JOIN latest ON latest.visitor = seen.visitor AND latest.page IS NOT DISTINCT FROM seen.page
"""  # noqa: S608 - put together of constants
LINKING_LATE = """
CREATE OR REPLACE TEMP TABLE linking AS
SELECT DISTINCT new_seen.visitor, new_seen.page
FROM new_seen
JOIN latest ON latest.visitor = new_seen.visitor AND latest.page IS NOT DISTINCT FROM new_seen.page
WHERE latest.start >= new_seen.visit_start
"""
COUNT_LINKING = "SELECT count(*) FROM linking"
LINK = f"""
UPDATE seen
SET previous_start = linked.previous_start, previous_start_of_kind = linked.previous_start_of_kind
FROM (
    SELECT seen.rowid AS place, {BEFORE}
    FROM seen SEMI JOIN linking ON linking.visitor = seen.visitor AND linking.page IS NOT DISTINCT FROM seen.page
) AS linked
WHERE seen.rowid = linked.place
    AND (
        seen.previous_start IS DISTINCT FROM linked.previous_start
        OR seen.previous_start_of_kind IS DISTINCT FROM linked.previous_start_of_kind
    )
"""  # noqa: S608 - put together of constants

SPAN = "SELECT visitor, min(low) AS low, max(high) AS high FROM touched GROUP BY visitor"
UNSETTLING = f"""
CREATE OR REPLACE TEMP TABLE settling AS
WITH span AS ({SPAN})
SELECT seen.visit, seen.visit_start AS start
FROM seen JOIN span ON span.visitor = seen.visitor AND seen.visit_start BETWEEN span.low AND span.high
WHERE seen.visit_start BETWEEN $low AND $high
UNION
SELECT visits.visit, visits.start
FROM visits JOIN span ON span.visitor = visits.visitor AND visits.start BETWEEN span.low AND span.high
WHERE visits.is_settled AND visits.start BETWEEN $low AND $high
"""  # noqa: S608 - put together of constants
LINKING_REMOVED = """
CREATE OR REPLACE TEMP TABLE linking AS
SELECT DISTINCT seen.visitor, seen.page
FROM seen JOIN settling ON seen.visit = settling.visit AND seen.visit_start = settling.start
"""
REMOVE_SEEN = """
DELETE FROM seen USING settling WHERE seen.visit = settling.visit AND seen.visit_start = settling.start
"""
MARK_UNSETTLED = """
UPDATE visits SET is_settled = false FROM settling
WHERE visits.visit = settling.visit AND visits.start = settling.start
"""

BUILD_SEEN = f"""
CREATE TABLE built_seen AS
SELECT seen.site, seen.page, seen.visitor, seen.visit, seen.visit_start, seen.is_bot, {BEFORE},
    {OF_VISIT.format("seen")}
FROM (
    SELECT visits.site, events.page, visits.visitor, visits.visit, visits.start AS visit_start, visits.is_bot,
        {OF_VISIT.format("visits")}
    FROM visits JOIN events ON events.visit = visits.visit AND events.visit_start = visits.start
    WHERE visits.is_settled AND events.is_first_on_page
) AS seen
ORDER BY seen.visit_start
"""  # noqa: S608 - put together of constants
TAKE_BUILT = """
DROP TABLE seen;
ALTER TABLE built_seen RENAME TO seen;
"""


def settle(connection: duckdb.DuckDBPyConnection, at_least: int, quiet: int) -> None:
    """Settle the visits that are at rest, if there are so many; in the caller's transaction."""
    connection.execute(AT_REST, {"quiet": quiet})
    if connection.execute(COUNT_AT_REST).fetchall()[0][0] < at_least:
        return
    connection.execute(MARK_SETTLED)
    for statement in (NEW_SEEN, LATEST, ADD_SEEN, LINKING_LATE):
        connection.execute(statement)
    _link(connection)


def unsettle(connection: duckdb.DuckDBPyConnection, low: int, high: int) -> None:
    """Take out the visits that began in what was `touched`, all of which lies between two moments."""
    connection.execute(UNSETTLING, {"low": low, "high": high})
    if connection.execute(COUNT_AT_REST).fetchall()[0][0]:
        for statement in (LINKING_REMOVED, REMOVE_SEEN, MARK_UNSETTLED):
            connection.execute(statement)
        _link(connection)


def _link(connection: duckdb.DuckDBPyConnection) -> None:
    if connection.execute(COUNT_LINKING).fetchall()[0][0]:
        connection.execute(LINK)


def build(connection: duckdb.DuckDBPyConnection, quiet: int) -> None:
    """Settle all the visits that are at rest at once, where none is settled and events know their visits."""
    connection.execute(AT_REST, {"quiet": quiet})
    connection.execute(MARK_SETTLED)
    connection.execute(BUILD_SEEN)
    connection.execute(TAKE_BUILT)
