"""What devices, groups and API keys need from a store, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lastseen.activity.recorder import ActivityRecorder
from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import ApiKey, KeyStatus, NewKey

MAX_PAGE = 1_000
"""The most that one page of a listing holds."""

Position = tuple[str | datetime | None, str]
"""What the last one of a page is sorted by, and its id."""


class DeviceOrder(StrEnum):
    """How a listing of devices is sorted; ties are broken by id, bytewise ascending."""

    NAME = "name"
    """Bytewise, but the case of ASCII letters does not matter."""
    NAME_DESCENDING = "-name"
    OLDEST = "last_seen"
    """Silent for longest first."""
    NEWEST = "-last_seen"
    """Last seen first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFilter:
    """Which devices. None asks for nothing.

    Seen within a span is `seen_after < last_seen_at <= seen_until`; a device that was never seen is in no span.
    """

    device_id: str | None = None
    """This one alone."""
    group_id: str | None = None
    owner_id: str | None = None
    search: str = ""
    """A part of the id or of the name; the case of ASCII letters does not matter, no character is a wildcard."""
    is_seen: bool | None = None
    """True: was seen at least once; False: never."""
    seen_after: datetime | None = None
    seen_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceQuery:
    """One page of devices."""

    where: DeviceFilter = DeviceFilter()
    order: DeviceOrder = DeviceOrder.NAME
    never_first: bool = False
    """Where those never seen come in an order by last seen: before all others, or after them."""
    limit: int = 100
    after: Position | None = None
    """The name or `last_seen_at`, as the order says, and the id of the last device of the page before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyQuery:
    """One page of keys, the youngest first (ties by id, bytewise ascending). None asks for nothing."""

    device_id: str | None = None
    group_id: str | None = None
    """The group's own keys and those of its devices."""
    site_id: str | None = None
    status: KeyStatus | None = None
    now: datetime | None = None
    """The moment of the status; given with one."""
    limit: int = 100
    after: tuple[datetime, str] | None = None
    """`created_at` and id of the last key of the page before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupQuery:
    """One page of groups, by name and then by id, like devices."""

    limit: int = 100
    after: tuple[str, str] | None = None
    """Name and id of the last group of the page before."""


@runtime_checkable
class DeviceStore(Protocol):
    """Keeps devices, groups and API keys.

    Every method is one transaction and may be called by any thread. `within` is the id of a group: whatever does not
    belong to it is not there. A key belongs to the group that it names, or to that of its device at that moment.
    Digests go in, and leave through `find_key` alone. Getting what is not there is None, changing it raises `NotFound`;
    `StoreUnavailable` or `SchemaError` when the database fails.
    """

    @property
    def devices_recorder(self) -> ActivityRecorder:
        """Moves `last_seen_at` of devices by id; update-only, so that a deleted device stays deleted."""

    @property
    def keys_recorder(self) -> ActivityRecorder:
        """Moves `last_used_at` of keys by id; update-only."""

    def upsert_device(self, device: Device, seen_at: datetime | None = None, *, within: str | None = None) -> Device:
        """Keep a new device, or register one again (see `Device.registered_again`); return what is kept now.

        `seen_at` becomes `last_seen_at` unless a later one is there; the device's own `last_seen_at` is not looked at.
        Raises `NotFound` for a group that is not there, and with `within` also for a device or a group other than that;
        a new device then belongs to it.
        """

    def get_device(self, device_id: str, *, within: str | None = None) -> Device | None:
        """Return a device, or None."""

    def list_devices(self, query: DeviceQuery) -> Sequence[Device]:
        """Return at most `query.limit` devices, in the query's order."""

    def count_devices(self, where: Sequence[DeviceFilter]) -> Sequence[int]:
        """Return how many devices pass each filter, all at one moment."""

    def change_device(self, device_id: str, change: DeviceChange, *, within: str | None = None) -> Device:
        """Change what is set and return the device; raises `NotFound` for a device or a group that is not there."""

    def delete_device(self, device_id: str, *, within: str | None = None) -> Device:
        """Remove a device and its keys, for good, and return it as it was."""

    def groups_of(self, device_ids: Collection[str]) -> dict[str, str | None]:
        """Return the group of each of these devices; those that are not there are left out."""

    def add_group(self, group: Group) -> None:
        """Add a group; raises `AlreadyExists`."""

    def get_group(self, group_id: str) -> Group | None:
        """Return a group, or None."""

    def list_groups(self, query: GroupQuery) -> Sequence[Group]:
        """Return at most `query.limit` groups."""

    def rename_group(self, group_id: str, name: str) -> Group:
        """Give a group another name and return it."""

    def delete_group(self, group_id: str) -> Group:
        """Remove a group and its own keys and return it as it was; its devices stay, in no group."""

    def add_key(self, new: NewKey, *, within: str | None = None) -> None:
        """Keep a key; with `within`, it must belong to that group or to one of its devices.

        Raises `AlreadyExists` when its id or its prefix is taken, `NotFound` for a device or a group that is not there.
        """

    def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
        """Return the key with this prefix and the digest of its secret, valid or not, or None: one indexed read."""

    def get_key(self, key_id: str, *, within: str | None = None) -> ApiKey | None:
        """Return a key, or None."""

    def list_keys(self, query: KeyQuery) -> Sequence[ApiKey]:
        """Return at most `query.limit` keys, also revoked and expired ones."""

    def revoke_key(self, key_id: str, now: datetime, *, within: str | None = None) -> ApiKey:
        """Let a key work no more, for good, and return it; twice keeps the first moment."""

    def set_expiry(
        self, key_id: str, expires_at: datetime, *, successor: NewKey | None = None, within: str | None = None
    ) -> ApiKey:
        """Let a key expire then, or when it does already, whichever is earlier; return it.

        With a successor, that key is added in the same transaction. Raises `NotFound` for a revoked key too, and
        `AlreadyExists` when the successor's id or prefix is taken.
        """
