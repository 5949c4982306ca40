"""`/api/v1/groups…`."""

from __future__ import annotations

from litestar import Controller, Response, delete, get, patch, post
from msgspec import UNSET

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.devices.device import Group
from lastseen.devices.key import Scope
from lastseen.server.api.asking import Cursor, Limit, id_of
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.api.idempotency import Once
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.wire.devices import GroupChanges, GroupList, GroupView, NewGroup


class GroupsController(Controller):
    """Groups of devices and keys. Whoever is limited to one finds that one alone, and cannot make or delete any."""

    path = "/groups"
    tags = ("groups",)

    @post("/", needs=Scope.GROUPS_WRITE, sync_to_thread=True, summary="Make a group", operation_id="CreateGroup")
    def create(self, seen: LastSeen, principal: Principal, trail: Trail, once: Once, data: NewGroup) -> GroupView:
        """Make a group; 409 when its id is taken."""
        require_unlimited(principal)

        def make() -> GroupView:
            group = seen.devices.create_group(data.name, group_id=None if data.id is UNSET else data.id)
            trail.note(AuditAction.GROUP_CREATED, group.id, group.name)
            return GroupView.of(group)

        return once("CreateGroup", data, make)

    @get(
        "/",
        needs=Scope.GROUPS_READ,
        sync_to_thread=True,
        summary="List groups",
        operation_id="ListGroups",
        operation_class=ExportOperation,
    )
    def list_groups(
        self, seen: LastSeen, principal: Principal, export: Export, limit: Limit = 100, cursor: Cursor = None
    ) -> Response[GroupList]:
        """Return one page of groups, by name."""
        page = seen.devices.list_groups(limit=limit, cursor=cursor, within=principal.within)
        groups = [] if principal.device_id is not None else [GroupView.of(group) for group in page]
        return export(GroupList(groups=groups, next_cursor=None if principal.is_limited else page.next_cursor))

    @get(
        "/{group_id:str}",
        needs=Scope.GROUPS_READ,
        sync_to_thread=True,
        summary="Show one group",
        operation_id="GetGroup",
    )
    def show(self, seen: LastSeen, principal: Principal, group_id: str) -> GroupView:
        """Return one group by its id, percent-encoded as one segment."""
        return GroupView.of(_find(seen, principal, group_id))

    @patch(
        "/{group_id:str}",
        needs=Scope.GROUPS_WRITE,
        sync_to_thread=True,
        summary="Rename a group",
        operation_id="RenameGroup",
    )
    def rename(
        self, seen: LastSeen, principal: Principal, trail: Trail, group_id: str, data: GroupChanges
    ) -> GroupView:
        """Give a group another name."""
        group = seen.devices.rename_group(_find(seen, principal, group_id).id, data.name)
        trail.note(AuditAction.GROUP_RENAMED, group.id, group.name)
        return GroupView.of(group)

    @delete(
        "/{group_id:str}",
        needs=Scope.GROUPS_WRITE,
        sync_to_thread=True,
        summary="Delete a group",
        operation_id="DeleteGroup",
    )
    def delete(self, seen: LastSeen, principal: Principal, trail: Trail, group_id: str) -> None:
        """Remove a group and its own keys; its devices stay, in no group."""
        group = _find(seen, principal, group_id)
        require_unlimited(principal)
        seen.devices.delete_group(group.id)
        trail.note(AuditAction.GROUP_DELETED, group.id, group.name)


def _find(seen: LastSeen, principal: Principal, segment: str) -> Group:
    group_id = id_of(segment, "group")
    hidden = principal.device_id is not None
    group = None if hidden else seen.devices.get_group(group_id, within=principal.within)
    if group is None:
        raise Problem(404, "there is no such group")
    return group


def require_unlimited(principal: Principal) -> None:
    """Refuse to make or delete groups for who is limited to one."""
    if principal.is_limited:
        raise Problem(403, "who is limited to one group can neither make nor delete groups")
