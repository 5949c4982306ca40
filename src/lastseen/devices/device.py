"""A device and the group it belongs to. Pure: every moment is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from lastseen.devices.values import (
    JSON,
    MAX_NAME_LENGTH,
    MAX_PLATFORM_LENGTH,
    check_id,
    check_properties,
    check_text,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Something that calls, or of which somebody uploads something. Moments are aware and UTC.

    Raises `InvalidValue`: an id has 1 to 255 printable characters, a name at most 200, a platform 100; the properties
    are JSON of at most 16 KB, nested at most 8 deep, and belong to the device from now on.
    """

    id: str
    name: str = ""
    platform: str = ""
    owner_id: str | None = None
    group_id: str | None = None
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)
    created_at: datetime
    last_seen_at: datetime | None = None
    """None is *never*."""

    def __post_init__(self) -> None:
        check_id("id", self.id)
        check_text("name", self.name, MAX_NAME_LENGTH)
        check_text("platform", self.platform, MAX_PLATFORM_LENGTH)
        for name in ("owner_id", "group_id"):
            if getattr(self, name) is not None:
                check_id(name, getattr(self, name))
        check_properties(self.properties)
        object.__setattr__(self, "properties", dict(self.properties))

    def seen(self, at: datetime | None) -> Device:
        """Return the device as it is after it was seen then, which never moves `last_seen_at` back."""
        if at is None or (self.last_seen_at is not None and at <= self.last_seen_at):
            return self
        return replace(self, last_seen_at=at)

    def registered_again(self, later: Device, seen_at: datetime | None) -> Device:
        """Return what a later registration makes of this one: what it leaves empty stays, and so does `created_at`."""
        merged = replace(
            self,
            name=later.name or self.name,
            platform=later.platform or self.platform,
            owner_id=later.owner_id or self.owner_id,
            group_id=later.group_id or self.group_id,
            properties=later.properties or self.properties,
        )
        return merged.seen(seen_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceChange:
    """What is to be different about a device; what is UNSET stays, None takes the owner or the group away."""

    name: str | UnsetType = UNSET
    platform: str | UnsetType = UNSET
    owner_id: str | UnsetType | None = UNSET
    group_id: str | UnsetType | None = UNSET
    properties: Mapping[str, JSON] | UnsetType = UNSET
    """All of them: they replace those that are there."""

    def apply(self, device: Device) -> Device:
        """Return the changed device; raises `InvalidValue`."""
        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "platform", "owner_id", "group_id", "properties")
            if getattr(self, name) is not UNSET
        }
        return replace(device, **changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Devices and keys that belong together; who is limited to it sees nothing else."""

    id: str
    name: str
    created_at: datetime

    def __post_init__(self) -> None:
        check_id("id", self.id)
        check_text("name", self.name, MAX_NAME_LENGTH, required=True)
