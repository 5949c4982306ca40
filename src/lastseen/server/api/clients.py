"""`GET /api/v1/clients…`: who was active, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import unquote

from litestar import Controller, Response, get
from litestar.di import Provide
from litestar.params import Parameter

from lastseen.activity.clients import ClientActivity
from lastseen.activity.key import key_problem
from lastseen.activity.status import ClientStatus
from lastseen.activity.store import Client, ClientOrder
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.server.api.asking import Cursor, Limit, Search, Span, checked_search
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.problem import Problem
from lastseen.settings import parse_span
from lastseen.wire.clients import ActiveClients, ActiveHours, ClientHours, ClientList, ClientView, Count, Counts

Within = Annotated[str, Parameter(description="a span such as 48h or 7d")]

MAX_HOURS = timedelta(days=366)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which clients; the same for listing and counting."""

    active_within: timedelta | None = None
    inactive_for: timedelta | None = None
    status: ClientStatus | None = None
    search: str = ""


def provide_filters(
    active_within: Span = None,
    inactive_for: Span = None,
    status: ClientStatus | None = None,
    search: Search = "",
) -> Filters:
    """Return the filters that a query string names; 400 names the parameter that is wrong."""
    return Filters(
        active_within=span_of("active_within", active_within),
        inactive_for=span_of("inactive_for", inactive_for),
        status=status,
        search=checked_search(search),
    )


def span_of(name: str, text: str | None, longest: timedelta | None = None) -> timedelta | None:
    """Return the span that a parameter gives; 400 when it is none, or reaches further back than 1970."""
    if text is None:
        return None
    try:
        span = parse_span(text)
    except ValueError as error:
        raise Problem.bad_parameter(name, str(error)) from error
    longest = longest or timedelta(seconds=SYSTEM_CLOCK.now())
    if span > longest:
        raise Problem.bad_parameter(name, f"must be at most {longest.days} days")
    return span


def view_of(client: Client, clients: ClientActivity) -> ClientView:
    """Return what is shown of a client now."""
    return ClientView(
        client_id=client.client_id,
        last_seen_at=client.last_seen_at,
        created_at=client.created_at,
        status=clients.status(client),
    )


class ClientsController(Controller):
    """Reads only; every answer includes what this process has recorded so far."""

    tags = ("clients",)
    dependencies = {"filters": Provide(provide_filters, sync_to_thread=False)}  # noqa: RUF012 - Litestar's own way

    @get(
        "/clients",
        sync_to_thread=True,
        summary="List clients",
        operation_id="ListClients",
        operation_class=ExportOperation,
        needs=Scope.CLIENTS_READ,
    )
    def list_clients(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        filters: Filters,
        export: Export,
        order: ClientOrder = ClientOrder.NEWEST,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response[ClientList]:
        """Return one page of clients, newest first unless asked otherwise."""
        page = seen.clients.list(
            active_within=filters.active_within,
            inactive_for=filters.inactive_for,
            status=filters.status,
            search=filters.search,
            order=order,
            limit=limit,
            cursor=cursor,
        )
        views = [view_of(client, seen.clients) for client in page]
        return export(ClientList(clients=views, next_cursor=page.next_cursor))

    @get(
        "/clients/count",
        sync_to_thread=True,
        summary="Count clients",
        operation_id="CountClients",
        needs=Scope.CLIENTS_READ,
    )
    def count_clients(self, seen: LastSeen, filters: Filters) -> Count:
        """Return how many clients the same filters would list."""
        count = seen.clients.count(
            active_within=filters.active_within,
            inactive_for=filters.inactive_for,
            status=filters.status,
            search=filters.search,
        )
        return Count(count=count)

    @get(
        "/clients/counts",
        sync_to_thread=True,
        summary="Count clients by status",
        operation_id="CountClientsByStatus",
        needs=Scope.CLIENTS_READ,
    )
    def count_by_status(self, seen: LastSeen, search: Search = "") -> Counts:
        """Return how many clients are online, recent, idle and inactive, all at one moment."""
        counts = seen.clients.counts(checked_search(search))
        return Counts(
            total=counts.total,
            online=counts.online,
            recent=counts.recent,
            idle=counts.idle,
            inactive=counts.inactive,
        )

    @get(
        "/clients/{client_id:str}",
        sync_to_thread=True,
        summary="Show one client",
        operation_id="GetClient",
        needs=Scope.CLIENTS_READ,
    )
    def show_client(self, seen: LastSeen, client_id: str) -> ClientView:
        """Return one client by its id, percent-encoded as one segment (a slash is `%2F`)."""
        return view_of(find_client(seen.clients, client_id), seen.clients)

    @get(
        "/clients/{client_id:str}/hours",
        sync_to_thread=True,
        summary="When one client was active",
        operation_id="GetClientHours",
        needs=Scope.CLIENTS_READ,
    )
    def client_hours(self, seen: LastSeen, client_id: str, within: Within = "7d") -> ClientHours:
        """Return the hours in which a client was active, ascending."""
        span = span_of("within", within, MAX_HOURS)
        client = find_client(seen.clients, client_id)
        since = hour_of(utc(SYSTEM_CLOCK.now()) - (span or MAX_HOURS))
        hours = seen.clients.active_hours([client.client_id], since)
        return ClientHours(client_id=client.client_id, since=since, hours=hours.get(client.client_id, []))

    @get(
        "/activity/hours",
        sync_to_thread=True,
        summary="How many clients were active, by hour",
        operation_id="CountActiveClientsByHour",
        operation_class=ExportOperation,
        needs=Scope.CLIENTS_READ,
    )
    def active_hours(self, seen: LastSeen, export: Export, within: Within = "7d") -> Response[ActiveHours]:
        """Return the number of clients that were active in each hour, ascending."""
        span = span_of("within", within, MAX_HOURS)
        since = hour_of(utc(SYSTEM_CLOCK.now()) - (span or MAX_HOURS))
        hours = seen.clients.active_clients_by_hour(since)
        counted = [ActiveClients(hour=hour, active_clients=count) for hour, count in hours.items()]
        return export(ActiveHours(since=since, hours=counted))


def find_client(clients: ClientActivity, segment: str) -> Client:
    """Return the client whose percent-encoded id this is; 404 when it was never seen."""
    client_id = unquote(segment, errors="surrogateescape")
    client = None if key_problem(client_id) else clients.get(client_id)
    if client is None:
        raise Problem(404, "no client with this id was ever seen")
    return client


def hour_of(moment: datetime) -> datetime:
    """Return the first moment of the hour."""
    return moment.replace(minute=0, second=0, microsecond=0)
