"""Login sessions of the server's own users."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class SessionView(Struct, kw_only=True):
    """Where a user is signed in; moments are UTC. The id is public, the token is not in here."""

    id: str
    user_id: str
    device: str
    network: str
    """The network that it came from, not the address itself."""
    created_at: datetime
    last_activity_at: datetime
    idle_deadline: datetime
    absolute_deadline: datetime
    is_current: bool
    """The session that asks."""


class SessionList(Struct, kw_only=True):
    """The sessions of one user, the most recently active first."""

    sessions: list[SessionView]
