"""Where the events of a SQLite file are found by their ids and by their visitors: two tables that follow them in bulk.

An event's places there are anywhere, and a page is written for each. So new events wait at the end of their own table,
and go in together, sorted. Whoever looks for one looks among those that wait, too, or lets them in before.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lastseen.visits.event import Event

MOST_WAITING = 10_000
"""Events; with more they go in. To go through so many takes two or three milliseconds."""

# CROSS JOIN: see visit_transaction.
FIND_IDS = """
SELECT k.id FROM json_each(?2) AS wanted CROSS JOIN lastseen_event_ids AS k ON k.id = wanted.value AND k.site_id = ?1
"""

INDEX_IDS = """
INSERT INTO lastseen_event_ids (id, site_id, seq)
SELECT id, site_id, seq FROM lastseen_events WHERE seq > ? ORDER BY id, site_id
"""

INDEX_MOMENTS = """
INSERT INTO lastseen_event_moments (identity, at, seq)
SELECT identity, at, seq FROM lastseen_events WHERE seq > ? ORDER BY identity, at, seq
"""

# In bulk, where most ids begin with their moment and come in their order.
INDEX_NEW_IDS = """
INSERT INTO lastseen_event_ids (id, site_id, seq)
SELECT id, site_id, seq FROM lastseen_events WHERE seq > ? ORDER BY seq ON CONFLICT (id, site_id) DO NOTHING
"""

REMOVE_REPEATED = """
DELETE FROM lastseen_events WHERE seq > ? AND NOT EXISTS (
    SELECT 1 FROM lastseen_event_ids AS k
    WHERE k.id = lastseen_events.id AND k.site_id = lastseen_events.site_id AND k.seq = lastseen_events.seq
)
"""

IdsBySite = Mapping[str, Sequence[str]]

_encode = msgspec.json.Encoder().encode


class EventIndex:
    """What a writing transaction knows of both tables, and the next one too where that has the same `Memory`.

    `indexed` is the number up to which events are in the tables, as the row of the counter has it. Whoever gives a
    number `last` gives the highest one that any event may have.
    """

    __slots__ = ("_connection", "_count", "_waiting", "indexed")

    def __init__(self, connection: sqlite3.Connection, indexed: int) -> None:
        self.indexed = indexed
        self._connection = connection
        self._waiting: dict[str, set[str]] | None = None
        """The ids of events that are not in the tables, by their site; None: nobody has looked."""
        self._count = 0

    def known(self, ids: IdsBySite, last: int) -> set[tuple[str, str]]:
        """Return site and id of those events that are there already."""
        if self._waiting is None:
            self.catch_up(last)
        waiting = self._waiting or {}
        known: set[tuple[str, str]] = set()
        for site_id, of_site in ids.items():
            found = {event_id for (event_id,) in self._connection.execute(FIND_IDS, (site_id, json_of(of_site)))}
            if site_id in waiting:
                found |= waiting[site_id].intersection(of_site)
            known.update((site_id, event_id) for event_id in found)
        return known

    def add(self, ids: IdsBySite, last: int) -> None:
        """Note events that were inserted, after a look at what is known."""
        if self._waiting is None:
            return
        for site_id, of_site in ids.items():
            self._waiting.setdefault(site_id, set()).update(of_site)
            self._count += len(of_site)
        if self._count > MOST_WAITING:
            self.catch_up(last)

    def catch_up(self, last: int) -> None:
        """Let in what waits."""
        if self._waiting is None or self._waiting:
            self._connection.execute(INDEX_IDS, (self.indexed,))
            self._index_moments(last)

    def let_in(self, count: int, last: int) -> int:
        """Let in so many events that were inserted while nothing waited, without a look at what is known.

        Remove those of them that were there already; return the number of the others.
        """
        new = self._connection.execute(INDEX_NEW_IDS, (self.indexed,)).rowcount
        if new < count:
            self._connection.execute(REMOVE_REPEATED, (self.indexed,))
        self._index_moments(last)
        return new

    def _index_moments(self, last: int) -> None:
        self._connection.execute(INDEX_MOMENTS, (self.indexed,))
        self.indexed, self._waiting, self._count = last, {}, 0


def ids_of(events: Collection[Event]) -> IdsBySite:
    """Return the ids of events by their site, which most often is one."""
    sites = {event.site_id for event in events}
    if len(sites) == 1:
        return {sites.pop(): [event.id for event in events]}
    return ids_by_site((event.site_id, event.id) for event in events)


def ids_by_site(keys: Iterable[tuple[str, str]]) -> IdsBySite:
    """Return ids by their site."""
    ids: dict[str, list[str]] = defaultdict(list)
    for site_id, text in keys:
        ids[site_id].append(text)
    return ids


def json_of(values: Collection[Any]) -> str:
    """Return what a statement reads with `json_each`."""
    return _encode(values).decode()
