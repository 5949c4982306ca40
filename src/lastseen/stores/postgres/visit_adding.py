"""Adds events as if all were new, while the store looks at what they belong to.

They mostly are new. To find out that one is there already by the error that it makes takes the server half as long as
looking for each first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter

from lastseen.stores.postgres.visit_statements import Statements
from lastseen.stores.postgres.visit_values import COPY_EVENTS, NEW_EVENTS, event_blocks, event_columns
from lastseen.stores.visit_batch import bodies_of
from lastseen.stores.visit_saving import Key
from lastseen.visits.event import Event

_key_of = attrgetter("site_id", "id")

COPY_FROM = 500
"""So many events are copied, which takes the server less; fewer are rows of a statement that needs no round trip."""


class Adding:
    """The events of one transaction."""

    def __init__(self, statements: Statements, events: Collection[Event]) -> None:
        self._statements = statements
        self.events = events
        self._blocks: Iterable[bytes] = ()

    def begin(self, numbers: Mapping[Key, tuple[int, int]]) -> Iterator[object]:
        """Send few events, or return what makes rows of many, a step at a time: for as long as nothing can be copied.

        `numbers` has, by its key, the number of each identity before another.
        """
        events = self.events
        numbered, bodies = numbered_of(events), bodies_of(events)
        if len(events) < COPY_FROM and self._statements.can_add:
            self._statements.add(NEW_EVENTS, event_columns(numbered, numbers, bodies))
            return iter(())
        made: list[bytes] = []
        blocks = event_blocks(numbered, numbers, bodies)
        self._blocks = chain(made, blocks)
        return map(made.append, blocks)

    def go_on(self) -> None:
        """Copy the events that were not sent; return while the server still writes them."""
        blocks, self._blocks = self._blocks, ()
        if blocks:
            self._statements.copy(COPY_EVENTS, blocks)


def numbered_of(events: Iterable[Event]) -> Mapping[int, Event]:
    """Return events by their numbers in the transaction: in the order of their ids, or two could wait in a circle."""
    return dict(enumerate(sorted(events, key=_key_of), 1))
