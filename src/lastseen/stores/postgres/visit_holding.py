"""Holds the identities that a transaction touches, and reads the newest visits of their visitors.

Rows are locked by their numbers, in their order. The number of an id never changes, so it is remembered between
transactions. It is believed only when the row that is held bears the id, and the visitor that was remembered with it
only when that row says so, too; otherwise both are looked up again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.database import Statement
from lastseen.stores.postgres.visit_adding import Adding
from lastseen.stores.postgres.visit_statements import Rows, Statements, integers
from lastseen.stores.visit_rows import Identity, identity_of, visit_of
from lastseen.stores.visit_saving import Held, Key
from lastseen.visits.visit import Visit

MOST_KNOWN = 200_000
"""The numbers of so many identities are remembered."""

MAKE_IDENTITIES = """
INSERT INTO lastseen_identities (no, site_id, distinct_id, visitor)
SELECT no, site_id, distinct_id, no FROM (
    SELECT nextval('lastseen_identity_numbers') AS no, wanted.site_id, wanted.distinct_id
    FROM unnest(%b::text[], %b::text[]) AS wanted (site_id, distinct_id)
    WHERE NOT EXISTS (
        SELECT 1 FROM lastseen_identities AS i
        WHERE i.site_id = wanted.site_id AND i.distinct_id = wanted.distinct_id
    )
) AS missing
ORDER BY site_id COLLATE "C", distinct_id COLLATE "C"
ON CONFLICT (site_id, distinct_id) DO NOTHING RETURNING no
"""

FIND_IDENTITIES = """
SELECT i.site_id, i.distinct_id, i.no, i.visitor
FROM unnest(%b::text[], %b::text[]) AS key (site_id, distinct_id)
JOIN lastseen_identities AS i ON i.site_id = key.site_id AND i.distinct_id = key.distinct_id
"""

HOLD = """
SELECT i.no, i.site_id, i.distinct_id, i.visitor, i.newest_at, i.newest_id, i.marks FROM lastseen_identities AS i
WHERE i.no = ANY (%s::bigint[]) ORDER BY i.no FOR NO KEY UPDATE
"""

# After `HOLD`, which may have waited for somebody who wrote these.
NEWEST_VISITS = """
SELECT wanted.no, newest.body, newest.row FROM unnest(%s::bigint[]) AS wanted (no)
CROSS JOIN LATERAL (
    SELECT v.body, v.ctid::text AS row FROM lastseen_visits AS v
    WHERE v.visitor = wanted.no ORDER BY v.started_at DESC, v.id DESC LIMIT 1
) AS newest
"""

# Others may fold the same visitors for longer than the second that other statements wait for a lock; the limit of the
# statement holds for the wait too. Every statement here looks up keys that it is given: a planner that has not seen the
# table grow yet would read all of it instead.
PREPARE: Statement = (
    """
    SELECT set_config('lock_timeout', '0', true), set_config('enable_seqscan', 'off', true),
        set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
        set_config('jit', 'off', true)
    """,
    None,
)

Numbers = tuple[int, int]
"""The number of an identity, and of the one that stands for its visitor."""

Newest = dict[int, tuple[str, str] | None]
"""By visitor, the JSON of the newest visit and where its row lies; None where there is none."""


class BeginAgainError(LastSeenError):
    """What is held is not all that hangs together, or not as it was: begin another transaction; hold these keys too."""

    def __init__(self, keys: Collection[Key] = ()) -> None:
        super().__init__("what is held is not all, or not as it was")
        self.keys = keys


class KnownIdentities:
    """Remembers numbers of identities, for any number of threads."""

    def __init__(self) -> None:
        self._numbers: dict[Key, Numbers] = {}

    def of(self, keys: Iterable[Key]) -> dict[Key, Numbers]:
        """Return the numbers of those that were seen."""
        numbers = self._numbers
        return {key: known for key in keys if (known := numbers.get(key)) is not None}

    def remember(self, identities: Iterable[Identity]) -> None:
        """Remember the numbers of identities, and forget all others when they become too many."""
        if len(self._numbers) > MOST_KNOWN:
            self._numbers = {}
        self._numbers.update({(one.site_id, one.distinct_id): (one.no, one.visitor) for one in identities})

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget the numbers of some."""
        for key in keys:
            self._numbers.pop(key, None)


class Holding:
    """What one transaction holds."""

    def __init__(self, statements: Statements, known: KnownIdentities) -> None:
        self._statements = statements
        self._known = known
        self.rows: dict[int, tuple[Visit, str]] = {}
        """By visitor, the newest visit and where its row lies. Nobody moves it while the visitor is held."""
        self._read: Newest = {}

    def hold(self, keys: Collection[Key], adding: Adding | None = None) -> Held:
        """Hold these identities, made where they are missing, and their visitors.

        Their newest visits are read, and wait for `load_newest`. Events of these identities may be added meanwhile.

        Raises `BeginAgainError` instead of locking twice, which could end in a circle.
        """
        numbers = self._known.of(keys)
        first = [PREPARE]
        if len(numbers) < len(keys):
            numbers |= self._make(sorted(key for key in keys if key not in numbers))
            first = []
            if len(numbers) < len(keys):
                raise BeginAgainError
        standing = {visitor for _, visitor in numbers.values()}
        visitors = integers(sorted(standing))
        others = {no for no, _ in numbers.values()} - standing
        wanted = integers(sorted(standing | others)) if others else visitors
        statements = self._statements
        statements.begin_asking([*first, (HOLD, (wanted,)), (NEWEST_VISITS, (visitors,))])
        if adding is None:
            statements.wait(iter(()))
        else:
            statements.wait(adding.begin(numbers))
            adding.go_on()
        *_, rows, newest = statements.end_asking()
        held = _held(rows)
        changed = [
            key
            for key in keys
            if (one := held.by_key.get(key)) is None or one.no != numbers[key][0] or one.visitor not in held.by_no
        ]
        if changed:
            self._known.forget(changed)
            raise BeginAgainError
        self._known.remember(held.by_no.values())
        self._read = _newest(standing, newest)
        return held

    def hold_those_there(self, keys: Collection[Key]) -> Held:
        """Hold the identities that there are, and those that stand for their visitors."""
        *_, rows = self._statements.ask_all([PREPARE, (FIND_IDENTITIES, _columns(keys))])
        numbers = sorted({no for *_, no, visitor in rows for no in (no, visitor)})
        return _held(self._statements.ask(HOLD, (integers(numbers),)))

    def load_newest(self, visitors: Collection[Identity]) -> None:
        """Set the newest visits of these visitors; as they were read when the visitors were held, but only once."""
        read, self._read = self._read, {}
        unread = [one.no for one in visitors if one.no not in read]
        if unread:
            read |= _newest(unread, self._statements.ask(NEWEST_VISITS, (integers(unread),)))
        for one in visitors:
            one.is_loaded, found = True, read[one.no]
            if found is None:
                one.visit = None
            else:
                text, row = found
                one.visit, _ = self.rows[one.no] = visit_of(text), row

    def _make(self, keys: Collection[Key]) -> Mapping[Key, Numbers]:
        columns = _columns(keys)
        *_, rows = self._statements.ask_all([PREPARE, (MAKE_IDENTITIES, columns), (FIND_IDENTITIES, columns)])
        return {(site_id, distinct_id): (no, visitor) for site_id, distinct_id, no, visitor in rows}


def _held(rows: Rows) -> Held:
    held = Held()
    for row in rows:
        held.add(identity_of(row))
    return held


def _newest(visitors: Iterable[int], rows: Rows) -> Newest:
    newest: Newest = dict.fromkeys(visitors)
    for no, text, row in rows:
        newest[no] = text, row
    return newest


def _columns(keys: Collection[Key]) -> list[list[str]]:
    return [[site_id for site_id, _ in keys], [distinct_id for _, distinct_id in keys]]
