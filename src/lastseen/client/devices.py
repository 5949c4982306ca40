"""Devices: what calls, or of which somebody uploads something."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from lastseen.activity.status import ClientStatus
from lastseen.client.call import Call
from lastseen.devices.store import DeviceOrder
from lastseen.wire.devices import DeviceChanges, DeviceList, DeviceView, NewDevice, Seen

PATH = "/api/v1/devices"
ONE = f"{PATH}/{{device_id}}"


def register(
    device_id: str,
    *,
    name: str = "",
    platform: str = "",
    owner_id: str | None = None,
    group_id: str | None = None,
    properties: dict[str, Any] | None = None,
    seen: bool = False,
) -> Call[DeviceView]:
    """Make a device known, or register it again: what is left out stays. `seen` says that it was seen just now."""
    body = NewDevice(
        id=device_id,
        name=name,
        platform=platform,
        owner_id=owner_id,
        group_id=group_id,
        properties=properties or {},
        seen=seen,
    )
    return Call(operation="RegisterDevice", method="POST", template=PATH, answer=DeviceView, body=body)


def list(  # noqa: A001 - read as devices.list
    *,
    group_id: str | None = None,
    owner_id: str | None = None,
    status: ClientStatus | None = None,
    is_seen: bool | None = None,
    active_within: str | None = None,
    inactive_for: str | None = None,
    search: str | None = None,
    order: DeviceOrder | None = None,
    never_first: bool | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[DeviceList]:
    """Ask for one page of devices, by name; spans are such as 15m, 24h or 7d."""
    query = {
        "group_id": group_id,
        "owner_id": owner_id,
        "status": status,
        "is_seen": is_seen,
        "active_within": active_within,
        "inactive_for": inactive_for,
        "search": search,
        "order": order,
        "never_first": never_first,
        "limit": limit,
        "cursor": cursor,
    }
    return Call(operation="ListDevices", method="GET", template=PATH, answer=DeviceList, query=query)


def get(device_id: str) -> Call[DeviceView]:
    """Ask for one device."""
    return Call(operation="GetDevice", method="GET", template=ONE, answer=DeviceView, path={"device_id": device_id})


def change(
    device_id: str,
    *,
    name: str | UnsetType = UNSET,
    platform: str | UnsetType = UNSET,
    owner_id: str | UnsetType | None = UNSET,
    group_id: str | UnsetType | None = UNSET,
    properties: dict[str, Any] | UnsetType = UNSET,
) -> Call[DeviceView]:
    """Change what is given; None takes the owner or the group away, properties replace those that are there."""
    body = DeviceChanges(name=name, platform=platform, owner_id=owner_id, group_id=group_id, properties=properties)
    return Call(
        operation="ChangeDevice",
        method="PATCH",
        template=ONE,
        answer=DeviceView,
        path={"device_id": device_id},
        body=body,
    )


def delete(device_id: str) -> Call[None]:
    """Remove a device and its keys, for good."""
    return Call(
        operation="DeleteDevice", method="DELETE", template=ONE, answer=type(None), path={"device_id": device_id}
    )


def record_seen(device_id: str) -> Call[Seen]:
    """Note that a device was seen just now."""
    return Call(
        operation="RecordDeviceSeen",
        method="POST",
        template=f"{ONE}/seen",
        answer=Seen,
        path={"device_id": device_id},
    )
