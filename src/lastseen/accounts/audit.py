"""Who did what, when, from where: entries that are only ever added. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AuditAction(StrEnum):
    """What happened; the words are those that the page shows."""

    SET_UP = "server set up"
    SIGNED_IN = "signed in"
    SIGN_IN_FAILED = "sign-in failed"
    SIGNED_OUT = "signed out"
    NEW_DEVICE = "new device"
    SESSION_REVOKED = "session revoked"
    SESSIONS_REVOKED = "sessions revoked"
    PASSWORD_CHANGED = "password changed"  # noqa: S105 - a name of what happened
    PASSWORD_REFUSED = "password change refused"  # noqa: S105 - as above
    USER_CREATED = "user created"
    LINK_MADE = "one-time link made"
    LINK_USED = "one-time link used"
    USER_DISABLED = "user disabled"
    USER_ENABLED = "user enabled"
    USER_DELETED = "user deleted"
    GROUP_CHANGED = "group changed"
    KEY_CREATED = "API key created"
    KEY_ROTATED = "API key rotated"
    KEY_REVOKED = "API key revoked"
    DEVICE_DELETED = "device deleted"
    GROUP_CREATED = "group of devices created"
    GROUP_RENAMED = "group of devices renamed"
    GROUP_DELETED = "group of devices deleted"
    SITE_CREATED = "site created"
    SITE_EDITED = "site changed"
    SITE_DELETED = "site deleted"
    WRITE_KEY_REPLACED = "write key replaced"


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One thing that happened. Names are kept as they were, so that the trail still reads after a user is deleted.

    Nothing that a stranger typed is in here: people type passwords into the field for the name.
    """

    at: datetime
    action: AuditAction
    actor_id: str | None = None
    """Who did it; None for somebody who is not signed in."""
    actor_name: str = ""
    subject_id: str | None = None
    """Whose account or session it was, or which key, device, group or site."""
    subject_name: str = ""
    address: str = ""
    """The network it came from, not the address itself."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRecord:
    """An entry with its place in the trail; places grow."""

    id: int
    entry: AuditEntry
