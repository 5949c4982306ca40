"""Devices and groups."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.activity.key import MAX_KEY_LENGTH
from lastseen.activity.status import ClientStatus
from lastseen.devices.device import Device, Group
from lastseen.devices.values import MAX_NAME_LENGTH, MAX_PLATFORM_LENGTH

# Printable is what `str.isprintable` says; the pattern tells of the controls, which are most of what is not.
NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f]*$"

Id = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_KEY_LENGTH, pattern=NO_CONTROLS, description="1 to 255 printable characters"),
]
Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH, pattern=NO_CONTROLS)]
RequiredName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NO_CONTROLS)]
Platform = Annotated[str, Meta(max_length=MAX_PLATFORM_LENGTH, pattern=NO_CONTROLS)]
Properties = Annotated[
    dict[str, Any],
    Meta(description="free; at most 16 KB of JSON, nested at most 8 deep, whole numbers within ±(2^53 - 1)"),
]


class NewDevice(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device to be registered, again if it is known: what is left out stays as it was."""

    id: Id
    name: Name = ""
    platform: Platform = ""
    owner_id: Id | None = None
    group_id: Id | None = None
    properties: Properties = {}
    seen: bool = False
    """Whether the device itself asks, or somebody who has just seen it; otherwise a new one was *never* seen."""


class DeviceChanges(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about a device; what is left out stays, null takes the owner or the group away."""

    name: Name | UnsetType = UNSET
    platform: Platform | UnsetType = UNSET
    owner_id: Id | UnsetType | None = UNSET
    group_id: Id | UnsetType | None = UNSET
    properties: Properties | UnsetType = UNSET
    """All of them: they replace those that are there."""


class DeviceView(Struct, kw_only=True):
    """One device; moments are UTC."""

    id: str
    name: str
    platform: str
    owner_id: str | None
    group_id: str | None
    properties: dict[str, Any]
    created_at: datetime
    last_seen_at: datetime | None
    """Null is *never*."""
    status: ClientStatus | None
    """Null for a device that was never seen."""

    @classmethod
    def of(cls, device: Device, status: ClientStatus | None) -> DeviceView:
        """Return what is shown of a device that has this status now."""
        return cls(
            id=device.id,
            name=device.name,
            platform=device.platform,
            owner_id=device.owner_id,
            group_id=device.group_id,
            properties=dict(device.properties),
            created_at=device.created_at,
            last_seen_at=device.last_seen_at,
            status=status,
        )


class DeviceList(Struct, kw_only=True):
    """One page of devices; `next_cursor` is null on the last."""

    devices: list[DeviceView]
    next_cursor: str | None


class Seen(Struct, kw_only=True):
    """The device counts as seen from this moment on; it is written with the next batch."""

    device_id: str
    seen_at: datetime


class NewGroup(Struct, kw_only=True, forbid_unknown_fields=True):
    """A group to be made."""

    name: RequiredName
    id: Id | UnsetType = UNSET
    """Without it the server chooses one."""


class GroupChanges(Struct, kw_only=True, forbid_unknown_fields=True):
    """Another name for a group."""

    name: RequiredName


class GroupView(Struct, kw_only=True):
    """One group; moments are UTC."""

    id: str
    name: str
    created_at: datetime

    @classmethod
    def of(cls, group: Group) -> GroupView:
        """Return what is shown of a group."""
        return cls(id=group.id, name=group.name, created_at=group.created_at)


class GroupList(Struct, kw_only=True):
    """One page of groups, by name; `next_cursor` is null on the last."""

    groups: list[GroupView]
    next_cursor: str | None
