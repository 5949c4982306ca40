"""How much is copied at once. Pure."""

from __future__ import annotations

from lastseen.visits.store import Changes

MOST = 160_000
"""Changes. Cut batches cost most: the events of one whose visits come with the next are looked at twice. And DuckDB
packs what is more than 122,880 rows right where it stays; what is less it writes to its log first: a fifth more."""
FIRST = 10_000
LEAST = 100
MOST_CHARACTERS = 100_000_000
"""Of events in a batch, about. It takes ten times that of memory: with more, events of many properties found none."""


class BatchSize:
    """So many `changes` are copied at once: fewer at first, of large events, and where more could not be copied."""

    def __init__(self) -> None:
        self.changes = FIRST

    def note_copied(self, changes: Changes) -> None:
        """Note a batch that went well: the next one may be twice as large."""
        self.changes = min(self.changes * 2, MOST)
        if changes.characters:
            fitting = MOST_CHARACTERS * len(changes.events) // changes.characters
            self.changes = max(min(self.changes, fitting), LEAST)

    def note_failed(self) -> None:
        """Note that nothing came of a batch, for want of memory or of time perhaps."""
        self.changes = max(self.changes // 2, LEAST)
