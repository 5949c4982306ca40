"""What clients need from a store, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lastseen.activity.recorder import ActivityRecorder

MAX_PAGE = 1_000
"""The most clients that one page of a listing holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """Registered software that calls an API. Moments are aware and UTC."""

    client_id: str
    last_seen_at: datetime
    created_at: datetime
    """When it was first seen; never changes."""


class ClientOrder(StrEnum):
    """How a listing is sorted; ties are broken by client id, bytewise ascending."""

    NEWEST = "newest"
    """Last seen first."""
    OLDEST = "oldest"
    """Silent for longest first."""
    CLIENT_ID = "client_id"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientFilter:
    """Which clients: `seen_after < last_seen_at <= seen_until`, and the search text is part of the client id.

    The search ignores the case of ASCII letters; how other letters fold is the database's affair.
    """

    seen_after: datetime | None = None
    seen_until: datetime | None = None
    search: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientQuery:
    """One page of clients. `after` is the last client of the page before."""

    where: ClientFilter = ClientFilter()
    order: ClientOrder = ClientOrder.NEWEST
    limit: int = 100
    after: tuple[datetime, str] | None = None


@runtime_checkable
class ClientStore(ActivityRecorder, Protocol):
    """Keeps clients and the hours in which they were active; its recording *upserts*.

    A new client gets `created_at` = `last_seen_at` = its time, and `created_at` never changes afterwards.
    Every method raises `StoreUnavailable` or `SchemaError` when the database fails; any thread may call any of them.
    """

    def batch_record_hours(self, hours: Mapping[str, Collection[datetime]]) -> int:
        """Note that each client was active in these hours (their first moments, UTC); return how many were new.

        One transaction; what is already noted stays; an empty mapping returns 0 without touching the database.
        """

    def get_client(self, client_id: str) -> Client | None:
        """Return one client, or None when it was never seen."""

    def list_clients(self, query: ClientQuery) -> list[Client]:
        """Return at most `query.limit` clients, in the query's order."""

    def count_clients(self, where: Sequence[ClientFilter]) -> list[int]:
        """Return how many clients pass each filter."""

    def active_hours(self, client_ids: Collection[str], since: datetime) -> dict[str, list[datetime]]:
        """Return each client's active hours since then, ascending; clients without any are left out."""

    def active_clients_by_hour(self, since: datetime) -> dict[datetime, int]:
        """Return how many clients were active in each hour since then; hours without any are left out."""

    def check_schema(self) -> None:
        """Return when the tables are as they must be; raise `SchemaError` that says what to run when not."""


@runtime_checkable
class ClientRemoval(Protocol):
    """The optional ability of a client store to forget clients."""

    def remove_clients(self, client_ids: Collection[str]) -> int:
        """Remove these clients and their active hours, in one transaction; return how many clients were there."""
