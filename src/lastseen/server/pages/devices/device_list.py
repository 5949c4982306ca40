"""All devices: how they are and when they were last seen; complete without a script, live with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from litestar import get

from lastseen.activity.status import ClientStatus
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.device import Device
from lastseen.devices.key import Scope
from lastseen.devices.manager import Devices
from lastseen.devices.store import DeviceFilter, DeviceOrder
from lastseen.server.api.asking import Cursor, Search, checked_search
from lastseen.server.pages.clients import status_spans
from lastseen.server.pages.devices.asking import Pages, address, find_group, groups_of
from lastseen.server.pages.exports import Link, list_exports
from lastseen.server.pages.frame import IS_SET_UP, AnyRequest
from lastseen.server.pages.hint import device_line
from lastseen.server.pages.live import Page, element_id, show_live, show_part, with_tag
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal

PATH = "/devices"
STYLES = ("devices.css",)
PART = "devices/device_rows.html"
PAGE_SIZE = 50
NEVER = "never"
_STATUSES = (*(status.value for status in ClientStatus), NEVER)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What the address asks for; every view has an address of its own."""

    status: str | None = None
    group: str | None = None
    search: str = ""
    order: DeviceOrder = DeviceOrder.NEWEST
    cursor: str | None = None

    def address(self, **changes: Any) -> str:
        """Return the address of this view with changes; it starts at the first page again."""
        view = replace(self, **{"cursor": None, **changes})
        return address(PATH, view.fields())

    def fields(self) -> dict[str, str | None]:
        """Return the fields of the address, without what is the default."""
        order = None if self.order == DeviceOrder.NEWEST else str(self.order)
        return {
            "status": self.status,
            "group": self.group,
            "search": self.search,
            "order": order,
            "cursor": self.cursor,
        }

    def exports(self) -> Sequence[Link]:
        """Return the API's addresses of the same list."""
        is_never = self.status == NEVER
        fields = {
            "status": None if is_never else self.status,
            "is_seen": "false" if is_never else None,
            "group_id": self.group,
            "search": self.search,
            "order": self.order.value,
        }
        return list_exports("/api/v1/devices", fields.items())


class DeviceListPages(Pages):
    """The list, and what changes of it."""

    path = PATH

    @get("/", needs=Scope.DEVICES_READ, sync_to_thread=True)
    def show_list(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        status: str = "",
        group: str = "",
        search: Search = "",
        order: DeviceOrder = DeviceOrder.NEWEST,
        cursor: Cursor = None,
    ) -> Page:
        """Show the whole page."""
        view = _view(seen, principal, status, group, search, order, cursor)
        return show_live(
            request, PART, _content(request, seen, principal, view), title="Devices", path=PATH, styles=STYLES
        )

    @get("/rows", needs=Scope.DEVICES_READ, sync_to_thread=True)
    def show_rows(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        status: str = "",
        group: str = "",
        search: Search = "",
        order: DeviceOrder = DeviceOrder.NEWEST,
        cursor: Cursor = None,
    ) -> Page:
        """Show what changes on the page."""
        view = _view(seen, principal, status, group, search, order, cursor)
        return show_part(request, PART, _content(request, seen, principal, view))


def _view(  # noqa: PLR0917 - as the handlers have them
    seen: LastSeen, principal: Principal, status: str, group: str, search: str, order: DeviceOrder, cursor: str | None
) -> View:
    if status and status not in _STATUSES:
        raise Problem.bad_parameter("status", f"one of {', '.join(_STATUSES)}, not {status[:100]!r}")
    group_id = find_group(seen, principal, group).id if group else None
    return View(
        status=status or None, group=group_id, search=checked_search(search), order=order, cursor=cursor or None
    )


def _content(request: AnyRequest, seen: LastSeen, principal: Principal, view: View) -> dict[str, Any]:
    now = utc(SYSTEM_CLOCK.now())
    is_never = view.status == NEVER
    page = seen.devices.list(
        group_id=view.group,
        status=ClientStatus(view.status) if view.status and not is_never else None,
        is_seen=False if is_never else None,
        search=view.search,
        order=view.order,
        limit=PAGE_SIZE,
        cursor=view.cursor,
        within=principal.within,
    )
    groups = groups_of(seen, principal)
    names = {group.id: group.name for group in groups}
    counts = _counts(seen.devices, principal, view, now)
    content = {
        "rows": [_row(device, seen.devices, names) for device in page],
        "counts": counts,
        "next": view.address(cursor=page.next_cursor) if page.next_cursor else None,
        "groups": [(group.id, group.name) for group in groups],
        "nothing": counts["total"] == 0 and not view.search and not view.group,
        "exports": view.exports(),
    }
    line = device_line(str(request.base_url).rstrip("/"), needs_key=bool(request.scope.get(IS_SET_UP, True)))
    spans = {**status_spans(seen.devices.status_rule), NEVER: "not even once"}
    return with_tag(content, now, view=view, spans=spans, line=line, within=principal.within)


def _counts(devices: Devices, principal: Principal, view: View, now: datetime) -> dict[str, int]:
    """Count each status word within what is searched for, all at one moment."""
    everything = DeviceFilter(group_id=view.group or principal.within, search=view.search)
    windows = [devices.status_rule.window(status, now) for status in ClientStatus]
    filters = [
        everything,
        *(replace(everything, is_seen=True, seen_after=after, seen_until=until) for after, until in windows),
        replace(everything, is_seen=False),
    ]
    return dict(zip(("total", *_STATUSES), devices.store.count_devices(filters), strict=True))


def _row(device: Device, devices: Devices, names: dict[str, str]) -> dict[str, Any]:
    status = devices.status(device)
    return {
        "element_id": element_id("device", device.id),
        "href": address("/device", {"id": device.id}),
        "id": device.id,
        "name": device.name,
        "platform": device.platform,
        "group": None if device.group_id is None else names.get(device.group_id, device.group_id),
        "owner": device.owner_id or "",
        "status": NEVER if status is None else status.value,
        "last_seen_at": device.last_seen_at,
    }
