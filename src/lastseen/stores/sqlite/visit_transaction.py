"""One transaction that saves events and visits in a SQLite file; it is the only writer meanwhile."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, count, repeat
from typing import Any

from lastseen.stores.sqlite.event_index import ids_by_site, ids_of, json_of
from lastseen.stores.sqlite.many_rows import Insertion
from lastseen.stores.sqlite.visit_memory import Memory
from lastseen.stores.sqlite.visit_values import event_rows, slot_of, visit_row
from lastseen.stores.visit_rows import (
    Identity,
    body_of,
    event_of,
    identity_of,
    link_of_text,
    text_of,
    text_of_link,
    text_of_marks,
    visit_of,
)
from lastseen.stores.visit_saving import Held, Key, Outcome
from lastseen.visits.event import Event
from lastseen.visits.identity import Link
from lastseen.visits.visit import Visit

COUNT = "UPDATE lastseen_visit_counter SET value = ?, indexed = ?"

IDENTITY = "i.no, i.site_id, i.distinct_id, i.visitor, i.newest_at, i.newest_id, i.marks"

# CROSS JOIN keeps the order that is written: without statistics SQLite goes through the whole site first, and looks
# for each row of it in the list (https://www.sqlite.org/optoverview.html#crossjoin).
FIND_IDENTITIES = f"""
SELECT {IDENTITY} FROM json_each(?2) AS wanted
CROSS JOIN lastseen_identities AS i ON i.site_id = ?1 AND i.distinct_id = wanted.value
"""  # noqa: S608 - constants

IDENTITIES = f"""
SELECT {IDENTITY} FROM json_each(?1) AS wanted JOIN lastseen_identities AS i ON i.no = wanted.value
"""  # noqa: S608 - constants

HIGHEST_IDENTITY = "SELECT coalesce(max(no), 0) FROM lastseen_identities"

ADD_IDENTITY = "INSERT INTO lastseen_identities (no, site_id, distinct_id, visitor) VALUES (?1, ?2, ?3, ?1)"

REGROUP = "UPDATE lastseen_identities SET visitor = ?, seq = ? WHERE no = ?"

ADD_EVENTS = Insertion("lastseen_events", 9)

EVENT = "e.site_id, e.id, i.distinct_id, e.at, e.name, e.received_at, e.flags, e.body"

EVENTS_FROM = f"""
SELECT i.visitor, {EVENT} FROM json_each(?) AS wanted
JOIN lastseen_identities AS i ON i.visitor = CAST(wanted.key AS INTEGER)
JOIN lastseen_event_moments AS m ON m.identity = i.no AND m.at >= wanted.value
JOIN lastseen_events AS e ON e.seq = m.seq
"""  # noqa: S608 - constants

FIRST_MOMENTS = """
SELECT wanted.value, (SELECT min(m.at) FROM lastseen_event_moments AS m WHERE m.identity = wanted.value)
FROM json_each(?) AS wanted
"""

# That an id is a known user need be said once only.
ADD_LINK = """
INSERT INTO lastseen_identity_links (site_id, event_id, one, other, link)
SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?4 IS NOT NULL OR NOT EXISTS (
    SELECT 1 FROM lastseen_identity_links WHERE site_id = ?1 AND one = ?3 AND other IS NULL
)
"""

REACHED = """
WITH RECURSIVE reached (id) AS (
    SELECT value FROM json_each(?2)
    UNION
    SELECT l.other FROM reached CROSS JOIN lastseen_identity_links AS l INDEXED BY lastseen_identity_links_one
        ON l.site_id = ?1 AND l.one = reached.id AND l.other IS NOT NULL
    UNION
    SELECT l.one FROM reached CROSS JOIN lastseen_identity_links AS l INDEXED BY lastseen_identity_links_other
        ON l.site_id = ?1 AND l.other = reached.id
)
"""

LINKS = f"""{REACHED}
SELECT l.link, l.owner FROM reached CROSS JOIN lastseen_identity_links AS l INDEXED BY lastseen_identity_links_one
    ON l.site_id = ?1 AND l.one = reached.id
"""  # noqa: S608 - constants

REACHED_IDENTITIES = f"""{REACHED}
SELECT {IDENTITY} FROM reached CROSS JOIN lastseen_identities AS i ON i.site_id = ?1 AND i.distinct_id = reached.id
"""  # noqa: S608 - constants

SET_OWNER = "UPDATE lastseen_identity_links SET owner = ?3 WHERE site_id = ?1 AND event_id = ?2"

OWNERS = """
SELECT l.event_id, l.owner FROM json_each(?2) AS wanted
CROSS JOIN lastseen_identity_links AS l ON l.site_id = ?1 AND l.event_id = wanted.value AND l.owner IS NOT NULL
"""

NEWEST_VISITS = """
SELECT wanted.value, v.no, v.body FROM json_each(?) AS wanted
JOIN lastseen_visits AS v ON v.visitor = wanted.value AND v.started_at = (
    SELECT max(started_at) FROM lastseen_visits WHERE visitor = wanted.value
)
"""

VISITS_AROUND = """
SELECT v.visitor, v.body FROM json_each(?) AS wanted
JOIN lastseen_visits AS v ON v.visitor = CAST(wanted.key AS INTEGER) AND v.started_at >= coalesce((
    SELECT max(started_at) FROM lastseen_visits
    WHERE visitor = CAST(wanted.key AS INTEGER) AND started_at < wanted.value
), wanted.value)
"""

HIGHEST_VISIT = "SELECT coalesce(max(no), 0) FROM lastseen_visits"

UNLESS_NEW = """
ON CONFLICT (site_id, id) DO UPDATE SET
    no = excluded.no, seq = excluded.seq, active_slot = excluded.active_slot, visitor = excluded.visitor,
    started_at = excluded.started_at, last_activity_at = excluded.last_activity_at, is_open = excluded.is_open,
    is_bot = excluded.is_bot, start_reason = excluded.start_reason, entry_url = excluded.entry_url, body = excluded.body
"""

PUT_VISIT = f"""
INSERT INTO lastseen_visits (
    no, seq, active_slot,
    site_id, id, visitor, started_at, last_activity_at, is_open, is_bot, start_reason, entry_url, body
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {UNLESS_NEW}
"""  # noqa: S608 - constants

# The usual case. SQLite writes every index of whose columns one is set, changed or not: so only those are.
EXTEND_VISIT = "UPDATE lastseen_visits SET seq = ?, last_activity_at = ?, body = ? WHERE no = ?"

SET_SELDOM = "UPDATE lastseen_visits SET active_slot = ?, is_open = ?, is_bot = ?, entry_url = ? WHERE no = ?"

NOTE_WRITES = "INSERT INTO lastseen_visit_writes (last, first, size, visits) VALUES (?, ?, ?, ?)"

REMOVE_VISIT = "DELETE FROM lastseen_visits WHERE site_id = ? AND id = ?"

NOTE_REMOVAL = """
INSERT INTO lastseen_visits_removed (site_id, id, seq) VALUES (?, ?, ?)
ON CONFLICT (site_id, id) DO UPDATE SET seq = excluded.seq
"""

NOTE = "UPDATE lastseen_identities SET newest_at = ?, newest_id = ?, marks = ? WHERE no = ?"


class SQLiteVisitTransaction:
    """See `VisitTransaction`."""

    def __init__(self, connection: sqlite3.Connection, memory: Memory) -> None:
        self.connection = connection
        self.memory = memory
        self._held = memory.held
        self._seq = memory.count

    def hold(self, keys: Collection[Key], linked: Collection[Key]) -> Held:
        """See `VisitTransaction`."""
        held = self._held
        missing = [key for key in keys if key not in held.by_key]
        for site_id, ids in ids_by_site(missing).items():
            self._add(FIND_IDENTITIES, (site_id, json_of(ids)))
        self._make([key for key in missing if key not in held.by_key])
        for site_id, ids in ids_by_site(linked).items():
            self._add(REACHED_IDENTITIES, (site_id, json_of(ids)))
        return held

    def find(self, keys: Collection[Key]) -> Held:
        """Return the identities that there are, and those that stand for their visitors."""
        for site_id, ids in ids_by_site(keys).items():
            self._add(FIND_IDENTITIES, (site_id, json_of(ids)))
        found = Held()
        for key in keys:
            if key in self._held.by_key:
                found.add(self._held.by_key[key])
        for one in list(found.by_no.values()):
            found.add(self._held.by_no[one.visitor])
        return found

    def insert(self, events: Collection[Event], held: Held) -> Collection[Event]:
        """See `VisitTransaction`."""
        index, ids = self.memory.events, ids_of(events)
        known = index.known(ids, self._seq)
        if known:
            events = [event for event in events if (event.site_id, event.id) not in known]
            ids = ids_of(events)
        before = self.take_numbers(len(events))
        ADD_EVENTS.run(self.connection, event_rows(before + 1, events, map(body_of, events), held.by_key))
        index.add(ids, self._seq)
        return events

    def link(self, site_id: str, links: Collection[Link]) -> Mapping[Link, str | None]:
        """See `VisitTransaction`."""
        rows = [(site_id, link.event_id, link.one, link.other, text_of_link(link)) for link in links]
        self.connection.executemany(ADD_LINK, rows)
        ends = json_of({end for link in links for end in link.ids})
        found = self.connection.execute(LINKS, (site_id, ends))
        return {link_of_text(text): owner for text, owner in found}

    def set_owners(self, site_id: str, owners: Mapping[str, str | None]) -> None:
        """See `VisitTransaction`."""
        self.connection.executemany(SET_OWNER, [(site_id, *item) for item in owners.items()])

    def owners(self, site_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """See `VisitTransaction`."""
        return dict(self.connection.execute(OWNERS, (site_id, json_of(event_ids))))

    def regroup(self, identities: Collection[Identity]) -> None:
        """See `VisitTransaction`."""
        self.connection.executemany(REGROUP, [(one.visitor, self._next(), one.no) for one in identities])

    def load_newest(self, visitors: Collection[Identity]) -> None:
        """See `VisitTransaction`."""
        for one in visitors:
            one.visit, one.is_loaded = None, True
        for no, visit_no, text in self.connection.execute(NEWEST_VISITS, (json_of([one.no for one in visitors]),)):
            one, visit = self._held.by_no[no], visit_of(text)
            # Two visits may begin in the same microsecond.
            if one.visit is None or one.visit.id < visit.id:
                self._remember(one, visit, visit_no, text)

    def visits_around(self, moments: Mapping[int, int]) -> Mapping[int, list[Visit]]:
        """See `VisitTransaction`."""
        visits: dict[int, list[Visit]] = defaultdict(list)
        for visitor, text in self.connection.execute(VISITS_AROUND, (json_of(moments),)):
            visits[visitor].append(visit_of(text))
        return visits

    def events_from(self, moments: Mapping[int, int]) -> Mapping[int, list[Event]]:
        """See `VisitTransaction`."""
        self.index_events()
        events: dict[int, list[Event]] = defaultdict(list)
        for visitor, *row in self.connection.execute(EVENTS_FROM, (json_of(moments),)):
            events[visitor].append(event_of(row))
        for of_visitor in events.values():
            of_visitor.sort(key=lambda event: event.order)
        return events

    def first_moments(self, identities: Collection[int]) -> Mapping[int, int]:
        """See `VisitTransaction`."""
        self.index_events()
        rows = self.connection.execute(FIRST_MOMENTS, (json_of(identities),))
        return {no: at for no, at in rows if at is not None}

    def write(self, outcome: Outcome) -> None:
        """See `VisitTransaction`."""
        run = self.connection.executemany
        run(REMOVE_VISIT, outcome.removed)
        run(NOTE_REMOVAL, [(*key, self._next()) for key in outcome.removed])
        self._write_visits(outcome)
        self._note(outcome)
        self.connection.execute(COUNT, (self._seq, self.memory.events.indexed))
        self.memory.count = self._seq

    def take_numbers(self, count: int) -> int:
        """Keep so many numbers of the counter for what is written; return the one before the first."""
        before = self._seq
        self._seq += count
        return before

    def index_events(self) -> None:
        """Make every event one that is found by its id and by its visitor."""
        self.memory.events.catch_up(self._seq)

    def _write_visits(self, outcome: Outcome) -> None:
        first = self._seq + 1
        changed, extended = [], []
        for visitor, visit in chain(outcome.visits, outcome.extended):
            one = self._held.by_no[visitor]
            before = one.visit if one.is_loaded else None
            if before is not None and before.id == visit.id and before.start_reason is visit.start_reason:
                extended.append((one, before, visit))
            else:
                changed.append((visitor, visit))
        # A visitor's newest visit may go on to its end before another one begins, and that is the newest then.
        written = [*self._extend(extended), *self._put(changed, outcome)]
        if written:
            self.connection.execute(NOTE_WRITES, (self._seq, first, len(written), json_of(written)))

    def _put(self, changed: Collection[tuple[int, Visit]], outcome: Outcome) -> Collection[int]:
        """Write visits that are new, or changed in more than what they go on with; return the numbers of their rows."""
        if not (changed or outcome.begun):
            return ()
        first: int = self.connection.execute(HIGHEST_VISIT).fetchone()[0] + 1
        # By their start, as the indexes have them; those of one visitor that begin at once stay in their order.
        started = sorted(outcome.begun, key=_start)
        rows = list(map(visit_row, count(first), count(self._seq + 1), chain(changed, started), repeat(outcome.texts)))
        self._seq += len(rows)
        self.connection.executemany(PUT_VISIT, rows)
        for visitor, _ in changed:
            self._held.by_no[visitor].is_loaded = False
        newest = {visitor: (visit, row) for (visitor, visit), row in zip(started, rows[len(changed) :], strict=True)}
        for visitor, (visit, row) in newest.items():
            self._remember(self._held.by_no[visitor], visit, row[0], row[-1])
        return range(first, first + len(rows))

    def _extend(self, extended: Iterable[tuple[Identity, Visit, Visit]]) -> Collection[int]:
        """Write newest visits that only went on or ended; return the numbers of their rows."""
        rows, seldom, size = [], [], self.memory.size
        for seq, (one, before, visit) in enumerate(extended, self._seq + 1):
            text, no, at = text_of(visit), one.visit_no, visit.last_activity
            rows.append((seq, at, text, no))
            slot, is_open = slot_of(at), visit.end is None
            if (
                slot != slot_of(before.last_activity)
                or is_open is not (before.end is None)
                or visit.is_bot is not before.is_bot
                or visit.entry_url != before.entry_url
            ):
                seldom.append((slot, int(is_open), int(visit.is_bot), visit.entry_url, no))
            size += len(text) - one.size
            one.visit, one.size = visit, len(text)
        self._seq += len(rows)
        self.memory.size = size
        self.connection.executemany(EXTEND_VISIT, rows)
        self.connection.executemany(SET_SELDOM, seldom)
        return [row[-1] for row in rows]

    def _note(self, outcome: Outcome) -> None:
        """Write what identities know of their visitors."""
        for no, place in outcome.newest.items():
            one = self._held.by_no[no]
            one.newest_at, one.newest_id = place or (None, None)
        for no, marks in outcome.marks.items():
            one = self._held.by_no[no]
            text = text_of_marks(marks)
            self.memory.size += len(text or "") - len(one.marks or "")
            one.marks = text
        noted = [self._held.by_no[no] for no in outcome.newest.keys() | outcome.marks.keys()]
        self.connection.executemany(NOTE, [(one.newest_at, one.newest_id, one.marks, one.no) for one in noted])

    def _remember(self, one: Identity, visit: Visit, visit_no: int, text: str) -> None:
        one.visit, one.visit_no, one.is_loaded = visit, visit_no, True
        self.memory.size += len(text) - one.size
        one.size = len(text)

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _add(self, statement: str, parameters: tuple[Any, ...]) -> None:
        """Hold what a question finds, and the identities that stand for those visitors."""
        held = self._held
        added = []
        for row in self.connection.execute(statement, parameters):
            if row[0] not in held.by_no:
                one = identity_of(row)
                held.add(one)
                added.append(one)
                self.memory.size += len(one.marks or "")
        others = {one.visitor for one in added if one.visitor not in held.by_no}
        if others:
            self._add(IDENTITIES, (json_of(others),))

    def _make(self, keys: Collection[Key]) -> None:
        if not keys:
            return
        highest: int = self.connection.execute(HIGHEST_IDENTITY).fetchone()[0]
        rows = [(no, *key) for no, key in enumerate(keys, highest + 1)]
        self.connection.executemany(ADD_IDENTITY, rows)
        for no, site_id, distinct_id in rows:
            self._held.add(Identity(no, site_id, distinct_id, no, is_loaded=True))


def _start(item: tuple[int, Visit]) -> int:
    return item[1].start
