"""Users of the server, and the trail of what they did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from lastseen.accounts.account import Account, Role
from lastseen.accounts.audit import AuditAction, AuditRecord
from lastseen.sessions.session import Session


class UserView(Struct, kw_only=True):
    """One user; moments are UTC. What proves who they are is not in here."""

    id: str
    name: str
    role: Role
    group_id: str | None
    """A member of a group sees the devices and keys of this group, and nothing else."""
    is_enabled: bool
    has_password: bool
    """False until a one-time link was used."""
    created_at: datetime
    sessions: int
    """On how many devices they are signed in."""
    last_activity_at: datetime | None
    """Of the sessions that are valid now."""

    @classmethod
    def of(cls, account: Account, sessions: Sequence[Session]) -> UserView:
        """Return what is shown of a user who has these valid sessions, the most recently active first."""
        return cls(
            id=account.user_id,
            name=account.name,
            role=account.role,
            group_id=account.group_id,
            is_enabled=account.is_enabled,
            has_password=account.has_password,
            created_at=account.created_at,
            sessions=len(sessions),
            last_activity_at=sessions[0].last_activity_at if sessions else None,
        )


class UserList(Struct, kw_only=True):
    """All users."""

    users: list[UserView]


class AuditView(Struct, kw_only=True):
    """One thing that happened; names are kept as they were."""

    id: int
    at: datetime
    action: AuditAction
    actor_id: str | None
    """Who did it; null for somebody who is not signed in."""
    actor_name: str
    subject_id: str | None
    """Whose account or session it was, or which key, device, group or site."""
    subject_name: str
    network: str
    """The network that it came from, not the address itself."""
    detail: str

    @classmethod
    def of(cls, record: AuditRecord) -> AuditView:
        """Return what is shown of an entry of the trail."""
        entry = record.entry
        return cls(
            id=record.id,
            at=entry.at,
            action=entry.action,
            actor_id=entry.actor_id,
            actor_name=entry.actor_name,
            subject_id=entry.subject_id,
            subject_name=entry.subject_name,
            network=entry.address,
            detail=entry.detail,
        )


class AuditList(Struct, kw_only=True):
    """One page of the trail, the latest first; `next_cursor` is null on the last."""

    entries: list[AuditView]
    next_cursor: str | None
