"""The change feed of visits in PostgreSQL: exactly once, in an order that commits cannot overtake.

A number taken from a sequence says when a row was written, not when it was committed: a copy that has read up to 7
would never see the 5 of a transaction that commits later. So each row bears the number of its transaction, and the feed
shows only those that are below every transaction which is still running (`pg_snapshot_xmin`): none can be added there
any more. The price: a long writing transaction of anybody on the same server holds the feed up; nothing is lost by it.

A database that was restored on another server bears numbers that are still to come there. Who first asks for changes
notices, numbers everything anew, and begins another epoch: positions of the old one are refused. So are those of what
a server has lost that was put back to an earlier state, as long as it has not given their numbers again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from lastseen.errors import InvalidCursor
from lastseen.stores.postgres.database import Cursor
from lastseen.stores.postgres.visit_holding import PREPARE
from lastseen.stores.stored_events import StoredEvents, characters_of
from lastseen.stores.visit_rows import visit_of
from lastseen.visits.store import Changes

HORIZON = "SELECT epoch, pg_snapshot_xmin(pg_current_snapshot())::text FROM lastseen_visit_epoch"

IS_FROM_ELSEWHERE = """
SELECT EXISTS (SELECT 1 FROM lastseen_events WHERE tx >= pg_snapshot_xmax(pg_current_snapshot()))
    OR EXISTS (SELECT 1 FROM lastseen_visit_writes WHERE tx >= pg_snapshot_xmax(pg_current_snapshot()))
"""

# Nobody writes meanwhile; whoever waits finds the work done.
HOLD_ALL = """
LOCK TABLE lastseen_visit_epoch, lastseen_identities, lastseen_events, lastseen_visits, lastseen_visit_writes,
    lastseen_visits_removed
IN SHARE ROW EXCLUSIVE MODE
"""

# Numbers of none of our transactions: what makes a server has used up several hundred. Events come first anyway; visits
# are dealt out to some numbers because those of one number are looked for at once.
NUMBER_ANEW = (
    """
    UPDATE lastseen_events AS e SET tx = '1', seq = n.seq
    FROM (SELECT site_id, id, row_number() OVER (ORDER BY tx, seq) AS seq FROM lastseen_events) AS n
    WHERE e.site_id = n.site_id AND e.id = n.id
    """,
    """
    UPDATE lastseen_identities AS i SET tx = '1', seq = n.seq + (SELECT count(*) FROM lastseen_events)
    FROM (SELECT no, row_number() OVER (ORDER BY tx, seq) AS seq FROM lastseen_identities WHERE tx IS NOT NULL) AS n
    WHERE i.no = n.no
    """,
    """
    UPDATE lastseen_visits AS v SET tx = n.tx::text::xid8, seq = n.seq
    FROM (
        SELECT site_id, id, ntile(200) OVER running AS tx, row_number() OVER running AS seq FROM lastseen_visits
        WINDOW running AS (ORDER BY tx, seq)
    ) AS n
    WHERE v.site_id = n.site_id AND v.id = n.id
    """,
    "DELETE FROM lastseen_visit_writes",
    """
    INSERT INTO lastseen_visit_writes (tx, size, visitors, starts)
    SELECT tx, count(*), array_agg(visitor), array_agg(started_at)
    FROM (SELECT DISTINCT tx, visitor, started_at FROM lastseen_visits) AS v GROUP BY tx
    """,
    # Copies of the new epoch have never had them.
    "DELETE FROM lastseen_visits_removed",
    "UPDATE lastseen_visit_epoch SET epoch = replace(gen_random_uuid()::text, '-', '')",
)

_BEHIND = "(tx, seq) > (%(tx)s::text::xid8, %(seq)s::integer) AND tx < %(horizon)s::text::xid8"

CHANGED_EVENTS = f"""
SELECT identity, id, at, name, received_at, flags, body, tx::text, seq FROM lastseen_events
WHERE {_BEHIND} ORDER BY lastseen_events.tx, seq LIMIT %(limit)s
"""  # noqa: S608 - constants

SENDERS = "SELECT no, site_id, distinct_id FROM lastseen_identities WHERE no = ANY (%s::bigint[])"

WRITES = """
SELECT tx::text, size FROM lastseen_visit_writes
WHERE tx > %(tx)s::text::xid8 AND tx < %(horizon)s::text::xid8
ORDER BY lastseen_visit_writes.tx LIMIT %(limit)s
"""

CHANGED_VISITS = """
SELECT v.body, v.tx::text, v.seq
FROM (
    SELECT tx, unnest(visitors) AS visitor, unnest(starts) AS start FROM lastseen_visit_writes
    WHERE tx >= %(tx)s::text::xid8 AND tx < %(horizon)s::text::xid8
) AS w
JOIN lastseen_visits AS v ON v.visitor = w.visitor AND v.started_at = w.start AND v.tx = w.tx
WHERE (v.tx, v.seq) > (%(tx)s::text::xid8, %(seq)s::integer)
ORDER BY v.tx, v.seq LIMIT %(limit)s
"""

REMOVED = f"""
SELECT site_id, id, tx::text, seq FROM lastseen_visits_removed WHERE {_BEHIND}
ORDER BY lastseen_visits_removed.tx, seq LIMIT %(limit)s
"""  # noqa: S608 - constants

CHANGED_IDENTITIES = f"""
SELECT i.site_id, i.distinct_id, v.distinct_id, i.tx::text, i.seq
FROM (SELECT * FROM lastseen_identities WHERE {_BEHIND} ORDER BY tx, seq LIMIT %(limit)s) AS i
JOIN lastseen_identities AS v ON v.no = i.visitor
"""  # noqa: S608 - constants

_POSITION = re.compile(
    r"([0-9a-f]{32})\.([0-9]{1,20})\.([0-9]{1,10})\.([0-9]{1,20})\.([0-9]{1,10})", re.ASCII
).fullmatch
_Place = tuple[int, int]
"""The number of a transaction, and of one of its rows."""
_LAST = 2**31 - 1


def read_changes(cursor: Cursor, position: str, limit: int) -> Changes:
    """Return one batch; see `VisitStore.changes`."""
    cursor.execute(*PREPARE)
    cursor.execute(HORIZON)
    ((epoch, text),) = cursor.fetchall()
    horizon = int(text)
    of_events, of_visits = _places_of(position, epoch)
    if max(of_events, of_visits)[0] >= horizon:
        raise InvalidCursor("the database was put back to an earlier state; copies of it must begin anew")
    facts = _read(cursor, (CHANGED_IDENTITIES, CHANGED_EVENTS), of_events, horizon, limit)
    (identities, events), of_events = facts.by_kind, facts.place
    removed: Sequence[Any] = ()
    visits: Sequence[Any] = ()
    is_complete = False
    if facts.is_complete:
        follows = _read_visits(cursor, of_visits, horizon, limit - facts.size)
        (removed, visits), of_visits, is_complete = follows.by_kind, follows.place, follows.is_complete
    return Changes(
        position=".".join(map(str, (epoch, *of_events, *of_visits))),
        events=_stored(cursor, events) if events else (),
        visits=tuple(visit_of(text) for text, *_ in visits),
        removed=tuple((site_id, visit_id) for site_id, visit_id, *_ in removed),
        identities=tuple((site_id, each, visitor_id) for site_id, each, visitor_id, *_ in identities),
        is_complete=is_complete,
        characters=characters_of(events),
    )


def _stored(cursor: Cursor, rows: Sequence[Sequence[Any]]) -> StoredEvents:
    cursor.execute(SENDERS, (sorted({row[0] for row in rows}),))
    return StoredEvents(rows, {number: (site_id, each) for number, site_id, each in cursor.fetchall()})


class _Read(NamedTuple):
    """Rows of some kinds behind a place, as many as were asked for; each ends with its own."""

    by_kind: Sequence[Sequence[Any]]
    size: int
    place: _Place
    """Of the last of them."""
    is_complete: bool


def _read_visits(cursor: Cursor, place: _Place, horizon: int, limit: int) -> _Read:
    """Read the visits of no more transactions than may be needed; most of what they wrote may be outdated."""
    cursor.execute(WRITES, _parameters(place, horizon, limit + 2))
    end, size = horizon, 0
    for number, (tx, of_transaction) in enumerate(cursor.fetchall()):
        if size > limit or number > limit:
            end = int(tx)
            break
        size += of_transaction
    found = _read(cursor, (REMOVED, CHANGED_VISITS), place, end, limit)
    if end == horizon or not found.is_complete:
        return found
    return found._replace(place=(end - 1, _LAST), is_complete=False)


def _read(cursor: Cursor, statements: Sequence[str], place: _Place, horizon: int, limit: int) -> _Read:
    parameters = _parameters(place, horizon, limit + 1)
    found: list[Sequence[tuple[Any, ...]]] = []
    for statement in statements:
        cursor.execute(statement, parameters)
        found.append(sorted(cursor.fetchall(), key=_place_of))
    places = sorted(_place_of(row) for rows in found for row in rows)
    batch = places[:limit]
    end = batch[-1] if batch else place
    return _Read(
        by_kind=[rows[: bisect_right(rows, end, key=_place_of)] for rows in found],
        size=len(batch),
        place=end,
        is_complete=len(places) <= limit,
    )


def _place_of(row: Sequence[Any]) -> _Place:
    return int(row[-2]), row[-1]


def _parameters(place: _Place, horizon: int, limit: int) -> dict[str, Any]:
    return {"tx": str(place[0]), "seq": place[1], "horizon": str(horizon), "limit": limit}


def is_from_elsewhere(cursor: Cursor) -> bool:
    """Whether rows bear numbers that this server has not given yet."""
    cursor.execute(IS_FROM_ELSEWHERE)
    return bool(cursor.fetchall()[0][0])


def number_anew(cursor: Cursor) -> None:
    """Begin a new epoch, unless somebody else has just done so."""
    cursor.execute(HOLD_ALL)
    if is_from_elsewhere(cursor):
        for statement in NUMBER_ANEW:
            cursor.execute(statement)


def _places_of(position: str, epoch: str) -> tuple[_Place, _Place]:
    if not position:
        return (0, 0), (0, 0)
    match = _POSITION(position)
    if match is None or match[1] != epoch:
        raise InvalidCursor("this is no position of this database's change feed; copies of it must begin anew")
    return (int(match[2]), int(match[3])), (int(match[4]), int(match[5]))
