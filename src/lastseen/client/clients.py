"""Registered software that calls an API: who was active, and when."""

from __future__ import annotations

from lastseen.activity.status import ClientStatus
from lastseen.activity.store import ClientOrder
from lastseen.client.call import Call
from lastseen.wire.clients import ClientHours, ClientList, ClientView, Count, Counts

PATH = "/api/v1/clients"


def list(  # noqa: A001 - read as clients.list
    *,
    active_within: str | None = None,
    inactive_for: str | None = None,
    status: ClientStatus | None = None,
    search: str | None = None,
    order: ClientOrder | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[ClientList]:
    """Ask for one page of clients, last seen first; spans are such as 15m, 24h or 7d."""
    query = {
        "active_within": active_within,
        "inactive_for": inactive_for,
        "status": status,
        "search": search,
        "order": order,
        "limit": limit,
        "cursor": cursor,
    }
    return Call(operation="ListClients", method="GET", template=PATH, answer=ClientList, query=query)


def count(
    *,
    active_within: str | None = None,
    inactive_for: str | None = None,
    status: ClientStatus | None = None,
    search: str | None = None,
) -> Call[Count]:
    """Ask how many clients the same filters would list."""
    query = {"active_within": active_within, "inactive_for": inactive_for, "status": status, "search": search}
    return Call(operation="CountClients", method="GET", template=f"{PATH}/count", answer=Count, query=query)


def counts(*, search: str | None = None) -> Call[Counts]:
    """Ask how many clients have each status."""
    return Call(
        operation="CountClientsByStatus",
        method="GET",
        template=f"{PATH}/counts",
        answer=Counts,
        query={"search": search},
    )


def get(client_id: str) -> Call[ClientView]:
    """Ask for one client."""
    return Call(
        operation="GetClient",
        method="GET",
        template=f"{PATH}/{{client_id}}",
        answer=ClientView,
        path={"client_id": client_id},
    )


def hours(client_id: str, *, within: str = "7d") -> Call[ClientHours]:
    """Ask for the hours in which a client was active."""
    return Call(
        operation="GetClientHours",
        method="GET",
        template=f"{PATH}/{{client_id}}/hours",
        answer=ClientHours,
        path={"client_id": client_id},
        query={"within": within},
    )
