"""Devices, groups and API keys in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import ApiKey, NewKey
from lastseen.devices.store import DeviceFilter, DeviceOrder, DeviceQuery, GroupQuery, KeyQuery
from lastseen.devices.values import ASCII_LOWER
from lastseen.stores.device_rows import (
    already_exists,
    check_registration,
    first_registered,
    no_device,
    no_group,
    no_key,
)

_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _DevicesRecorder:
    store: MemoryDevices

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        return self.store.record_seen(updates)


@dataclass(frozen=True, slots=True)
class _KeysRecorder:
    store: MemoryDevices

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        return self.store.record_used(updates)


class MemoryDevices:
    """See `DeviceStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._devices: dict[str, Device] = {}
        self._groups: dict[str, Group] = {}
        self._keys: dict[str, NewKey] = {}
        self._key_ids: dict[str, str] = {}
        """By prefix."""
        self.devices_recorder = _DevicesRecorder(self)
        self.keys_recorder = _KeysRecorder(self)

    # Devices

    def upsert_device(self, device: Device, seen_at: datetime | None = None, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        check_registration(device, within)
        with self._lock:
            self._require_group(device.group_id)
            known = self._devices.get(device.id)
            if known is None:
                kept = first_registered(device, seen_at, within)
                self._require_group(kept.group_id)
            else:
                kept = self._device(device.id, within).registered_again(device, seen_at)
            self._devices[device.id] = kept
            return kept

    def get_device(self, device_id: str, *, within: str | None = None) -> Device | None:
        """See `DeviceStore`."""
        device = self._devices.get(device_id)
        return device if device is not None and within in {None, device.group_id} else None

    def list_devices(self, query: DeviceQuery) -> Sequence[Device]:
        """See `DeviceStore`."""
        with self._lock:
            found = [device for device in self._devices.values() if _passes(device, query.where)]
        found.sort(key=lambda device: device.id)
        descends = query.order in {DeviceOrder.NAME_DESCENDING, DeviceOrder.NEWEST}
        found.sort(key=lambda device: _sorted_by(query, _field(query, device)), reverse=descends)
        if query.after is not None:
            at, device_id = _sorted_by(query, query.after[0]), query.after[1]
            found = [
                one for one in found if _follows(_sorted_by(query, _field(query, one)), at, one.id, device_id, descends)
            ]
        return found[: query.limit]

    def count_devices(self, where: Sequence[DeviceFilter]) -> Sequence[int]:
        """See `DeviceStore`."""
        with self._lock:
            return [sum(_passes(device, one) for device in self._devices.values()) for one in where]

    def change_device(self, device_id: str, change: DeviceChange, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._lock:
            changed = change.apply(self._device(device_id, within))
            self._require_group(changed.group_id)
            self._devices[device_id] = changed
            return changed

    def delete_device(self, device_id: str, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._lock:
            device = self._device(device_id, within)
            del self._devices[device_id]
            self._keep_keys(lambda key: key.device_id != device_id)
            return device

    def groups_of(self, device_ids: Collection[str]) -> dict[str, str | None]:
        """See `DeviceStore`."""
        with self._lock:
            return {one: self._devices[one].group_id for one in device_ids if one in self._devices}

    def record_seen(self, updates: Mapping[str, datetime]) -> int:
        """Move devices forward; see `ActivityRecorder`."""
        moved = 0
        with self._lock:
            for device_id, at in updates.items():
                device = self._devices.get(device_id)
                if device is not None and device.seen(at) is not device:
                    self._devices[device_id] = device.seen(at)
                    moved += 1
        return moved

    # Groups

    def add_group(self, group: Group) -> None:
        """See `DeviceStore`."""
        with self._lock:
            if group.id in self._groups:
                raise already_exists("group")
            self._groups[group.id] = group

    def get_group(self, group_id: str) -> Group | None:
        """See `DeviceStore`."""
        return self._groups.get(group_id)

    def list_groups(self, query: GroupQuery) -> Sequence[Group]:
        """See `DeviceStore`."""
        with self._lock:
            found = sorted(self._groups.values(), key=lambda group: (_lower(group.name), group.id))
        if query.after is not None:
            after = (_lower(query.after[0]), query.after[1])
            found = [group for group in found if (_lower(group.name), group.id) > after]
        return found[: query.limit]

    def rename_group(self, group_id: str, name: str) -> Group:
        """See `DeviceStore`."""
        with self._lock:
            self._require_group(group_id)
            self._groups[group_id] = replace(self._groups[group_id], name=name)
            return self._groups[group_id]

    def delete_group(self, group_id: str) -> Group:
        """See `DeviceStore`."""
        with self._lock:
            self._require_group(group_id)
            self._keep_keys(lambda key: key.group_id != group_id)
            for device in list(self._devices.values()):
                if device.group_id == group_id:
                    self._devices[device.id] = replace(device, group_id=None)
            return self._groups.pop(group_id)

    # Keys

    def add_key(self, new: NewKey, *, within: str | None = None) -> None:
        """See `DeviceStore`."""
        with self._lock:
            key = new.key
            if key.device_id is not None:
                self._device(key.device_id, within)
            elif within not in {None, key.group_id}:
                raise no_group()
            self._require_group(key.group_id)
            self._require_free(new)
            self._keys[key.id] = new
            self._key_ids[key.prefix] = key.id

    def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
        """See `DeviceStore`."""
        with self._lock:
            key_id = self._key_ids.get(prefix)
            return None if key_id is None else (self._keys[key_id].key, self._keys[key_id].digest)

    def get_key(self, key_id: str, *, within: str | None = None) -> ApiKey | None:
        """See `DeviceStore`."""
        with self._lock:
            new = self._keys.get(key_id)
            return new.key if new is not None and within in {None, self._group_of(new.key)} else None

    def list_keys(self, query: KeyQuery) -> Sequence[ApiKey]:
        """See `DeviceStore`."""
        with self._lock:
            found = [new.key for new in self._keys.values() if self._is_asked_for(new.key, query)]
        found.sort(key=lambda key: key.id)
        found.sort(key=lambda key: key.created_at, reverse=True)
        if query.after is not None:
            at, key_id = query.after
            found = [key for key in found if key.created_at < at or (key.created_at == at and key.id > key_id)]
        return found[: query.limit]

    def revoke_key(self, key_id: str, now: datetime, *, within: str | None = None) -> ApiKey:
        """See `DeviceStore`."""
        with self._lock:
            key = self._key(key_id, within)
            return self._keep(key if key.revoked_at is not None else replace(key, revoked_at=now))

    def set_expiry(
        self, key_id: str, expires_at: datetime, *, successor: NewKey | None = None, within: str | None = None
    ) -> ApiKey:
        """See `DeviceStore`."""
        with self._lock:
            key = self._key(key_id, within)
            if key.revoked_at is not None:
                raise no_key()
            if successor is not None:
                self.add_key(successor, within=within)
            return self._keep(replace(key, expires_at=min(expires_at, key.expires_at or expires_at)))

    def record_used(self, updates: Mapping[str, datetime]) -> int:
        """Move keys forward; see `ActivityRecorder`."""
        moved = 0
        with self._lock:
            for key_id, at in updates.items():
                new = self._keys.get(key_id)
                if new is not None and (new.key.last_used_at is None or new.key.last_used_at < at):
                    self._keep(replace(new.key, last_used_at=at))
                    moved += 1
        return moved

    def _device(self, device_id: str, within: str | None) -> Device:
        device = self.get_device(device_id, within=within)
        if device is None:
            raise no_device()
        return device

    def _require_group(self, group_id: str | None) -> None:
        if group_id is not None and group_id not in self._groups:
            raise no_group()

    def _key(self, key_id: str, within: str | None) -> ApiKey:
        key = self.get_key(key_id, within=within)
        if key is None:
            raise no_key()
        return key

    def _keep(self, key: ApiKey) -> ApiKey:
        self._keys[key.id] = replace(self._keys[key.id], key=key)
        return key

    def _require_free(self, new: NewKey) -> None:
        if new.key.id in self._keys or new.key.prefix in self._key_ids:
            raise already_exists("key")

    def _keep_keys(self, stays: Callable[[ApiKey], bool]) -> None:
        self._keys = {key_id: new for key_id, new in self._keys.items() if stays(new.key)}
        self._key_ids = {new.key.prefix: key_id for key_id, new in self._keys.items()}

    def _group_of(self, key: ApiKey) -> str | None:
        return key.group_id if key.device_id is None else self._devices[key.device_id].group_id

    def _is_asked_for(self, key: ApiKey, query: KeyQuery) -> bool:
        return (
            query.device_id in {None, key.device_id}
            and query.site_id in {None, key.site_id}
            and (query.group_id is None or query.group_id == self._group_of(key))
            and (query.status is None or query.now is None or query.status is key.status(query.now))
        )


def _lower(text: str) -> str:
    return text.translate(ASCII_LOWER)


def _passes(device: Device, where: DeviceFilter) -> bool:
    seen_at, search = device.last_seen_at, _lower(where.search)
    return (
        where.device_id in {None, device.id}
        and where.group_id in {None, device.group_id}
        and where.owner_id in {None, device.owner_id}
        and (search in _lower(device.id) or search in _lower(device.name))
        and where.is_seen in {None, seen_at is not None}
        and (where.seen_after is None or (seen_at is not None and seen_at > where.seen_after))
        and (where.seen_until is None or (seen_at is not None and seen_at <= where.seen_until))
    )


def _field(query: DeviceQuery, device: Device) -> str | datetime | None:
    return device.name if query.order in {DeviceOrder.NAME, DeviceOrder.NAME_DESCENDING} else device.last_seen_at


def _sorted_by(query: DeviceQuery, value: str | datetime | None) -> Any:
    """Return what is compared; never is before or after every moment."""
    if isinstance(value, str):
        return _lower(value)
    if value is None:
        return _FIRST if query.never_first is (query.order is DeviceOrder.OLDEST) else _LAST
    return value


def _follows(value: Any, at: Any, device_id: str, after_id: str, descends: bool) -> bool:  # noqa: FBT001 - of the order
    if value == at:
        return device_id > after_id
    return bool(value < at) is descends
