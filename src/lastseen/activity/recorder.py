"""The optional protocol of whatever writes recorded activity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable

from lastseen.errors import MissingAbility


@runtime_checkable
class ActivityRecorder(Protocol):
    """Writes a batch of activity; a store that lacks it works for everything but tracking."""

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """Move each key's time forward to its own (aware, UTC) time, and return how many rows moved.

        - A row whose stored time is the same or newer stays as it is and does not count.
        - Update-only recorders ignore unknown keys; upserting ones insert them.
        - The batch is one transaction: after an error nothing of it is written.
        - Calling again with the same or an older batch changes nothing, so a retry is always safe.
        - An empty mapping returns 0 without touching the database.
        - Any thread may call, beside all other calls on the store.
        - Keys come sorted bytewise; write them in that order, else two writers deadlock.

        Raises `StoreUnavailable` when the same call may succeed later (the tracker keeps everything and backs off),
        `InvalidData` when a value is refused for ever (the tracker splits the batch until the bad key stands alone,
        drops that one and writes the rest), `SchemaError` when a table or a unique key is missing (the tracker keeps
        everything and its health turns red). Any other exception is treated like `StoreUnavailable`.
        """


def require_recorder(candidate: object) -> ActivityRecorder:
    """Return the object as a recorder, or raise `MissingAbility` with the name of what it lacks."""
    if isinstance(candidate, ActivityRecorder):
        return candidate
    raise MissingAbility(
        f"{type(candidate).__name__} cannot track activity: it does not implement ActivityRecorder, "
        "that is batch_record_activity(updates: Mapping[str, datetime]) -> int"
    )
