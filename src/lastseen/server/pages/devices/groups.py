"""Groups of devices and keys: listed, made, renamed, deleted."""

from __future__ import annotations

from typing import Any

from litestar import get, post

from lastseen.accounts.audit import AuditAction
from lastseen.activity.status import ClientStatus
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.device import Group
from lastseen.devices.key import Scope
from lastseen.devices.store import DeviceFilter
from lastseen.devices.values import MAX_NAME_LENGTH, check_id, check_text
from lastseen.server.api.asking import Cursor
from lastseen.server.api.groups import require_unlimited
from lastseen.server.pages.devices.asking import Form, Pages, WrongField, address, checking, find_group, show_form
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import AnyRequest, go, show
from lastseen.server.pages.live import Page
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail

PAGE_SIZE = 50


class GroupPages(Pages):
    """The list of groups, and the pages of one."""

    path = "/"

    @get("/groups", needs=Scope.GROUPS_READ, sync_to_thread=True)
    def show_list(self, request: AnyRequest, seen: LastSeen, principal: Principal, cursor: Cursor = None) -> Page:
        """Show all groups, by name."""
        return _list_page(request, seen, principal, {}, cursor=cursor)

    @post("/groups", needs=Scope.GROUPS_WRITE, sync_to_thread=True)
    def create(self, request: AnyRequest, seen: LastSeen, principal: Principal, trail: Trail, data: Form) -> Page:
        """Make a group."""
        require_unlimited(principal)
        try:
            group = _create(seen, data)
        except WrongField as problem:
            return _list_page(request, seen, principal, data, problem)
        trail.note(AuditAction.GROUP_CREATED, group.id, group.name)
        return go(address("/group", {"id": group.id}))

    @get("/group", needs=Scope.GROUPS_READ, sync_to_thread=True)
    def show_group(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - its name in the address
        """Show one group."""
        group = find_group(seen, principal, id)
        return _group_page(request, seen, principal, group, {"name": group.name})

    @post("/group", needs=Scope.GROUPS_WRITE, sync_to_thread=True)
    def rename(  # noqa: PLR0917 - Litestar fills them by name
        self,
        request: AnyRequest,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        data: Form,
        id: str = "",  # noqa: A002 - as above
    ) -> Page:
        """Give it another name."""
        group = find_group(seen, principal, id)
        try:
            name = _name(data)
        except WrongField as problem:
            return _group_page(request, seen, principal, group, data, problem)
        if name != group.name:
            seen.devices.rename_group(group.id, name, within=principal.within)
            trail.note(AuditAction.GROUP_RENAMED, group.id, name, f"was {group.name}")
        return go(address("/group", {"id": group.id}))

    @get("/group/delete", needs=Scope.GROUPS_WRITE, sync_to_thread=True)
    def ask_to_delete(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - as above
        """Ask once more."""
        group = find_group(seen, principal, id)
        require_unlimited(principal)
        return show(
            request,
            "devices/confirm.html",
            question=f"Delete the group {group.name}?",
            words="Its devices stay, in no group. Its own keys work no more from that moment. Members who are limited "
            "to it see nothing any more.",
            action=address("/group/delete", {"id": group.id}),
            button="Delete it for good",
            back=address("/group", {"id": group.id}),
        )

    @post("/group/delete", needs=Scope.GROUPS_WRITE, sync_to_thread=True)
    def delete(
        self,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        id: str = "",  # noqa: A002 - as above
    ) -> Page:
        """Remove it."""
        group = find_group(seen, principal, id)
        require_unlimited(principal)
        seen.devices.delete_group(group.id)
        trail.note(AuditAction.GROUP_DELETED, group.id, group.name)
        return go("/groups")


def _name(data: Form) -> str:
    name = data.get("name", "").strip()
    with checking("name"):
        check_text("The name", name, MAX_NAME_LENGTH, required=True)
    return name


def _create(seen: LastSeen, data: Form) -> Group:
    name, group_id = _name(data), data.get("id", "").strip() or None
    with checking("id"):
        if group_id is not None:
            check_id("The id", group_id)
        return seen.devices.create_group(name, group_id=group_id)


def _list_page(
    request: AnyRequest,
    seen: LastSeen,
    principal: Principal,
    fields: dict[str, str],
    problem: WrongField | None = None,
    *,
    cursor: str | None = None,
) -> Page:
    page = seen.devices.list_groups(limit=PAGE_SIZE, cursor=cursor or None, within=principal.within)
    counts = _counts(seen, [group.id for group in page])
    return show_form(
        request,
        "devices/groups.html",
        problem,
        fields=fields,
        groups=[{"group": group, "href": address("/group", {"id": group.id}), **counts[group.id]} for group in page],
        cursor=cursor,
        exports=list_exports("/api/v1/groups"),
        next=address("/groups", {"cursor": page.next_cursor}) if page.next_cursor else None,
        is_limited=principal.is_limited,
    )


def _group_page(  # noqa: PLR0917 - as above
    request: AnyRequest,
    seen: LastSeen,
    principal: Principal,
    group: Group,
    fields: dict[str, str],
    problem: WrongField | None = None,
) -> Page:
    context: dict[str, Any] = _counts(seen, [group.id])[group.id]
    return show_form(
        request,
        "devices/group.html",
        problem,
        fields=fields,
        group=group,
        is_limited=principal.is_limited,
        **context,
    )


def _counts(seen: LastSeen, group_ids: list[str]) -> dict[str, dict[str, int]]:
    """Count the devices of each group, and those online, all at one moment."""
    after, until = seen.devices.status_rule.window(ClientStatus.ONLINE, utc(SYSTEM_CLOCK.now()))
    filters = [
        where
        for group_id in group_ids
        for where in (
            DeviceFilter(group_id=group_id),
            DeviceFilter(group_id=group_id, is_seen=True, seen_after=after, seen_until=until),
        )
    ]
    counts = seen.devices.store.count_devices(filters)
    return {
        group_id: {"total": counts[2 * place], "online": counts[2 * place + 1]}
        for place, group_id in enumerate(group_ids)
    }
