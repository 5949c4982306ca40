"""What the stores on a database decide alike about login sessions. Pure: rows and moments are handed in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from lastseen.errors import SessionNotFound, SessionRefused, TooManySessions, UnknownUser
from lastseen.sessions.session import Session
from lastseen.sessions.store import SessionDraft, SessionLimit, WhenFull

STATEMENT_KEYS = 5_000
"""At most this many sessions go into one statement of a batch."""


def not_found() -> SessionNotFound:
    """Return the one error for a session that is gone, has expired, or is somebody else's."""
    return SessionNotFound("there is no such session")


def unknown_user(user_id: str) -> UnknownUser:
    """Return the error for a user who is not there."""
    return UnknownUser(f"there is no user {user_id!r}")


def refused() -> SessionRefused:
    """Return the error for who was authenticated before all sessions were ended."""
    return SessionRefused("all sessions of this user were ended; sign in again")


def first_session(
    user_id: str, idle_deadline: datetime, absolute_deadline: datetime, now: datetime, draft: SessionDraft
) -> Session:
    """Return the session that a login makes."""
    return Session(
        id=draft.id,
        user_id=user_id,
        idle_deadline=min(idle_deadline, absolute_deadline),
        absolute_deadline=absolute_deadline,
        created_at=now,
        authenticated_at=draft.authenticated_at,
        last_activity_at=now,
        credential_kind=draft.credential_kind,
        device=draft.device,
        address=draft.address,
        label=draft.label,
    )


def evicted(valid: Sequence[Session], limit: SessionLimit | None) -> list[Session]:
    """Return those of a user's valid sessions that must end before one more begins, the least active ones.

    Raises `TooManySessions` when the limit refuses instead.
    """
    if limit is None:
        return []
    excess = len(valid) - limit.most + 1
    if excess > 0 and limit.when_full is WhenFull.REFUSE:
        raise TooManySessions(f"a user may have {limit.most} sessions")
    by_activity = sorted(valid, key=lambda session: (session.last_activity_at, session.id), reverse=True)
    return by_activity[-excess:] if excess > 0 else []


def device_hash(device_key: str) -> bytes:
    """Return what is kept of a device: any text fits an index this way, and the list of devices tells nothing."""
    return hashlib.sha256(device_key.encode("utf-8", "surrogatepass")).digest()
