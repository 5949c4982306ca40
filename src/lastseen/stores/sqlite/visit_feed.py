"""The change feed of visits in a SQLite file: one counter numbers everything, and one writer at a time advances it.

A position that the counter has not reached is of a file that was put back to an earlier state. It is refused, as long
as the counter is behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from lastseen.errors import InvalidCursor
from lastseen.stores.sqlite.visit_memory import COUNTER
from lastseen.stores.stored_events import StoredEvents, characters_of
from lastseen.stores.visit_rows import visit_of
from lastseen.visits.store import Changes

CHANGED_IDENTITIES = """
SELECT i.site_id, i.distinct_id, v.distinct_id, i.seq
FROM lastseen_identities AS i JOIN lastseen_identities AS v ON v.no = i.visitor
WHERE i.seq > :seq AND i.seq <= :last ORDER BY i.seq LIMIT :limit
"""

# Whoever sent them has sent others, too: to look them up apart takes a third less.
CHANGED_EVENTS = """
SELECT identity, id, at, name, received_at, flags, body, seq FROM lastseen_events
WHERE seq > :seq AND seq <= :last ORDER BY seq LIMIT :limit
"""

SENDERS = """
SELECT i.no, i.site_id, i.distinct_id FROM json_each(?) AS wanted
JOIN lastseen_identities AS i ON i.no = wanted.value
"""

REMOVED = """
SELECT site_id, id, seq FROM lastseen_visits_removed WHERE seq > :seq AND seq <= :last ORDER BY seq LIMIT :limit
"""

WRITES = "SELECT last, size FROM lastseen_visit_writes WHERE last > ? ORDER BY last LIMIT ?"

# CROSS JOIN: see visit_transaction. Those that have been written again since come with that later transaction.
CHANGED_VISITS = """
SELECT v.body, v.seq FROM lastseen_visit_writes AS w CROSS JOIN json_each(w.visits) AS written
CROSS JOIN lastseen_visits AS v ON v.no = written.value AND v.seq BETWEEN w.first AND w.last AND v.seq > :seq
WHERE w.last > :seq AND w.last <= :last ORDER BY v.seq LIMIT :limit
"""

_KINDS = (CHANGED_IDENTITIES, CHANGED_EVENTS, REMOVED, CHANGED_VISITS)
_END = 2**63 - 1


def read_changes(connection: sqlite3.Connection, position: str, limit: int) -> Changes:
    """Return one batch; see `VisitStore.changes`. The connection is in a transaction."""
    seq = _number(position)
    if seq > connection.execute(COUNTER).fetchone()[0]:
        raise InvalidCursor("the file was put back to an earlier state; copies of it must begin anew")
    last = _last_to_read(connection, seq, limit)
    parameters = {"seq": seq, "last": last, "limit": limit + 1}
    found = [connection.execute(statement, parameters).fetchall() for statement in _KINDS]
    numbers = sorted(row[-1] for rows in found for row in rows)
    is_rest = len(numbers) <= limit
    if not is_rest:
        del numbers[limit:]
        found = [[row for row in rows if row[-1] <= numbers[-1]] for rows in found]
    identities, events, removed, visits = found
    return Changes(
        position=str(last if is_rest and last < _END else numbers[-1] if numbers else seq),
        events=_stored(connection, events) if events else (),
        visits=tuple([visit_of(text) for text, _ in visits]),
        removed=tuple([(site_id, visit_id) for site_id, visit_id, _ in removed]),
        identities=tuple([(site_id, each, visitor_id) for site_id, each, visitor_id, _ in identities]),
        is_complete=is_rest and last == _END,
        characters=characters_of(events),
    )


def _stored(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> StoredEvents:
    numbers = msgspec.json.encode({row[0] for row in rows}).decode()
    senders = {number: (site_id, each) for number, site_id, each in connection.execute(SENDERS, (numbers,))}
    return StoredEvents(rows, senders)


def _last_to_read(connection: sqlite3.Connection, seq: int, limit: int) -> int:
    """Return up to which number to read: most of the visits that transactions wrote may have been written again."""
    writes: Sequence[tuple[Any, ...]] = connection.execute(WRITES, (seq, limit + 2)).fetchall()
    size = 0
    for number, (last, of_transaction) in enumerate(writes):
        size += of_transaction
        if size > limit or number > limit:
            return int(last)
    return _END


def _number(position: str) -> int:
    if position and not (position.isascii() and position.isdecimal()):
        raise InvalidCursor("this is no position of the change feed of a SQLite file")
    return int(position or 0)
