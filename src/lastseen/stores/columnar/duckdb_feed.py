"""How a batch of changes gets into the DuckDB copy: one transaction, a handful of set statements.

Ids of visitors and visits are kept as 128-bit digests: half the size of the usual id, quick to join and to count, and
nothing has to be looked up to insert them. Each column comes in as one JSON text: twenty times as fast as bound rows,
and half the work of one text of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import msgspec

from lastseen.stores.columnar import duckdb_settling as settling
from lastseen.stores.columnar.rows import event_columns, visit_columns
from lastseen.visits.store import Changes

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name VARCHAR, value VARCHAR);
CREATE TABLE IF NOT EXISTS identities (identity UHUGEINT, visitor UHUGEINT);
CREATE TABLE IF NOT EXISTS events (
    site VARCHAR, id VARCHAR, identity UHUGEINT, visitor UHUGEINT, moment BIGINT, name VARCHAR, page VARCHAR,
    is_page_view BOOLEAN, is_passive BOOLEAN, is_bot_event BOOLEAN, properties VARIANT,
    visit UHUGEINT, visit_start BIGINT, is_bot BOOLEAN, is_first_on_page BOOLEAN
);
CREATE TABLE IF NOT EXISTS visits (
    site VARCHAR, id VARCHAR, visit UHUGEINT, visitor UHUGEINT, start BIGINT, last_moment BIGINT, last_id VARCHAR,
    duration BIGINT, engaged_ms BIGINT, is_bounce BOOLEAN, is_bot BOOLEAN, entry VARCHAR, "exit" VARCHAR,
    source VARCHAR, referrer VARCHAR, channel VARCHAR, utm_source VARCHAR, utm_medium VARCHAR, utm_campaign VARCHAR,
    utm_term VARCHAR, utm_content VARCHAR, country VARCHAR, region VARCHAR, city VARCHAR, device VARCHAR,
    browser VARCHAR, os VARCHAR, is_settled BOOLEAN
);
"""

EVENT_TYPES = {"id": "VARCHAR", "moment": "BIGINT", "sender": "INTEGER", "kind": "INTEGER"}
SENDER_TYPES = {"place": "INTEGER", "site": "VARCHAR", "distinct_id": "VARCHAR"}
KIND_TYPES = {
    "place": "INTEGER",
    "name": "VARCHAR",
    "page": "VARCHAR",
    "is_page_view": "BOOLEAN",
    "is_passive": "BOOLEAN",
    "is_bot": "BOOLEAN",
    "properties": "JSON",
}
_TEXTS = ("entry", "exit", "source", "referrer", "channel", "country", "region", "city", "device", "browser", "os")
_CAMPAIGN = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
VISIT_TYPES = {
    "site": "VARCHAR",
    "id": "VARCHAR",
    "visitor_id": "VARCHAR",
    "start": "BIGINT",
    "last_moment": "BIGINT",
    "last_id": "VARCHAR",
    "duration": "BIGINT",
    "engaged_ms": "BIGINT",
    "is_bounce": "BOOLEAN",
    "is_bot": "BOOLEAN",
    **dict.fromkeys([*_TEXTS, *_CAMPAIGN], "VARCHAR"),
}


_encode = msgspec.json.Encoder().encode


def _unnested(types: Mapping[str, str]) -> str:
    """Return the columns of parameters that are each the JSON of a list, named like the columns."""
    return ", ".join(f'unnest(from_json(${name}, \'["{of}"]\')) AS "{name}"' for name, of in types.items())


NEW_EVENTS = f"CREATE OR REPLACE TEMP TABLE new_events AS SELECT {_unnested(EVENT_TYPES)}"
# After the identities of the batch have moved.
SENDERS = f"""
CREATE OR REPLACE TEMP TABLE senders AS
SELECT new.place, new.site, new.identity, coalesce(identities.visitor, new.identity) AS visitor
FROM (SELECT *, md5_number(site || ':' || distinct_id) AS identity FROM (SELECT {_unnested(SENDER_TYPES)})) AS new
LEFT JOIN identities ON identities.identity = new.identity
"""  # noqa: S608 - put together of constants
KINDS = f"""
CREATE OR REPLACE TEMP TABLE kinds AS
SELECT * REPLACE (properties::VARIANT AS properties) FROM (SELECT {_unnested(KIND_TYPES)})
"""  # noqa: S608 - put together of constants
NEW_VISITS = f"""
CREATE OR REPLACE TEMP TABLE new_visits AS
SELECT *, md5_number(site || ':' || id) AS visit, md5_number(site || ':' || visitor_id) AS visitor
FROM (SELECT {_unnested(VISIT_TYPES)})
"""  # noqa: S608 - put together of constants
# Which moments of which visitors change, or are in a visit that does; before `since` nothing does, where that is known.
TOUCHED = "CREATE OR REPLACE TEMP TABLE touched (visitor UHUGEINT, low BIGINT, high BIGINT, since BIGINT)"
NEW_IDENTITIES = """
CREATE OR REPLACE TEMP TABLE moved AS
SELECT new.identity, new.visitor, coalesce(old.visitor, new.identity) AS left_visitor
FROM (
    SELECT md5_number(row.site || ':' || row.one) AS identity, md5_number(row.site || ':' || row.other) AS visitor
    FROM (SELECT unnest(from_json($1::JSON, '[{"site":"VARCHAR","one":"VARCHAR","other":"VARCHAR"}]')) AS row)
) AS new
LEFT JOIN identities AS old ON old.identity = new.identity
WHERE new.visitor <> coalesce(old.visitor, new.identity)
"""
TOUCH_MOVED = """
INSERT INTO touched
SELECT unnest([visitor, left_visitor]), low, high, low
FROM (
    SELECT moved.visitor, moved.left_visitor, min(events.moment) AS low, max(events.moment) AS high
    FROM events JOIN moved ON moved.identity = events.identity GROUP BY ALL
)
"""
MOVE_EVENTS = "UPDATE events SET visitor = moved.visitor FROM moved WHERE events.identity = moved.identity"
FORGET_IDENTITIES = "DELETE FROM identities USING moved WHERE identities.identity = moved.identity"
ADD_IDENTITIES = "INSERT INTO identities SELECT identity, visitor FROM moved WHERE visitor <> identity"

TOUCH_ERASED = """
INSERT INTO touched
SELECT events.visitor, events.moment, events.moment, events.moment
FROM events JOIN (
    SELECT row.* FROM (SELECT unnest(from_json($1::JSON, '[{"site":"VARCHAR","id":"VARCHAR"}]')) AS row)
) AS gone ON events.site = gone.site AND events.id = gone.id
"""
ERASE_EVENTS = """
DELETE FROM events USING (
    SELECT row.* FROM (SELECT unnest(from_json($1::JSON, '[{"site":"VARCHAR","id":"VARCHAR"}]')) AS row)
) AS gone
WHERE events.site = gone.site AND events.id = gone.id
"""

# A visit's id is that of its first event, so the same id has the same start: the join prunes by it.
OLD_VISITS = """
CREATE OR REPLACE TEMP TABLE old_visits AS
SELECT old.visit, old.visitor, old.last_moment, old.is_bot
FROM visits AS old JOIN new_visits AS new ON old.visit = new.visit AND old.start = new.start
"""
# Most visits only go on: what was in them stays there.
TOUCH_VISITS = """
INSERT INTO touched
SELECT unnest(CASE WHEN new.visitor <> old.visitor THEN [new.visitor, old.visitor] ELSE [new.visitor] END),
    new.start, greatest(new.last_moment, old.last_moment),
    CASE WHEN new.visitor = old.visitor AND new.is_bot = old.is_bot THEN least(new.last_moment, old.last_moment)
        ELSE new.start END
FROM new_visits AS new LEFT JOIN old_visits AS old ON old.visit = new.visit
"""
REMOVE_OLD_VISITS = (
    "DELETE FROM visits USING new_visits AS new WHERE visits.visit = new.visit AND visits.start = new.start"
)
REMOVED = """
CREATE OR REPLACE TEMP TABLE removed AS
SELECT md5_number(row.site || ':' || row.id) AS visit
FROM (SELECT unnest(from_json($1::JSON, '[{"site":"VARCHAR","id":"VARCHAR"}]')) AS row)
"""
TOUCH_REMOVED = """
INSERT INTO touched
SELECT visits.visitor, visits.start, visits.last_moment, visits.start
FROM visits JOIN removed ON removed.visit = visits.visit
"""
REMOVE_VISITS = "DELETE FROM visits USING removed WHERE visits.visit = removed.visit"
ADD_VISITS = """
INSERT INTO visits
SELECT site, id, visit, visitor, start, last_moment, last_id, duration, engaged_ms, is_bounce, is_bot, entry, "exit",
    source, referrer, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, region, city,
    device, browser, os, false
FROM new_visits
"""
ADD_EVENTS = """
INSERT INTO events
SELECT senders.site, new.id, senders.identity, senders.visitor, new.moment, kinds.name, kinds.page,
    kinds.is_page_view, kinds.is_passive, kinds.is_bot, kinds.properties, NULL, NULL, kinds.is_bot, false
FROM new_events AS new JOIN senders ON senders.place = new.sender JOIN kinds ON kinds.place = new.kind
ORDER BY new.moment
"""
TOUCH_NEW = """
INSERT INTO touched
SELECT senders.visitor, new.low, new.high, new.low
FROM (SELECT sender, min(moment) AS low, max(moment) AS high FROM new_events GROUP BY sender) AS new
JOIN senders ON senders.place = new.sender
"""
TOUCHED_RANGE = "SELECT min(low), max(high), min(since) FROM touched"
# A batch may end between a visit that grew and the removal of those that it took in, so that only a part of it is
# touched: whole visits are looked at.
TOUCH_WHOLE_VISITS = """
INSERT INTO touched
SELECT visits.visitor, visits.start, visits.last_moment, NULL
FROM visits
JOIN (SELECT visitor, min(low) AS low, max(high) AS high FROM touched GROUP BY visitor) AS span
    ON span.visitor = visits.visitor AND visits.start <= span.high AND visits.last_moment >= span.low
WHERE visits.start <= $high AND visits.last_moment >= $low
"""
SPAN = "SELECT visitor, min(since) AS since, max(high) AS high FROM touched GROUP BY visitor"
# Which visit an event is in follows from the places (moment, id) of the visit's first and last event. The bounds are
# constants so that whole blocks of rows are skipped by their least and greatest value. New events have a place below 0.
FOUND = f"""
CREATE OR REPLACE TEMP TABLE found AS
WITH span AS ({SPAN}),
within AS (
    SELECT events.rowid AS place, NULL AS sender, NULL AS kind, events.id, events.visitor, events.moment, events.page,
        events.is_bot_event
    FROM events JOIN span ON span.visitor = events.visitor AND events.moment BETWEEN span.since AND span.high
    WHERE events.moment BETWEEN $since AND $high
    UNION ALL
    SELECT -1 - new.rowid, new.sender, new.kind, new.id, senders.visitor, new.moment, kinds.page, kinds.is_bot
    FROM new_events AS new JOIN senders ON senders.place = new.sender JOIN kinds ON kinds.place = new.kind
)
SELECT within.place, within.sender, within.kind, within.id, within.moment, within.page, visits.visit, visits.start,
    coalesce(visits.is_bot, within.is_bot_event) AS is_bot
FROM within
LEFT JOIN visits
    ON visits.visitor = within.visitor
    AND visits.start <= within.moment AND (visits.start < within.moment OR visits.id <= within.id)
    AND visits.last_moment >= within.moment AND (visits.last_moment > within.moment OR visits.last_id >= within.id)
    AND visits.start <= $high AND visits.last_moment >= $since
"""  # noqa: S608 - put together of constants
# Whether an event is the first on its page depends on those before it, too: of these the first ones tell.
FIRSTS = f"""
CREATE OR REPLACE TEMP TABLE firsts AS
WITH span AS ({SPAN})
SELECT first.place, first.visit
FROM (
    SELECT visit, page, arg_min(place, (moment, id)) AS place FROM found WHERE visit IS NOT NULL GROUP BY visit, page
) AS first
ANTI JOIN (
    SELECT events.visit, events.page
    FROM events JOIN span ON span.visitor = events.visitor AND events.moment < span.since
    WHERE events.is_first_on_page AND events.moment BETWEEN $low AND $high
) AS before ON before.visit = first.visit AND before.page IS NOT DISTINCT FROM first.page
"""  # noqa: S608 - put together of constants
WITH_FIRSTS = "found LEFT JOIN firsts ON firsts.place = found.place AND firsts.visit = found.visit"
ASSIGN = f"""
UPDATE events
SET visit = found.visit, visit_start = found.start, is_bot = found.is_bot, is_first_on_page = found.is_first_on_page
FROM (SELECT found.*, firsts.place IS NOT NULL AS is_first_on_page FROM {WITH_FIRSTS} WHERE found.place >= 0) AS found
WHERE events.rowid = found.place
    AND (
        events.visit IS DISTINCT FROM found.visit OR events.is_bot IS DISTINCT FROM found.is_bot
        OR events.is_first_on_page IS DISTINCT FROM found.is_first_on_page
    )
"""  # noqa: S608 - put together of constants
# Until the removal of a visit comes that another one took in, an event may be in both.
COUNT_NEW_FOUND = "SELECT count(*) FROM found WHERE place < 0"
REMOVE_DOUBLES = """
DELETE FROM found WHERE place < 0 AND rowid NOT IN (SELECT min(rowid) FROM found WHERE place < 0 GROUP BY place)
"""
# What returns something is added on one thread: for so few rows several take half as much again.
ADD_ASSIGNED_EVENTS = f"""
INSERT INTO events
SELECT senders.site, found.id, senders.identity, senders.visitor, found.moment, kinds.name, kinds.page,
    kinds.is_page_view, kinds.is_passive, kinds.is_bot, kinds.properties, found.visit, found.start, found.is_bot,
    firsts.place IS NOT NULL
FROM {WITH_FIRSTS}
JOIN senders ON senders.place = found.sender JOIN kinds ON kinds.place = found.kind
WHERE found.place < 0
RETURNING NULL::BOOLEAN
"""  # noqa: S608 - put together of constants
PUT_FACT = "UPDATE facts SET value = $2 WHERE name = $1"
ADD_FACT = "INSERT INTO facts VALUES ($1, $2)"
READ_FACTS = "SELECT name, value FROM facts"

# The first event of a visit has the visit's id; behind it every event up to the visit's last one is in it.
BUILD_EVENTS = """
CREATE TABLE built AS
SELECT site, id, identity, visitor, moment, name, page, is_page_view, is_passive, is_bot_event, properties,
    CASE WHEN is_in THEN visit END AS visit,
    CASE WHEN is_in THEN visit_start END AS visit_start,
    CASE WHEN is_in THEN is_bot ELSE is_bot_event END AS is_bot,
    is_in AND 1 = row_number() OVER (PARTITION BY visit, is_in, page ORDER BY moment, id) AS is_first_on_page
FROM (
    SELECT *, coalesce(moment < last_moment OR (moment = last_moment AND id <= last_id), false) AS is_in
    FROM (
        SELECT events.* EXCLUDE (visit, visit_start, is_bot, is_first_on_page),
            last_value(visits.visit IGNORE NULLS) OVER running AS visit,
            last_value(visits.start IGNORE NULLS) OVER running AS visit_start,
            last_value(visits.is_bot IGNORE NULLS) OVER running AS is_bot,
            last_value(visits.last_moment IGNORE NULLS) OVER running AS last_moment,
            last_value(visits.last_id IGNORE NULLS) OVER running AS last_id
        FROM events
        LEFT JOIN visits ON visits.visit = md5_number(events.site || ':' || events.id)
        WINDOW running AS (
            PARTITION BY events.visitor ORDER BY events.moment, events.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
    )
)
ORDER BY moment
"""
SORT_VISITS = "CREATE TABLE sorted_visits AS SELECT * FROM visits ORDER BY start"
TAKE_BUILT = """
DROP TABLE events;
ALTER TABLE built RENAME TO events;
DROP TABLE visits;
ALTER TABLE sorted_visits RENAME TO visits;
"""


def apply(connection: duckdb.DuckDBPyConnection, changes: Changes, *, assign: bool) -> None:
    """Put a batch into the tables, in the caller's transaction; without `assign`, events learn their visit later."""
    connection.execute(TOUCHED)
    columns = event_columns(changes.events)
    connection.execute(NEW_EVENTS, _lists(EVENT_TYPES, columns.events))
    connection.execute(NEW_VISITS, _lists(VISIT_TYPES, visit_columns(changes.visits)))
    if changes.identities:
        _move_identities(connection, changes.identities)
    connection.execute(SENDERS, _lists(SENDER_TYPES, columns.senders))
    connection.execute(KINDS, _lists(KIND_TYPES, columns.kinds))
    if changes.erased:
        connection.execute(TOUCH_ERASED, [_pairs(changes.erased)])
        connection.execute(ERASE_EVENTS, [_pairs(changes.erased)])
    if changes.removed:
        connection.execute(REMOVED, [_pairs(changes.removed)])
        connection.execute(TOUCH_REMOVED)
        connection.execute(REMOVE_VISITS)
    connection.execute(OLD_VISITS)
    connection.execute(TOUCH_VISITS)
    connection.execute(REMOVE_OLD_VISITS)
    connection.execute(ADD_VISITS)
    if assign:
        _add_assigned(connection, len(changes.events))
    else:
        connection.execute(ADD_EVENTS)


def put_fact(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    """Write down something about the copy itself, which has a row for each name."""
    connection.execute(PUT_FACT, [name, value])


def build(connection: duckdb.DuckDBPyConnection, quiet: int = settling.QUIET) -> None:
    """Tell all events their visit, sort everything by time, and settle; within the caller's transaction."""
    connection.execute(BUILD_EVENTS)
    connection.execute(SORT_VISITS)
    connection.execute(TAKE_BUILT)
    settling.build(connection, quiet)


def _move_identities(connection: duckdb.DuckDBPyConnection, identities: Sequence[tuple[str, str, str]]) -> None:
    last = {(site, one): other for site, one, other in identities}
    rows = [{"site": site, "one": one, "other": other} for (site, one), other in last.items()]
    connection.execute(NEW_IDENTITIES, [_json(rows)])
    for statement in (TOUCH_MOVED, MOVE_EVENTS, FORGET_IDENTITIES, ADD_IDENTITIES):
        connection.execute(statement)


def _add_assigned(connection: duckdb.DuckDBPyConnection, new: int) -> None:
    """Add events with their visits, and tell those that are there where their visit has changed."""
    connection.execute(TOUCH_NEW)
    low, high, since = connection.execute(TOUCHED_RANGE).fetchall()[0]
    if low is None:
        return
    connection.execute(TOUCH_WHOLE_VISITS, {"low": low, "high": high})
    low, high, since = connection.execute(TOUCHED_RANGE).fetchall()[0]
    connection.execute(FOUND, {"high": high, "since": since})
    if connection.execute(COUNT_NEW_FOUND).fetchall()[0][0] > new:
        connection.execute(REMOVE_DOUBLES)
    connection.execute(FIRSTS, {"low": low, "high": high})
    connection.execute(ASSIGN)
    connection.execute(ADD_ASSIGNED_EVENTS)
    settling.unsettle(connection, low, high)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return _json({"site": site, "id": own_id} for site, own_id in pairs)


def _lists(types: Mapping[str, str], columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    return {name: _encode(columns.get(name, ())).decode() for name in types}


def _json(rows: Any) -> str:
    return _encode(list[Mapping[str, Any]](rows)).decode()
