"""One transaction that saves events and visits in PostgreSQL; any number of them run at once.

Nobody waits in a circle: each makes the identities that are missing, in the order of their ids, then locks all that it
touches, in the order of their numbers, then adds events, in the order of their ids. Whoever waits in one of the three
waits for somebody who is further.

Events are mostly new, so they are copied as if all were: that takes the server half as long as looking for each of them
first, and they are folded meanwhile. Where one is there already, the transaction begins again, and looks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import TracebackType
from typing import Any, Self

from lastseen.stores.postgres.database import Cursor, Statement
from lastseen.stores.postgres.visit_adding import Adding, numbered_of
from lastseen.stores.postgres.visit_holding import BeginAgainError, Holding, KnownIdentities, Numbers
from lastseen.stores.postgres.visit_statements import Statements, integers
from lastseen.stores.postgres.visit_values import NEW_EVENTS, SEPARATOR, event_columns
from lastseen.stores.visit_batch import bodies_of
from lastseen.stores.visit_questions import in_order
from lastseen.stores.visit_rows import (
    Identity,
    columns_of,
    event_of,
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

# Both ways in two branches, so that each finds its index.
REACHED = """
WITH RECURSIVE reached (id) AS (
    SELECT unnest(%(ids)s::text[]) COLLATE "C"
    UNION
    SELECT next.id FROM reached CROSS JOIN LATERAL (
        SELECT l.other AS id FROM lastseen_identity_links AS l
        WHERE l.site_id = %(site)s AND l.one = reached.id AND l.other IS NOT NULL
        UNION ALL
        SELECT l.one FROM lastseen_identity_links AS l WHERE l.site_id = %(site)s AND l.other = reached.id
    ) AS next
)
"""

REACHED_KEYS = f"{REACHED} SELECT id FROM reached"  # noqa: S608 - constants

LINKS = f"""{REACHED}
SELECT l.link, l.owner FROM reached
JOIN lastseen_identity_links AS l ON l.site_id = %(site)s AND l.one = reached.id
"""  # noqa: S608 - constants

ADD_EVENTS = f"{NEW_EVENTS} ON CONFLICT (site_id, id) DO NOTHING"

ADDED_EVENTS = "SELECT seq FROM lastseen_events WHERE tx = pg_current_xact_id()"

EVENT = "e.site_id, e.id, i.distinct_id, e.at, e.name, e.received_at, e.flags, e.body"

EVENTS_FROM = f"""
SELECT i.visitor, {EVENT} FROM unnest(%b::bigint[], %b::bigint[]) AS wanted (visitor, at)
JOIN lastseen_identities AS i ON i.visitor = wanted.visitor
JOIN lastseen_events AS e ON e.identity = i.no AND e.at >= wanted.at
"""  # noqa: S608 - constants

FIRST_MOMENTS = """
SELECT wanted.no, first.at FROM unnest(%b::bigint[]) AS wanted (no)
CROSS JOIN LATERAL (
    SELECT e.at FROM lastseen_events AS e WHERE e.identity = wanted.no ORDER BY e.at LIMIT 1
) AS first
"""

# That an id is a known user need be said once only.
ADD_LINKS = """
INSERT INTO lastseen_identity_links (site_id, event_id, one, other, link)
SELECT wanted.site_id, wanted.event_id, wanted.one, wanted.other, wanted.link
FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
    AS wanted (site_id, event_id, one, other, link)
WHERE wanted.other IS NOT NULL OR NOT EXISTS (
    SELECT 1 FROM lastseen_identity_links AS l
    WHERE l.site_id = wanted.site_id AND l.one = wanted.one AND l.other IS NULL
)
"""

SET_OWNERS = """
UPDATE lastseen_identity_links AS l SET owner = changed.owner
FROM unnest(%b::text[], %b::text[]) AS changed (event_id, owner)
WHERE l.site_id = %b AND l.event_id = changed.event_id
"""

OWNERS = """
SELECT l.event_id, l.owner FROM unnest(%b::text[]) AS wanted (id)
JOIN lastseen_identity_links AS l ON l.site_id = %b AND l.event_id = wanted.id AND l.owner IS NOT NULL
"""

REGROUP = """
UPDATE lastseen_identities AS i SET visitor = moved.visitor, tx = pg_current_xact_id(), seq = moved.seq
FROM unnest(%b::bigint[], %b::bigint[], %b::integer[]) AS moved (no, visitor, seq) WHERE i.no = moved.no
"""

VISITS_AROUND = """
SELECT v.visitor, v.body FROM unnest(%b::bigint[], %b::bigint[]) AS wanted (no, at)
JOIN lastseen_visits AS v ON v.visitor = wanted.no AND v.started_at >= coalesce((
    SELECT max(b.started_at) FROM lastseen_visits AS b WHERE b.visitor = wanted.no AND b.started_at < wanted.at
), wanted.at)
"""

_VISIT_ROWS = """
INSERT INTO lastseen_visits
    (seq, site_id, id, visitor, started_at, last_activity_at, is_open, is_bot, start_reason, entry_url, body)
SELECT * FROM unnest(
    %b::integer[], %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::boolean[], %b::boolean[],
    %b::text[], %b::text[], %b::text[]
)
"""

BEGIN_VISITS = _VISIT_ROWS

PUT_VISITS = f"""{_VISIT_ROWS} ON CONFLICT (site_id, id) DO UPDATE SET
    tx = EXCLUDED.tx, seq = EXCLUDED.seq, visitor = EXCLUDED.visitor, started_at = EXCLUDED.started_at,
    last_activity_at = EXCLUDED.last_activity_at, is_open = EXCLUDED.is_open, is_bot = EXCLUDED.is_bot,
    start_reason = EXCLUDED.start_reason, entry_url = EXCLUDED.entry_url, body = EXCLUDED.body
"""

# Where a row lies is as it was read: no other transaction changes the visits of a visitor that we hold. JSON has no
# control characters, so one of them parts the bodies.
GO_ON = """
UPDATE lastseen_visits AS v SET
    tx = pg_current_xact_id(), seq = n.number + %s::integer, last_activity_at = n.last_activity_at, body = n.body
FROM unnest(%s::tid[], %s::bigint[], string_to_array(%s::text, chr(31)))
    WITH ORDINALITY AS n (row, last_activity_at, body, number)
WHERE v.ctid = n.row
"""

EXTEND_VISITS = """
UPDATE lastseen_visits AS v SET
    tx = pg_current_xact_id(), seq = n.seq, last_activity_at = n.last_activity_at, is_bot = n.is_bot,
    start_reason = n.start_reason, entry_url = n.entry_url, body = n.body
FROM unnest(
    %b::integer[], %b::text[], %b::text[], %b::bigint[], %b::boolean[], %b::text[], %b::text[], %b::text[]
) AS n (seq, site_id, id, last_activity_at, is_bot, start_reason, entry_url, body)
WHERE v.site_id = n.site_id AND v.id = n.id
"""

NOTE_WRITES = """
INSERT INTO lastseen_visit_writes (size, visitors, starts) VALUES (%s, %s::bigint[], %s::bigint[])
"""

REMOVE_VISITS = """
DELETE FROM lastseen_visits AS v USING unnest(%b::text[], %b::text[]) AS gone (site_id, id)
WHERE v.site_id = gone.site_id AND v.id = gone.id
"""

NOTE_REMOVALS = """
INSERT INTO lastseen_visits_removed (site_id, id, seq) SELECT * FROM unnest(%b::text[], %b::text[], %b::integer[])
ON CONFLICT (site_id, id) DO UPDATE SET tx = EXCLUDED.tx, seq = EXCLUDED.seq
"""

# A removal of a transaction with a higher number than ours would come behind the visit that is there again.
FORGET_REMOVALS = """
DELETE FROM lastseen_visits_removed AS r USING unnest(%b::text[], %b::text[]) AS back (site_id, id)
WHERE r.site_id = back.site_id AND r.id = back.id
"""

SET_NEWEST = """
UPDATE lastseen_identities AS i SET newest_at = newest.at, newest_id = newest.id
FROM unnest(%b::bigint[], %b::bigint[], %b::text[]) AS newest (no, at, id) WHERE i.no = newest.no
"""

SET_MARKS = """
UPDATE lastseen_identities AS i SET marks = changed.marks
FROM unnest(%b::bigint[], %b::text[]) AS changed (no, marks) WHERE i.no = changed.no
"""


class PostgresVisitTransaction:
    """See `VisitTransaction`.

    `known` remembers numbers of identities; `more` are keys to hold as well. With `may_copy`, events that are there
    already end the transaction with `AlreadyThereError`, at the latest when it writes; a context manager, for that.
    `batch` are then the events that will be inserted, where they are known: the server is given them while, or before,
    it has answered what is held.
    """

    def __init__(
        self,
        cursor: Cursor,
        *,
        known: KnownIdentities | None = None,
        more: Collection[Key] = (),
        may_copy: bool = False,
        batch: Collection[Event] = (),
    ) -> None:
        self._statements = Statements(cursor)
        self._holding = Holding(self._statements, KnownIdentities() if known is None else known)
        self._more = more
        self._may_copy = may_copy and self._statements.can_copy
        self._adding = Adding(self._statements, batch) if self._may_copy and batch else None
        self._seq = 0

    def __enter__(self) -> Self:
        """Return the transaction itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what is still being copied, so that the connection can be told to roll back."""
        self._statements.give_up(kind, error, traceback)

    def hold(self, keys: Collection[Key], linked: Collection[Key]) -> Held:
        """See `VisitTransaction`. Raises `BeginAgainError`."""
        if linked:
            # More may have to be held.
            self._adding = None
        held = self._holding.hold({*keys, *self._more}, self._adding)
        beyond = [key for key in self._reached(linked) if key not in held.by_key]
        if beyond:
            raise BeginAgainError(beyond)
        return held

    def find(self, keys: Collection[Key]) -> Held:
        """Hold the identities that there are, and those that stand for their visitors."""
        return self._holding.hold_those_there(keys)

    def _reached(self, linked: Collection[Key]) -> Iterable[Key]:
        by_site: dict[str, list[str]] = defaultdict(list)
        for site_id, each in linked:
            by_site[site_id].append(each)
        for site_id, ids in by_site.items():
            for (each,) in self._statements.ask(REACHED_KEYS, {"site": site_id, "ids": ids}):
                yield site_id, each

    def insert(self, events: Collection[Event], held: Held) -> Collection[Event]:
        """See `VisitTransaction`."""
        self._seq = len(events)
        if not self._may_copy:
            return self._add_missing(events, _numbers(held))
        if self._adding is None or self._adding.events != events:
            adding = Adding(self._statements, events)
            adding.begin(_numbers(held))
            adding.go_on()
        return events

    def _add_missing(self, events: Collection[Event], numbers: Mapping[Key, Numbers]) -> Collection[Event]:
        numbered = numbered_of(events)
        if self._statements.run(ADD_EVENTS, event_columns(numbered, numbers, bodies_of(events))) == len(events):
            return events
        return [numbered[seq] for (seq,) in self._statements.ask(ADDED_EVENTS)]

    def link(self, site_id: str, links: Collection[Link]) -> Mapping[Link, str | None]:
        """See `VisitTransaction`."""
        rows = [(site_id, link.event_id, link.one, link.other, text_of_link(link)) for link in links]
        self._statements.run(ADD_LINKS, _columns(rows, 5))
        ends = sorted({end for link in links for end in link.ids})
        found = self._statements.ask(LINKS, {"site": site_id, "ids": ends})
        return {link_of_text(text): owner for text, owner in found}

    def set_owners(self, site_id: str, owners: Mapping[str, str | None]) -> None:
        """See `VisitTransaction`."""
        if owners:
            self._statements.run(SET_OWNERS, (list(owners), list(owners.values()), site_id))

    def owners(self, site_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """See `VisitTransaction`."""
        return dict(self._statements.ask(OWNERS, (list(event_ids), site_id)))

    def regroup(self, identities: Collection[Identity]) -> None:
        """See `VisitTransaction`."""
        rows = [(one.no, one.visitor, self._next()) for one in identities]
        self._statements.run(REGROUP, _columns(rows, 3))

    def load_newest(self, visitors: Collection[Identity]) -> None:
        """See `VisitTransaction`."""
        self._holding.load_newest(visitors)

    def visits_around(self, moments: Mapping[int, int]) -> Mapping[int, list[Visit]]:
        """See `VisitTransaction`."""
        visits: dict[int, list[Visit]] = defaultdict(list)
        for visitor, text in self._statements.ask(VISITS_AROUND, (list(moments), list(moments.values()))):
            visits[visitor].append(visit_of(text))
        return visits

    def events_from(self, moments: Mapping[int, int]) -> Mapping[int, list[Event]]:
        """See `VisitTransaction`."""
        events: dict[int, list[Event]] = defaultdict(list)
        for visitor, *row in self._statements.ask(EVENTS_FROM, (list(moments), list(moments.values()))):
            events[visitor].append(event_of(row))
        for of_visitor in events.values():
            in_order(of_visitor)
        return events

    def first_moments(self, identities: Collection[int]) -> Mapping[int, int]:
        """See `VisitTransaction`."""
        return dict(self._statements.ask(FIRST_MOMENTS, (list(identities),)))

    def write(self, outcome: Outcome) -> None:
        """See `VisitTransaction`. Raises `BeginAgainError` when a visit is not where it was read."""
        going_on, others = self._part(outcome.extended)
        touched = self._statements.run_all(self._writes(outcome, going_on, others))
        if going_on and touched[0] != len(going_on):
            raise BeginAgainError

    def _part(self, extended: Iterable[tuple[int, Visit]]) -> tuple[list[tuple[str, int, str]], list[Visit]]:
        """Return what changes of those visits that just go on, with the places of their rows, and the other visits."""
        going_on, others = [], []
        for visitor, visit in extended:
            before, row = self._holding.rows.get(visitor, (None, ""))
            if before is not None and _just_goes_on(before, visit):
                going_on.append((row, visit.last_activity, text_of(visit)))
            else:
                others.append(visit)
        return going_on, others

    def _writes(
        self, outcome: Outcome, going_on: Sequence[tuple[str, int, str]], others: Sequence[Visit]
    ) -> Iterator[Statement]:
        if going_on:
            places, moments, bodies = zip(*going_on, strict=True)
            yield GO_ON, (self._seq, '{"' + '","'.join(places) + '"}', integers(moments), SEPARATOR.join(bodies))
            self._seq += len(going_on)
        if outcome.removed:
            yield REMOVE_VISITS, _columns(outcome.removed, 2)
            yield NOTE_REMOVALS, _columns([(*key, self._next()) for key in outcome.removed], 3)
        if outcome.visits:
            yield FORGET_REMOVALS, _columns([(visit.site_id, visit.id) for _, visit in outcome.visits], 2)
            yield PUT_VISITS, _columns([(self._next(), *columns_of(*each)) for each in outcome.visits], 11)
        if others:
            yield EXTEND_VISITS, _columns([(self._next(), *_extension(visit)) for visit in others], 8)
        if outcome.begun:
            texts = outcome.texts
            rows = [(self._next(), *columns_of(no, visit, texts.get(visit.id))) for no, visit in outcome.begun]
            yield BEGIN_VISITS, _columns(rows, 11)
        # Two of a visitor may begin in the same microsecond.
        starts = {(visitor, visit.start) for visitor, visit in chain(outcome.visits, outcome.extended, outcome.begun)}
        if starts:
            yield NOTE_WRITES, (len(starts), *map(integers, zip(*starts, strict=True)))
        if outcome.newest:
            newest = [(no, *(place or (None, None))) for no, place in outcome.newest.items()]
            yield SET_NEWEST, _columns(newest, 3)
        if outcome.marks:
            marks = [(no, text_of_marks(marks)) for no, marks in outcome.marks.items()]
            yield SET_MARKS, _columns(marks, 2)

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def _just_goes_on(before: Visit, after: Visit) -> bool:
    """Whether nothing of a visit's columns has changed but its last activity."""
    return (
        before.id == after.id
        and before.is_bot is after.is_bot
        and before.start_reason is after.start_reason
        and before.entry_url == after.entry_url
    )


def _extension(visit: Visit) -> tuple[Any, ...]:
    """Return what changes of a visit that goes on, behind its key."""
    return (
        visit.site_id,
        visit.id,
        visit.last_activity,
        visit.is_bot,
        visit.start_reason.value,
        visit.entry_url,
        text_of(visit),
    )


def _columns(rows: Collection[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows into the columns that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _numbers(held: Held) -> Mapping[Key, Numbers]:
    return {key: (one.no, one.visitor) for key, one in held.by_key.items()}
