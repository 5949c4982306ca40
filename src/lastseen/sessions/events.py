"""What happens to sessions, for the application to act on: audit trails, warnings to users, counts of attacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class SessionEventKind(StrEnum):
    """What happened."""

    SIGNED_IN = "signed_in"
    NEW_DEVICE = "new_device"
    """A user who has signed in before did so from a device never seen."""
    REFUSED = "refused"
    """A token that is no session's was presented: a guess, or one that was revoked."""
    EXPIRED = "expired"
    REVOKED = "revoked"
    ROTATED = "rotated"
    CONFLICT = "conflict"
    """One request carried two credentials that disagree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEvent:
    """One thing that happened; carries public ids only."""

    kind: SessionEventKind
    at: datetime
    user_id: str | None = None
    session_id: str | None = None
    detail: dict[str, str] = field(default_factory=dict)
