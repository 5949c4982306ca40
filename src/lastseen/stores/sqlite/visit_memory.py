"""What a transaction knew of visitors when it committed, for the next one: most events are of visitors just seen.

Nobody else may have written meanwhile. Commits of any other connection, whatever program it belongs to, change this
one's `data_version` (https://www.sqlite.org/pragma.html#pragma_data_version); our own advance the counter of visits, or
what its row says for `event_index`. Who finds these as they were, inside a writing transaction, finds everything else
as it was too.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import dataclass, field

from lastseen.stores.sqlite.event_index import EventIndex
from lastseen.stores.visit_saving import Held

COUNTER = "SELECT value, indexed FROM lastseen_visit_counter"

DATA_VERSION = "PRAGMA data_version"

MOST_IDENTITIES = 10_000
MOST_CHARACTERS = 16_000_000
"""When more is known than this, or of more identities, all is forgotten; 10,000 usual visitors are 15 MB."""


@dataclass(kw_only=True, slots=True)
class Memory:
    """The identities that are known, each as its row is, together with those that stand for their visitors."""

    connection: sqlite3.Connection
    data_version: int
    count: int
    events: EventIndex
    held: Held = field(default_factory=Held)
    size: int = 0
    """So many characters of JSON they are made of."""


class VisitMemory:
    """What is handed from one transaction to the next one of the same store; by any thread.

    Whoever begins takes it, and gives it back only after the commit: nobody else has it meanwhile, and after an error
    nobody has it at all.
    """

    def __init__(self) -> None:
        self._kept: deque[Memory] = deque(maxlen=1)

    def begin(self, connection: sqlite3.Connection) -> Memory:
        """Return what is known in a writing transaction that has begun; nothing, if anybody may have written since."""
        count, indexed = connection.execute(COUNTER).fetchone()
        version: int = connection.execute(DATA_VERSION).fetchone()[0]
        kept = self._take()
        if (
            kept is not None
            and kept.connection is connection
            and (kept.data_version, kept.count, kept.events.indexed) == (version, count, indexed)
            and len(kept.held.by_no) <= MOST_IDENTITIES
            and kept.size <= MOST_CHARACTERS
        ):
            return kept
        return Memory(connection=connection, data_version=version, count=count, events=EventIndex(connection, indexed))

    def keep(self, memory: Memory) -> None:
        """Give back what a transaction knew that has committed."""
        self._kept.append(memory)

    def _take(self) -> Memory | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None
