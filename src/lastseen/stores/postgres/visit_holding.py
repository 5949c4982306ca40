"""Holds the identities that a transaction touches, and reads the newest visits of their visitors.

Rows are locked by their numbers, in their order. The number of an id never changes, so it is remembered between
transactions. It is believed only when the row that is held bears the id, and the visitor that was remembered with it
only when that row says so, too; otherwise both are looked up again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lastseen.errors import LastSeenError
from lastseen.stores.postgres.visit_statements import Rows, Statements
from lastseen.stores.visit_rows import Identity, identity_of, visit_of
from lastseen.stores.visit_saving import Held, Key

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
ON CONFLICT (site_id, distinct_id) DO NOTHING
"""

FIND_IDENTITIES = """
SELECT i.site_id, i.distinct_id, i.no, i.visitor
FROM unnest(%b::text[], %b::text[]) AS key (site_id, distinct_id)
JOIN lastseen_identities AS i ON i.site_id = key.site_id AND i.distinct_id = key.distinct_id
"""

HOLD = """
SELECT i.no, i.site_id, i.distinct_id, i.visitor, i.newest_at, i.newest_id, i.marks FROM lastseen_identities AS i
WHERE i.no = ANY (%b::bigint[]) ORDER BY i.no FOR NO KEY UPDATE
"""

# After `HOLD`, which may have waited for somebody who wrote these.
NEWEST_VISITS = """
SELECT wanted.no, newest.body FROM unnest(%b::bigint[]) AS wanted (no)
CROSS JOIN LATERAL (
    SELECT v.body FROM lastseen_visits AS v WHERE v.visitor = wanted.no ORDER BY v.started_at DESC, v.id DESC LIMIT 1
) AS newest
"""

Numbers = tuple[int, int]
"""The number of an identity, and of the one that stands for its visitor."""


class MoreToHoldError(LastSeenError):
    """What was to be locked is not all that hangs together: begin a new transaction with these keys as well."""

    def __init__(self, keys: Collection[Key]) -> None:
        super().__init__("more identities hang together than were locked")
        self.keys = keys


class KnownIdentities:
    """Remembers numbers of identities, for any number of threads."""

    def __init__(self) -> None:
        self._numbers: dict[Key, Numbers] = {}

    def get(self, key: Key) -> Numbers | None:
        """Return the numbers that were last seen, if any."""
        return self._numbers.get(key)

    def remember(self, identities: Iterable[Identity]) -> None:
        """Remember the numbers of identities, and forget all others when they become too many."""
        if len(self._numbers) > MOST_KNOWN:
            self._numbers = {}
        self._numbers.update({(one.site_id, one.distinct_id): (one.no, one.visitor) for one in identities})

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget the numbers of some."""
        for key in keys:
            self._numbers.pop(key, None)


def hold_all(statements: Statements, keys: Collection[Key], known: KnownIdentities) -> Held:
    """Hold these identities, made where they are missing, and their visitors, each with its newest visit.

    Raises `MoreToHoldError` instead of locking twice, which could end in a circle.
    """
    numbers = {key: known.get(key) for key in keys}
    missing = sorted(key for key, found in numbers.items() if found is None)
    if missing:
        statements.run(MAKE_IDENTITIES, _columns(missing))
        numbers |= _find(statements, missing)
    visitors = {found[1] for found in numbers.values() if found is not None}
    wanted = sorted(visitors.union(found[0] for found in numbers.values() if found is not None))
    rows, visits = statements.ask_all([(HOLD, (wanted,)), (NEWEST_VISITS, (sorted(visitors),))])
    held = _held(rows)
    changed = [key for key in keys if (one := held.by_key.get(key)) is None or one.visitor not in held.by_no]
    if changed:
        known.forget(changed)
        raise MoreToHoldError([])
    known.remember(held.by_no.values())
    set_newest((held.by_no[no] for no in visitors if no in held.by_no), visits)
    return held


def hold_those_there(statements: Statements, keys: Sequence[Key]) -> Held:
    """Hold the identities that there are, and those that stand for their visitors."""
    found = _find(statements, keys)
    return _held(statements.ask(HOLD, (sorted({no for numbers in found.values() for no in numbers}),)))


def load_newest(statements: Statements, visitors: Collection[Identity]) -> None:
    """Set the newest visits of these visitors."""
    set_newest(visitors, statements.ask(NEWEST_VISITS, ([one.no for one in visitors],)))


def set_newest(visitors: Iterable[Identity], rows: Rows) -> None:
    """Set the newest visits of these visitors, from the rows that say which they are."""
    newest = {no: visit_of(text) for no, text in rows}
    for one in visitors:
        one.visit, one.is_loaded = newest.get(one.no), True


def _find(statements: Statements, keys: Collection[Key]) -> Mapping[Key, Numbers]:
    rows = statements.ask(FIND_IDENTITIES, _columns(keys))
    return {(site_id, distinct_id): (no, visitor) for site_id, distinct_id, no, visitor in rows}


def _held(rows: Rows) -> Held:
    held = Held()
    for row in rows:
        held.add(identity_of(row))
    return held


def _columns(keys: Collection[Key]) -> list[list[str]]:
    return [[site_id for site_id, _ in keys], [distinct_id for _, distinct_id in keys]]
