"""The page: clients, how they are, and when they were active; complete without a script, live with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.di import Provide

from lastseen.activity.status import ClientStatus, StatusRule
from lastseen.activity.store import ClientOrder
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.server.api.asking import Cursor
from lastseen.server.api.clients import Filters, hour_of, provide_filters
from lastseen.server.pages.charts import DAY_STRIP, active_strip, busiest_hour, hourly_values
from lastseen.server.pages.exports import exports, list_exports
from lastseen.server.pages.frame import go, home_of, show_problem
from lastseen.server.pages.hint import curl_line
from lastseen.server.pages.live import Page, element_id, show_live, show_part, with_tag
from lastseen.server.rights import principal_of
from lastseen.settings import format_span

PAGE_SIZE = 50
OVERVIEW = timedelta(days=7)

PART = "clients.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What the address asks for; every view has an address of its own, the same fields as the API's."""

    status: str | None = None
    active_within: str | None = None
    inactive_for: str | None = None
    search: str = ""
    order: str = ClientOrder.NEWEST.value
    cursor: str | None = None

    def query(self) -> str:
        """Return the query string, without what is the default."""
        return urlencode(self.fields())

    def fields(self) -> dict[str, str]:
        """Return the fields of the address, without what is the default."""
        fields = {
            "status": self.status,
            "active_within": self.active_within,
            "inactive_for": self.inactive_for,
            "search": self.search,
            "order": self.order if self.order != ClientOrder.NEWEST else None,
            "cursor": self.cursor,
        }
        return {name: value for name, value in fields.items() if value}

    def address(self, **changes: str | None) -> str:
        """Return the address of this view with changes; it starts at the first page again."""
        query = replace(self, **{"cursor": None, **changes}).query()  # type: ignore[arg-type]
        return f"/?{query}" if query else "/"

    def filtered(self, **filters: str | None) -> str:
        """Return the address of another filter, keeping search and order."""
        return self.address(**{"status": None, "active_within": None, "inactive_for": None, **filters})

    @property
    def is_filtered(self) -> bool:
        """Whether some clients are left out."""
        return bool(self.status or self.active_within or self.inactive_for or self.search)


def show_problem_or_go_home(request: Request[None, None, State], error: Exception) -> Response[Any]:
    """Lead a member of a group, who may not see the clients, to the first page that is open to them."""
    home = home_of(request)
    if home not in {None, "/"} and not principal_of(request).may(Scope.CLIENTS_READ):
        return go(str(home))
    return show_problem(request, error)


@get(
    "/",
    needs=Scope.CLIENTS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    dependencies={"filters": Provide(provide_filters, sync_to_thread=False)},
    exception_handlers={Exception: show_problem_or_go_home},
)
def show_page(
    request: Request[None, None, State],
    seen: LastSeen,
    filters: Filters,
    order: ClientOrder = ClientOrder.NEWEST,
    cursor: Cursor = None,
) -> Page:
    """Show the whole page."""
    view = _view(request, order, cursor)
    content = _content(seen, filters, view, str(request.base_url).rstrip("/"))
    return show_live(request, PART, content, title="Clients", path="/", has_chart=True)


@get(
    "/rows",
    needs=Scope.CLIENTS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    dependencies={"filters": Provide(provide_filters, sync_to_thread=False)},
)
def show_rows(
    request: Request[None, None, State],
    seen: LastSeen,
    filters: Filters,
    order: ClientOrder = ClientOrder.NEWEST,
    cursor: Cursor = None,
) -> Page:
    """Show what changes on the page; 304 when nothing did."""
    view = _view(request, order, cursor)
    return show_part(request, PART, _content(seen, filters, view, str(request.base_url).rstrip("/")))


def _view(request: Request[None, None, State], order: ClientOrder, cursor: str | None) -> View:
    given = request.query_params
    return View(
        status=given.get("status") or None,
        active_within=given.get("active_within") or None,
        inactive_for=given.get("inactive_for") or None,
        search=given.get("search") or "",
        order=order.value,
        cursor=cursor,
    )


def _content(seen: LastSeen, filters: Filters, view: View, address: str) -> dict[str, Any]:
    clients = seen.clients
    now = utc(SYSTEM_CLOCK.now())
    page = clients.list(
        active_within=filters.active_within,
        inactive_for=filters.inactive_for,
        status=filters.status,
        search=filters.search,
        order=ClientOrder(view.order),
        limit=PAGE_SIZE,
        cursor=view.cursor,
    )
    counts = clients.counts(filters.search)
    strip_since = hour_of(now) - DAY_STRIP
    hours = clients.active_hours([client.client_id for client in page], strip_since)
    overview_since = hour_of(now) - OVERVIEW
    by_hour = clients.active_clients_by_hour(overview_since)
    content = {
        "rows": [
            {
                "client_id": client.client_id,
                "element_id": element_id("client", client.client_id),
                "status": clients.status(client).value,
                "last_seen_at": client.last_seen_at,
                "created_at": client.created_at,
                "strip": active_strip(hours.get(client.client_id, ()), strip_since),
            }
            for client in page
        ],
        "counts": {"total": counts.total, **{status.value: getattr(counts, status.value) for status in ClientStatus}},
        "next": view.address(cursor=page.next_cursor) if page.next_cursor else None,
        "hours": hourly_values(by_hour, overview_since, now),
        "hours_start": int(overview_since.timestamp()),
        "busiest": busiest_hour(by_hour),
        "exports": list_exports("/api/v1/clients", replace(view, cursor=None).fields().items()),
        "chart_exports": exports("/api/v1/activity/hours", [("within", format_span(OVERVIEW))]),
    }
    return with_tag(
        content,
        now,
        view=view,
        spans=status_spans(clients.status_rule),
        curl_line=curl_line(address),
        nobody=counts.total == 0 and not view.search,
    )


def status_spans(rule: StatusRule) -> dict[str, str]:
    """Say in words where each status begins and ends."""
    online, recent, idle = (format_span(span) for span in (rule.online, rule.recent, rule.idle))
    return {
        "online": f"seen under {online} ago",
        "recent": f"{online} to {recent} ago",
        "idle": f"{recent} to {idle} ago",
        "inactive": f"not for {idle}",
    }
