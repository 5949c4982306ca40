"""What became of everything that came in, for whoever watches. Written by the event loop and the committing thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """Counts since the start."""

    accepted: int = 0
    """Events that were acknowledged, repeated ones too."""
    duplicates: int = 0
    """Events that were there already."""
    refused: int = 0
    """Events answered 503, because too many waited or nothing could keep them."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Events refused on purpose, by cause."""
    commits: int = 0
    failed_commits: int = 0
    spooled: int = 0
    """Events that were acknowledged from the spool."""
    drained: int = 0
    """Events that went from the spool into the database."""
    damaged_bytes: int = 0
    """Bytes of damaged files of the spool that gave no event, SQLite's own among them."""
