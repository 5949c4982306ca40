"""Clients: registered software that calls an API, and when it was active."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from lastseen.activity.status import ClientStatus


class ClientView(Struct, kw_only=True):
    """One client; moments are UTC."""

    client_id: str
    last_seen_at: datetime
    created_at: datetime
    status: ClientStatus


class ClientList(Struct, kw_only=True):
    """One page of clients; `next_cursor` is null on the last."""

    clients: list[ClientView]
    next_cursor: str | None


class Count(Struct, kw_only=True):
    """How many pass the filters."""

    count: int


class Counts(Struct, kw_only=True):
    """How many clients have each status; the four add up to the total."""

    total: int
    online: int
    recent: int
    idle: int
    inactive: int


class ClientHours(Struct, kw_only=True):
    """The hours (their first moments) in which a client was active."""

    client_id: str
    since: datetime
    hours: list[datetime]


class ActiveClients(Struct, kw_only=True):
    """How many clients were active in one hour."""

    hour: datetime
    active_clients: int


class ActiveHours(Struct, kw_only=True):
    """How many clients were active in each hour; hours without any are left out."""

    since: datetime
    hours: list[ActiveClients]


class Rejection(Struct, kw_only=True, omit_defaults=True):
    """One activity that can never be stored: where it was in the request, and why."""

    reason: str
    index: int | None = None
    """Its place in an array."""
    line: int | None = None
    """Its line, from 1."""


class Recorded(Struct, kw_only=True, omit_defaults=True):
    """What became of the activities of one request."""

    accepted: int
    rejected: int
    """They can never be stored."""
    dropped: int
    """The buffer is full of others."""
    errors: list[Rejection] = []
    """The first ten that were rejected."""
