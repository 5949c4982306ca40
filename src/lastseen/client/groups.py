"""Groups of devices and keys."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from lastseen.client.call import Call, once
from lastseen.wire.devices import GroupChanges, GroupList, GroupView, NewGroup

PATH = "/api/v1/groups"
ONE = f"{PATH}/{{group_id}}"


def create(name: str, *, group_id: str | UnsetType = UNSET) -> Call[GroupView]:
    """Make a group, with an id of your choice or of the server's."""
    return Call(
        operation="CreateGroup",
        method="POST",
        template=PATH,
        answer=GroupView,
        body=NewGroup(name=name, id=group_id),
        idempotency_key=once(),
    )


def list(*, limit: int | None = None, cursor: str | None = None) -> Call[GroupList]:  # noqa: A001 - groups.list
    """Ask for one page of groups, by name."""
    query = {"limit": limit, "cursor": cursor}
    return Call(operation="ListGroups", method="GET", template=PATH, answer=GroupList, query=query)


def get(group_id: str) -> Call[GroupView]:
    """Ask for one group."""
    return Call(operation="GetGroup", method="GET", template=ONE, answer=GroupView, path={"group_id": group_id})


def rename(group_id: str, name: str) -> Call[GroupView]:
    """Give a group another name."""
    return Call(
        operation="RenameGroup",
        method="PATCH",
        template=ONE,
        answer=GroupView,
        path={"group_id": group_id},
        body=GroupChanges(name=name),
    )


def delete(group_id: str) -> Call[None]:
    """Remove a group and its own keys; its devices stay, in no group."""
    return Call(operation="DeleteGroup", method="DELETE", template=ONE, answer=type(None), path={"group_id": group_id})
