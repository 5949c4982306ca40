"""Events of visits that have come to rest, written once more with what is true of their visit beside them.

Reports look at these rows alone where a question is about events and visits at once: to join millions of the one with
the other takes longer than all the rest. Marks say which event stands for its visit, for its page in the visit, for its
name in the visit, so that nothing has to be remembered to count each once. Each row also says how many events its
visit has, on this page, and of this name: those that a filter stops tell then whether there are others that pass.

Reports by page count different visitors. To remember every pair of a visitor and a page costs six times what the rest
of the question does, so each row bears the number of its pair, and when the visitor saw the page in the visit before:
whoever did so before the asked range began is counted by the first visit in it.

An event is in `settled` exactly while its visit is (`visits.is_settled`), and tells of the visit before among those
that are there. Visits that go on or changed a moment ago are not; reports join their events instead. Anything that
touches a settled visit takes its rows out again within the same transaction, so when a visit is settled is a matter of
speed alone.
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

EVENT_COLUMNS = (
    "site", "visitor", "moment", "name", "page", "is_page_view", "is_passive", "properties", "visit", "visit_start",
    "is_bot", "is_first_on_page",
)  # fmt: skip
VISIT_COLUMNS = ("duration", "engaged_ms", "is_bounce", *VISIT_DIMENSIONS)
OF_EVENT = ", ".join(f"events.{name}" for name in EVENT_COLUMNS)
OF_VISIT = ", ".join(f'visits."{name}"' for name in VISIT_COLUMNS)

CREATE = f"""
CREATE TABLE IF NOT EXISTS {{name}} (
    site VARCHAR, visitor UHUGEINT, moment BIGINT, name VARCHAR, page VARCHAR, is_page_view BOOLEAN,
    is_passive BOOLEAN, properties VARIANT, visit UHUGEINT, visit_start BIGINT, is_bot BOOLEAN,
    is_first_on_page BOOLEAN, is_first_in_visit BOOLEAN, is_first_of_name BOOLEAN,
    events_on_page INTEGER, events_in_visit INTEGER, events_of_name INTEGER,
    pair BIGINT, spot UINTEGER, previous_start BIGINT, previous_start_of_kind BIGINT USING COMPRESSION bitpacking,
    duration BIGINT, engaged_ms BIGINT, is_bounce BOOLEAN, {", ".join(f'"{name}" VARCHAR' for name in VISIT_DIMENSIONS)}
);
"""
TABLE = CREATE.format(name="settled")
"""Most reports by page look at all of one column. The engine would take what is a little smaller, and read in twice
the time."""
SPOT = "(hash({0}.visitor, {0}.page) >> 32)::UINTEGER"
"""Of a visitor and a page: rarely the same for another two, and compared in a fifth of the time."""
SAMPLES = """
SELECT hash(7::UHUGEINT, '/a'), hash(md5_number(''), '/of more than twelve bytes'), hash(1::UHUGEINT, NULL::VARCHAR)
"""
"""Another engine may mix otherwise: what it finds in a copy must be what it would have written there."""
# A visit has the id of its first event, and a name counts by the first event that has it.
MARKS = """
    events.id = visits.id AS is_first_in_visit, events.id = names.id AS is_first_of_name,
    seen.events_on_page, sizes.events_in_visit, names.events_of_name
"""
NAMES = """
SELECT events.visit, events.name, arg_min(events.id, (events.moment, events.id)) AS id,
    count(*)::INTEGER AS events_of_name
FROM events {} WHERE events.visit IS NOT NULL GROUP BY events.visit, events.name
"""
# Most pages are seen once in a visit, so that only what is more than that has to be grouped.
EVENTS_ON_PAGE = "(1 + coalesce(more.events, 0))::INTEGER AS events_on_page"
MORE = """
LEFT JOIN (
    SELECT events.visit, events.page, count(*) AS events
    FROM events {} WHERE NOT events.is_first_on_page AND events.visit IS NOT NULL GROUP BY events.visit, events.page
) AS more ON more.visit = seen.visit AND more.page IS NOT DISTINCT FROM seen.page
"""
SIZES_OF_VISITS = """
JOIN (
    SELECT visit, sum(events_on_page)::INTEGER AS events_in_visit FROM {} GROUP BY visit
) AS sizes ON sizes.visit = events.visit
"""
OF_SETTLING = "JOIN settling ON settling.visit = events.visit AND settling.start = events.visit_start"
# The visit before among people only, or bots only, and among both: questions leave one of them out, or neither.
BEFORE = """
    lag(seen.visit_start, 1, {never}) OVER (
        PARTITION BY {pair} ORDER BY seen.visit_start, seen.visit
    ) AS previous_start,
    lag(seen.visit_start, 1, {never}) OVER (
        PARTITION BY {pair}, seen.is_bot ORDER BY seen.visit_start, seen.visit
    ) AS previous_start_of_kind
"""
FIRST = """
    first_value(seen.{}) OVER (PARTITION BY seen.visitor, seen.page ORDER BY seen.visit_start, seen.visit)
"""
NEVER = -(10**17)
"""When a visitor saw a page before who never did: earlier than any range. A column with gaps would be packed in a way
that takes five times as long to read."""
BEFORE_IN_BATCH = BEFORE.format(pair="seen.visitor, seen.page", never="NULL")
BEFORE_OF_PAIR = BEFORE.format(pair="seen.visitor, seen.page", never=NEVER)
BEFORE_OF_NUMBER = BEFORE.format(pair="seen.pair", never=NEVER)
# Not the newest of all: one clock that is a year ahead would have everything at rest that still goes on.
AT_REST = """
CREATE OR REPLACE TEMP TABLE settling AS
SELECT visit, start FROM visits
WHERE NOT is_settled
    AND last_moment <= (SELECT quantile_disc(last_moment, 0.99) FROM visits WHERE NOT is_settled) - $quiet
"""
MARK_SETTLED = """
UPDATE visits SET is_settled = true FROM settling
WHERE visits.visit = settling.visit AND visits.start = settling.start
"""
# Each visit once for every page that it saw. With places of its own: the engine numbers rows that a transaction adds
# from 2**55 on, and each of these would add that much to the highest pair, until there is no higher number.
NEW_SEEN = f"""
CREATE OR REPLACE TEMP TABLE new_seen AS
SELECT seen.visitor, seen.page, seen.visit, seen.visit_start, seen.is_bot, {SPOT.format("seen")} AS spot,
    {FIRST.format("place")} AS place, {EVENTS_ON_PAGE}, {BEFORE_IN_BATCH}
FROM (
    SELECT events.*, row_number() OVER () AS place FROM events {OF_SETTLING} WHERE events.is_first_on_page
) AS seen
{MORE.format(OF_SETTLING)}
"""  # noqa: S608 - put together of constants
LATEST = """
CREATE OR REPLACE TEMP TABLE latest AS
SELECT seen.visitor, seen.page, any_value(seen.pair) AS pair, max(seen.visit_start) AS start,
    max(seen.visit_start) FILTER (WHERE seen.is_bot) AS start_of_bot,
    max(seen.visit_start) FILTER (WHERE NOT seen.is_bot) AS start_of_person
FROM (SELECT * FROM settled WHERE is_first_on_page AND spot IN (SELECT spot FROM new_seen)) AS seen
SEMI JOIN new_seen ON new_seen.visitor = seen.visitor AND new_seen.page IS NOT DISTINCT FROM seen.page
GROUP BY seen.visitor, seen.page
"""
# Right where all that is there began before: going through all the rows of the pairs takes ten times as long. Rows are
# not sorted: what is settled together began at about the same time, and fits into one block.
ADD_SETTLED = f"""
INSERT INTO settled
SELECT {OF_EVENT}, {MARKS},
    coalesce(latest.pair, seen.place + 1 + (SELECT coalesce(max(pair), 0) FROM settled)), seen.spot,
    coalesce(seen.previous_start, latest.start, {NEVER}),
    coalesce(
        seen.previous_start_of_kind, CASE WHEN seen.is_bot THEN latest.start_of_bot ELSE latest.start_of_person END,
        {NEVER}
    ),
    {OF_VISIT}
FROM settling
JOIN visits ON visits.visit = settling.visit AND visits.start = settling.start
JOIN events ON events.visit = settling.visit AND events.visit_start = settling.start
JOIN new_seen AS seen ON seen.visit = events.visit AND seen.page IS NOT DISTINCT FROM events.page
LEFT JOIN latest ON latest.visitor = seen.visitor AND latest.page IS NOT DISTINCT FROM seen.page
{SIZES_OF_VISITS.format("new_seen")}
LEFT JOIN ({NAMES.format(OF_SETTLING)}
) AS names ON names.visit = events.visit AND names.name = events.name
"""  # noqa: S608 - put together of constants
LINKING_LATE = """
CREATE OR REPLACE TEMP TABLE linking AS
SELECT DISTINCT latest.pair
FROM new_seen
JOIN latest ON latest.visitor = new_seen.visitor AND latest.page IS NOT DISTINCT FROM new_seen.page
WHERE latest.start >= new_seen.visit_start
"""
COUNT_LINKING = "SELECT count(*) FROM linking"
LINK = f"""
UPDATE settled
SET previous_start = linked.previous_start, previous_start_of_kind = linked.previous_start_of_kind
FROM (
    SELECT seen.visit, seen.visit_start, seen.pair, {BEFORE_OF_NUMBER}
    FROM settled AS seen SEMI JOIN linking ON linking.pair = seen.pair
    WHERE seen.is_first_on_page
) AS linked
WHERE settled.pair = linked.pair AND settled.visit = linked.visit AND settled.visit_start = linked.visit_start
    AND (
        settled.previous_start IS DISTINCT FROM linked.previous_start
        OR settled.previous_start_of_kind IS DISTINCT FROM linked.previous_start_of_kind
    )
"""  # noqa: S608 - put together of constants

SPAN = "SELECT visitor, min(low) AS low, max(high) AS high FROM touched GROUP BY visitor"
UNSETTLING = f"""
CREATE OR REPLACE TEMP TABLE settling AS
WITH span AS ({SPAN})
SELECT seen.visit, seen.visit_start AS start
FROM settled AS seen JOIN span ON span.visitor = seen.visitor AND seen.visit_start BETWEEN span.low AND span.high
WHERE seen.visit_start BETWEEN $low AND $high
UNION
SELECT visits.visit, visits.start
FROM visits JOIN span ON span.visitor = visits.visitor AND visits.start BETWEEN span.low AND span.high
WHERE visits.is_settled AND visits.start BETWEEN $low AND $high
"""  # noqa: S608 - put together of constants
LINKING_REMOVED = """
CREATE OR REPLACE TEMP TABLE linking AS
SELECT DISTINCT settled.pair
FROM settled JOIN settling ON settled.visit = settling.visit AND settled.visit_start = settling.start
"""
REMOVE_SETTLED = """
DELETE FROM settled USING settling WHERE settled.visit = settling.visit AND settled.visit_start = settling.start
"""
MARK_UNSETTLED = """
UPDATE visits SET is_settled = false FROM settling
WHERE visits.visit = settling.visit AND visits.start = settling.start
"""

# Pairs have any number that no other has: that of their first row. The rows come in the order of events.
BUILD_SEEN = f"""
CREATE TEMP TABLE built_seen AS
SELECT seen.visit, seen.page, {SPOT.format("seen")} AS spot, {FIRST.format("rowid")} + 1 AS pair, {EVENTS_ON_PAGE},
    {BEFORE_OF_PAIR}
FROM events AS seen SEMI JOIN visits ON visits.visit = seen.visit AND visits.is_settled
{MORE.format("")}
WHERE seen.is_first_on_page
"""  # noqa: S608 - put together of constants
BUILD_SETTLED = f"""
{CREATE.format(name="built_settled")}
INSERT INTO built_settled
SELECT {OF_EVENT}, {MARKS}, seen.pair, seen.spot, seen.previous_start, seen.previous_start_of_kind, {OF_VISIT}
FROM events
JOIN visits ON visits.visit = events.visit AND visits.is_settled
JOIN built_seen AS seen ON seen.visit = events.visit AND seen.page IS NOT DISTINCT FROM events.page
{SIZES_OF_VISITS.format("built_seen")}
LEFT JOIN ({NAMES.format("")}
) AS names ON names.visit = events.visit AND names.name = events.name
"""  # noqa: S608 - put together of constants
TAKE_BUILT = """
DROP TABLE built_seen;
DROP TABLE settled;
ALTER TABLE built_settled RENAME TO settled;
"""


def settle(connection: duckdb.DuckDBPyConnection, at_least: int, quiet: int) -> None:
    """Settle the visits that are at rest, if there are so many; in the caller's transaction."""
    if connection.execute(AT_REST, {"quiet": quiet}).fetchall()[0][0] < at_least:
        return
    connection.execute(MARK_SETTLED)
    for statement in (NEW_SEEN, LATEST, ADD_SETTLED, LINKING_LATE):
        connection.execute(statement)
    _link(connection)


def unsettle(connection: duckdb.DuckDBPyConnection, low: int, high: int) -> None:
    """Take out the visits that began in what was `touched`, all of which lies between two moments."""
    if connection.execute(UNSETTLING, {"low": low, "high": high}).fetchall()[0][0]:
        for statement in (LINKING_REMOVED, REMOVE_SETTLED, MARK_UNSETTLED):
            connection.execute(statement)
        _link(connection)


def _link(connection: duckdb.DuckDBPyConnection) -> None:
    if connection.execute(COUNT_LINKING).fetchall()[0][0]:
        connection.execute(LINK)


def build(connection: duckdb.DuckDBPyConnection, quiet: int) -> None:
    """Settle all the visits that are at rest at once, where none is settled and events know their visits."""
    connection.execute(AT_REST, {"quiet": quiet})
    connection.execute(MARK_SETTLED)
    for statement in (BUILD_SEEN, BUILD_SETTLED, TAKE_BUILT):
        connection.execute(statement)
