"""Events, as they are acknowledged."""

from __future__ import annotations

from msgspec import Struct

from lastseen.wire.clients import Rejection


class EventsRecorded(Struct, kw_only=True, omit_defaults=True):
    """What became of the events of one request."""

    accepted: int
    """They are stored, or on disk to be stored."""
    dropped: int
    """They can never be."""
    errors: list[Rejection] = []
    """The first ten that were dropped."""
