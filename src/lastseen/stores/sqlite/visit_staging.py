"""Prepared batches in temporary tables, from which SQLite copies rows itself.

That takes half of what it takes to hand over the rows one by one, and the tables are filled before the transaction,
when nobody waits. Only the visitors who were there before are folded in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any

import msgspec

from lastseen.stores.sqlite.visit_transaction import (
    HIGHEST_IDENTITY,
    HIGHEST_VISIT,
    NOTE_WRITES,
    UNLESS_NEW,
    SQLiteVisitTransaction,
)
from lastseen.stores.sqlite.visit_values import slot_of
from lastseen.stores.visit_batch import PreparedBatch
from lastseen.stores.visit_saving import Folding, Key
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import SaveResult
from lastseen.visits.visit import Visit

# `visitor` is the place of one. Those of `staged_known` were there before, with these numbers.
TABLES = (
    "CREATE TEMP TABLE IF NOT EXISTS staged_visitors (place INTEGER PRIMARY KEY, distinct_id TEXT)",
    "CREATE TEMP TABLE IF NOT EXISTS staged_known (place INTEGER PRIMARY KEY, no INTEGER)",
    """
    CREATE TEMP TABLE IF NOT EXISTS staged_events (
        place INTEGER PRIMARY KEY, id TEXT, visitor INTEGER, at INTEGER, name TEXT, received_at INTEGER, flags INTEGER,
        body TEXT
    )
    """,
    """
    CREATE TEMP TABLE IF NOT EXISTS staged_visits (
        place INTEGER PRIMARY KEY, id TEXT, visitor INTEGER, started_at INTEGER, last_activity_at INTEGER,
        active_slot INTEGER, is_open INTEGER, is_bot INTEGER, start_reason TEXT, entry_url TEXT, body TEXT
    )
    """,
)

CLEAR = tuple(f"DELETE FROM temp.staged_{name}" for name in ("visitors", "known", "events", "visits"))  # noqa: S608

STAGE_VISITOR = "INSERT INTO temp.staged_visitors VALUES (?, ?)"
STAGE_EVENT = "INSERT INTO temp.staged_events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
STAGE_VISIT = "INSERT INTO temp.staged_visits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

FIND_KNOWN = """
INSERT INTO temp.staged_known
SELECT s.place, i.no FROM temp.staged_visitors AS s
CROSS JOIN lastseen_identities AS i ON i.site_id = ?1 AND i.distinct_id = s.distinct_id
"""

KNOWN = "SELECT place FROM temp.staged_known"

ADD_VISITORS = """
INSERT INTO lastseen_identities (no, site_id, distinct_id, visitor)
SELECT ?2 + place, ?1, distinct_id, ?2 + place FROM temp.staged_visitors
WHERE place NOT IN (SELECT place FROM temp.staged_known) ORDER BY place
"""

# `true`: without WHERE, ON would belong to the join (https://www.sqlite.org/lang_upsert.html#parsing_ambiguity).
ADD_EVENTS = """
INSERT INTO lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body)
SELECT ?3 + e.place, ?1, e.id, coalesce(k.no, ?2 + e.visitor), e.at, e.name, e.received_at, e.flags, e.body
FROM temp.staged_events AS e LEFT JOIN temp.staged_known AS k ON k.place = e.visitor
WHERE true ORDER BY e.place ON CONFLICT (site_id, id) DO NOTHING
"""

ADDED_EVENTS = "SELECT seq FROM lastseen_events WHERE seq > ?"

ADD_VISITS = f"""
INSERT INTO lastseen_visits (
    no, seq, active_slot,
    site_id, id, visitor, started_at, last_activity_at, is_open, is_bot, start_reason, entry_url, body
)
SELECT ?3 + place, ?4 + place, active_slot,
    ?1, id, ?2 + visitor, started_at, last_activity_at, is_open, is_bot, start_reason, entry_url, body
FROM temp.staged_visits
WHERE visitor NOT IN (SELECT place FROM temp.staged_known) ORDER BY place {UNLESS_NEW}
"""  # noqa: S608 - constants

NOTE_NEWEST = "UPDATE lastseen_identities SET newest_at = ?, newest_id = ? WHERE no = ?"

_encode = msgspec.json.Encoder().encode


@dataclass(kw_only=True, slots=True, frozen=True, eq=False)
class Staged:
    """A batch as it lies in the temporary tables of a connection, until the next one does. Places begin with 1."""

    connection: sqlite3.Connection
    batch: PreparedBatch
    distinct_ids: Sequence[str]
    """By their places."""
    visits: Sequence[tuple[int, Visit]]
    """With the places of their visitors, by their own."""

    def key(self, place: int) -> Key:
        """Return the site and the distinct id of a visitor."""
        return self.batch.site_id, self.distinct_ids[place - 1]


def stage(connection: sqlite3.Connection, batch: PreparedBatch) -> Staged:
    """Lay a batch into the temporary tables, in place of what is there; in a transaction, whichever."""
    for statement in (*TABLES, *CLEAR):
        connection.execute(statement)
    distinct_ids = list(batch.groups)
    connection.executemany(STAGE_VISITOR, enumerate(distinct_ids, 1))
    places = dict(zip(distinct_ids, count(1), strict=False))
    connection.executemany(STAGE_EVENT, map(_event_row, count(1), batch, batch.bodies, repeat(places)))
    visits = [
        (place, visit, text)
        for place, group in enumerate(batch.groups.values(), 1)
        for visit, text in zip(group.visits, group.texts, strict=True)
    ]
    # By their start, as the indexes have them.
    visits.sort(key=_start)
    connection.executemany(STAGE_VISIT, map(_visit_row, count(1), visits))
    return Staged(
        connection=connection,
        batch=batch,
        distinct_ids=distinct_ids,
        visits=[(place, visit) for place, visit, _ in visits],
    )


def save_staged(transaction: SQLiteVisitTransaction, staged: Staged, rules: Mapping[str, VisitRule]) -> SaveResult:
    """Add the batch and fold its visitors, as `visit_saving.save` does."""
    batch, run = staged.batch, transaction.connection.execute
    run(FIND_KNOWN, (batch.site_id,))
    known = {place for (place,) in run(KNOWN)}
    highest: int = run(HIGHEST_IDENTITY).fetchone()[0]
    run(ADD_VISITORS, (batch.site_id, highest))
    before = transaction.take_numbers(len(batch))
    new = run(ADD_EVENTS, (batch.site_id, highest, before)).rowcount
    begun: Sequence[Visit] = ()
    if new == len(batch) and batch.rule == rules[batch.site_id]:
        begun = _add_visits(transaction, staged, known, highest)
        held = transaction.hold([staged.key(place) for place in known], ())
        others = [event for place in known for event in batch.groups[staged.distinct_ids[place - 1]].events]
    else:
        held = transaction.hold([staged.key(place) for place in range(1, len(batch.groups) + 1)], ())
        others = [batch[seq - before - 1] for (seq,) in run(ADDED_EVENTS, (before,))]
    folding = Folding(transaction, held, rules)
    folding.take(others)
    return folding.finish(new, len(batch), begun)


def _add_visits(
    transaction: SQLiteVisitTransaction, staged: Staged, known: Collection[int], highest: int
) -> Sequence[Visit]:
    """Add the visits of visitors who were not there before, and return them; `highest` is the identity before these."""
    run, batch = transaction.connection.execute, staged.batch
    newest = [
        (*group.events[-1].order, highest + place)
        for place, group in enumerate(batch.groups.values(), 1)
        if (not group.visits or group.visits[-1].last_event[1] != group.events[-1].id) and place not in known
    ]
    transaction.connection.executemany(NOTE_NEWEST, newest)
    first: int = run(HIGHEST_VISIT).fetchone()[0]
    before = transaction.take_numbers(len(staged.visits))
    run(ADD_VISITS, (batch.site_id, highest, first, before))
    begun = [(number, visit) for number, (place, visit) in enumerate(staged.visits, 1) if place not in known]
    if begun:
        written = _encode([first + number for number, _ in begun]).decode()
        run(NOTE_WRITES, (before + len(staged.visits), before + 1, len(begun), written))
    return [visit for _, visit in begun]


def _event_row(place: int, event: Event, body: str, places: Mapping[str, int]) -> tuple[Any, ...]:
    visitor = places[event.distinct_id]
    return place, event.id, visitor, event.at, event.name, event.received_at, event.flags, body


def _visit_row(place: int, item: tuple[int, Visit, str]) -> tuple[Any, ...]:
    visitor, visit, text = item
    at = visit.last_activity
    return (
        place,
        visit.id,
        visitor,
        visit.start,
        at,
        slot_of(at),
        1 if visit.end is None else 0,
        1 if visit.is_bot else 0,
        visit.start_reason._value_,
        visit.entry_url,
        text,
    )


def _start(item: tuple[int, Visit, str]) -> int:
    return item[1].start
