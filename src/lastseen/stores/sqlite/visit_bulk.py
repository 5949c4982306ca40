"""One transaction that saves a prepared batch: visitors who were not there before are folded already.

Their rows go in by many a statement, each table's in the order of most of its indexes. Only the visitors who were there
before are folded in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import count, repeat
from typing import Any

import msgspec

from lastseen.stores.sqlite.many_rows import Insertion
from lastseen.stores.sqlite.visit_transaction import (
    ADD_EVENTS,
    HIGHEST_IDENTITY,
    HIGHEST_VISIT,
    NOTE_WRITES,
    PUT_VISIT,
    SQLiteVisitTransaction,
)
from lastseen.stores.sqlite.visit_values import visit_row
from lastseen.stores.visit_batch import PreparedBatch
from lastseen.stores.visit_saving import Folding
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import SaveResult
from lastseen.visits.visit import Visit

ADD_VISITORS = Insertion("lastseen_identities (no, site_id, distinct_id, visitor)", 4)

# With DO UPDATE SQLite first keeps a copy of each page that the statement touches, to be undone alone.
ADD_VISITS = Insertion(
    "lastseen_visits (no, seq, active_slot, site_id, id, visitor, started_at, last_activity_at, is_open, is_bot, "
    "start_reason, entry_url, body)",
    13,
    "ON CONFLICT (site_id, id) DO NOTHING",
)

ADDED_EVENTS = "SELECT seq FROM lastseen_events WHERE seq > ?"

NOTE_NEWEST = "UPDATE lastseen_identities SET newest_at = ?, newest_id = ? WHERE no = ?"

_encode = msgspec.json.Encoder().encode


def save_prepared(
    transaction: SQLiteVisitTransaction, batch: PreparedBatch, rules: Mapping[str, VisitRule]
) -> SaveResult:
    """Add the batch and fold its visitors, as `visit_saving.save` does."""
    connection, site_id, groups = transaction.connection, batch.site_id, batch.groups
    held = transaction.find([(site_id, distinct_id) for distinct_id in groups])
    known = {distinct_id: one.no for (_, distinct_id), one in held.by_key.items()}
    added = _add_visitors(connection, site_id, [each for each in groups if each not in known])
    transaction.index_events()
    before = transaction.take_numbers(len(batch))
    ADD_EVENTS.run(connection, _event_rows(before + 1, batch, known | added))
    new = transaction.memory.events.let_in(len(batch), before + len(batch))
    begun: list[tuple[int, Visit]] = []
    texts: dict[str, str] = {}
    if new == len(batch) and batch.rule == rules[site_id]:
        others = [event for each in groups if each in known for event in groups[each].events]
        for distinct_id, no in added.items():
            visits = groups[distinct_id].visits
            begun += [(no, visit) for visit in visits]
            texts.update(zip([visit.id for visit in visits], groups[distinct_id].texts, strict=True))
        _note_newest(connection, batch, added)
    else:
        held = transaction.hold([(site_id, distinct_id) for distinct_id in groups], ())
        others = [batch[seq - before - 1] for (seq,) in connection.execute(ADDED_EVENTS, (before,))]
    folding = Folding(transaction, held, rules)
    folding.take(others)
    # Together with those of the others they are in the order of the indexes.
    later, folding.outcome.begun = folding.outcome.begun, []
    begun += later
    _add_visits(transaction, begun, texts)
    result = folding.finish(new, len(batch), [visit for _, visit in begun])
    for no, _ in later:
        held.by_no[no].is_loaded = False
    return result


def _add_visitors(connection: sqlite3.Connection, site_id: str, distinct_ids: Iterable[str]) -> dict[str, int]:
    """Add visitors who are not there, and return their numbers."""
    highest: int = connection.execute(HIGHEST_IDENTITY).fetchone()[0]
    added = dict(zip(distinct_ids, count(highest + 1), strict=False))
    ADD_VISITORS.run(connection, [(no, site_id, distinct_id, no) for distinct_id, no in added.items()])
    return added


def _event_rows(first: int, batch: PreparedBatch, numbers: Mapping[str, int]) -> list[tuple[Any, ...]]:
    site_id = batch.site_id
    return [
        (
            seq,
            site_id,
            event.id,
            numbers[event.distinct_id],
            event.at,
            event.name,
            event.received_at,
            event.flags,
            body,
        )
        for seq, event, body in zip(count(first), batch, batch.bodies, strict=False)
    ]


def _note_newest(connection: sqlite3.Connection, batch: PreparedBatch, added: Mapping[str, int]) -> None:
    """Note the places of visitors' newest events where these are in none of their visits."""
    newest = []
    for distinct_id, no in added.items():
        events, visits, _ = batch.groups[distinct_id]
        if not visits or visits[-1].last_event[1] != events[-1].id:
            newest.append((*events[-1].order, no))
    connection.executemany(NOTE_NEWEST, newest)


def _add_visits(
    transaction: SQLiteVisitTransaction, begun: Iterable[tuple[int, Visit]], texts: Mapping[str, str]
) -> None:
    """Add visits with the numbers of their visitors; `texts` are the JSON of some, by their ids."""
    # By their start, as the indexes have them.
    started = sorted(begun, key=_start)
    if not started:
        return
    connection = transaction.connection
    no: int = connection.execute(HIGHEST_VISIT).fetchone()[0] + 1
    before = transaction.take_numbers(len(started))
    rows = list(map(visit_row, count(no), count(before + 1), started, repeat(texts)))
    if ADD_VISITS.run(connection, rows) < len(rows):
        # A visit whose first event and visitor somebody has removed.
        connection.executemany(PUT_VISIT, rows)
    written = _encode(list(range(no, no + len(started)))).decode()
    connection.execute(NOTE_WRITES, (before + len(started), before + 1, len(started), written))


def _start(item: tuple[int, Visit]) -> int:
    return item[1].start
