"""All API keys, the youngest first; complete without a script, live with it."""

from __future__ import annotations

from typing import Any

from litestar import get

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import KeyStatus, Scope
from lastseen.server.api.asking import Cursor
from lastseen.server.pages.devices.asking import Pages, address, checked_id, find_group, groups_of
from lastseen.server.pages.devices.device import find_device
from lastseen.server.pages.devices.key_rows import key_rows
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import IS_SET_UP, AnyRequest
from lastseen.server.pages.live import Page, show_live, show_part, with_tag
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal

PATH = "/keys"
STYLES = ("devices.css",)
PART = "devices/key_rows.html"
PAGE_SIZE = 50
OWNERS = ("device", "group", "site")
"""What a key may belong to."""


class KeyListPages(Pages):
    """The list, and what changes of it."""

    path = PATH

    @get("/", needs=Scope.KEYS_READ, sync_to_thread=True)
    def show_list(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        device: str = "",
        group: str = "",
        site: str = "",
        status: KeyStatus | None = None,
        cursor: Cursor = None,
    ) -> Page:
        """Show the whole page."""
        owner = {"device": device, "group": group, "site": site}
        return show_live(
            request,
            PART,
            _content(request, seen, principal, owner, status, cursor),
            title="Keys",
            path=PATH,
            styles=STYLES,
        )

    @get("/rows", needs=Scope.KEYS_READ, sync_to_thread=True)
    def show_rows(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        device: str = "",
        group: str = "",
        site: str = "",
        status: KeyStatus | None = None,
        cursor: Cursor = None,
    ) -> Page:
        """Show what changes on the page."""
        owner = {"device": device, "group": group, "site": site}
        return show_part(request, PART, _content(request, seen, principal, owner, status, cursor))


def _content(  # noqa: PLR0917 - as the handlers have them
    request: AnyRequest,
    seen: LastSeen,
    principal: Principal,
    owner: dict[str, str],
    status: KeyStatus | None,
    cursor: str | None,
) -> dict[str, Any]:
    now = utc(SYSTEM_CLOCK.now())
    names = {group.id: group.name for group in groups_of(seen, principal)}
    fields = {**owner, "status": status}
    chips = _filters(seen, principal, fields)
    page = seen.keys.list(
        device_id=owner["device"] or None,
        group_id=owner["group"] or None,
        site_id=owner["site"] or None,
        status=status,
        limit=PAGE_SIZE,
        cursor=cursor or None,
        within=principal.within,
    )
    rows = key_rows(page, now, names)
    ids = {f"{name}_id": value for name, value in owner.items()}
    content = {
        "rows": rows,
        "filters": chips,
        "statuses": _statuses(fields),
        "next": address(PATH, {**fields, "cursor": page.next_cursor}) if page.next_cursor else None,
        "nothing": not rows and not chips and not cursor and status is None,
        "first": address(PATH, fields) if cursor else None,
        "new": address("/keys/new", owner),
        "exports": list_exports("/api/v1/keys", {**ids, "status": status}.items()),
    }
    return with_tag(content, now, is_set_up=request.scope.get(IS_SET_UP, True))


def _statuses(fields: dict[str, str | None]) -> list[dict[str, Any]]:
    """Return what leads to the keys of each status, and to all."""
    return [
        {"words": "All" if one is None else one.capitalize(), "href": address(PATH, {**fields, "status": one})}
        | {"css": one or "all", "current": fields["status"] == one}
        for one in (None, *(status.value for status in KeyStatus))
    ]


def _filters(seen: LastSeen, principal: Principal, fields: dict[str, str | None]) -> list[dict[str, str]]:
    """Say whose keys the list is limited to; 404 for what is not there for this principal."""
    return [
        {
            "words": f"{kind} {name_of_owner(seen, principal, kind, owner)}",
            "href": address(PATH, {**fields, kind: None}),
        }
        for kind in OWNERS
        if (owner := fields[kind])
    ]


def name_of_owner(seen: LastSeen, principal: Principal, kind: str, owner: str) -> str:
    """Return how a device, a group or a site is called that may have keys; 404 when it is not there for this principal.

    A site that was deleted has its keys still.
    """
    if kind == "device":
        device = find_device(seen, principal, owner)
        return device.name or device.id
    if kind == "group":
        return find_group(seen, principal, owner).name
    if principal.is_limited:
        raise Problem(404, "there is no such site")
    return checked_id(owner, "site")
