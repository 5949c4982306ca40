"""Devices and the groups they are in: registered, listed, changed, and seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import UNSET

from lastseen.activity.buffer import Outcome
from lastseen.activity.flush import FlushResult
from lastseen.activity.health import ActivityHealth
from lastseen.activity.key import key_problem
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import ClientStatus, StatusRule
from lastseen.activity.tracker import ActivityTracker
from lastseen.clock import SYSTEM_CLOCK, Clock, seconds_since_1970, utc
from lastseen.devices.api_keys import ApiKeys, KeyPage
from lastseen.devices.cursor import decode_cursor, encode_cursor
from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import new_id
from lastseen.devices.seen import Forgetful, SeenRecorder, claim
from lastseen.devices.store import MAX_PAGE, DeviceFilter, DeviceOrder, DeviceQuery, DeviceStore, GroupQuery
from lastseen.devices.values import JSON
from lastseen.errors import ConfigurationError, FlushError, MissingAbility, NotFound

__all__ = ["ApiKeys", "DevicePage", "Devices", "GroupPage", "KeyPage"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePage:
    """Some devices, and the cursor of the page after them (None on the last page)."""

    devices: tuple[Device, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[Device]:
        """Iterate over the devices of this page."""
        return iter(self.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPage:
    """Some groups, and the cursor of the page after them (None on the last page)."""

    groups: tuple[Group, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[Group]:
        """Iterate over the groups of this page."""
        return iter(self.groups)


class Devices:
    """The devices and groups of one store.

    `within` limits a call to one group: everything outside of it is not there, so changing it raises `NotFound` like
    changing what does not exist. `keys` forgets what it remembers when a device or a group goes with its keys.

    `record_seen` costs a microsecond or two and never fails a request; everything else asks the store and may raise its
    errors. A listing writes first what still waits in this process.
    """

    def __init__(
        self,
        store: DeviceStore,
        *,
        tracking: TrackerSettings | None = None,
        status_rule: StatusRule | None = None,
        keys: Forgetful | None = None,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        on_flush: Callable[[FlushResult], object] | None = None,
    ) -> None:
        if not isinstance(store, DeviceStore):
            raise MissingAbility(f"{type(store).__name__} cannot keep devices: it does not implement DeviceStore")
        self.store = store
        self.status_rule = status_rule or StatusRule()
        self._keys = keys
        self._clock = clock
        self._logger = logger or logging.getLogger("lastseen")
        self.tracker = ActivityTracker(
            SeenRecorder(store),
            tracking,
            clock=clock,
            logger=logger,
            on_flush_error=on_flush_error,
            on_flush=on_flush,
        )

    # Being seen

    def record_seen(self, device_id: str, at: datetime | float | None = None, *, within: str | None = None) -> Outcome:
        """Note that the device was seen, now or then; never blocks on I/O, never raises.

        A device that is not registered, or is outside of the group, is ignored when the batch is written.
        """
        if within is None:
            return self.tracker.record(device_id, at)
        try:
            moment = seconds_since_1970(self._clock.now() if at is None else at)
            if moment is None or key_problem(device_id) is not None or key_problem(within) is not None:
                return self.tracker.reject(device_id)
            return self.tracker.put(claim(device_id, within), moment)
        except Exception:  # noqa: BLE001 - a request never fails for its tracking
            return self.tracker.reject(device_id)

    def last_seen(self, device_id: str, *, within: str | None = None) -> datetime | None:
        """Return when the device was last seen, None for never; raises `NotFound`."""
        device = self.get(device_id, within=within)
        if device is None:
            raise NotFound("there is no such device")
        return device.last_seen_at

    def status(self, device: Device) -> ClientStatus | None:
        """Return the device's status word at this moment; None for never seen."""
        return None if device.last_seen_at is None else self.status_rule.status(device.last_seen_at, self._now())

    # Devices

    def register(
        self,
        device_id: str,
        *,
        name: str = "",
        platform: str = "",
        owner_id: str | None = None,
        group_id: str | None = None,
        properties: Mapping[str, JSON] | None = None,
        by_device: bool = True,
        within: str | None = None,
    ) -> Device:
        """Make a device known, or register it again; what is left empty stays as it was.

        The device itself is thereby seen. `by_device=False` is for an administrator who enters it: that says nothing
        about the device, and a new one was *never* seen. Raises `InvalidValue`, and `NotFound` for a group that is not
        there or, with `within`, for what belongs to another one; a new device then belongs to that group.
        """
        now = self._now()
        device = Device(
            id=device_id,
            name=name,
            platform=platform,
            owner_id=owner_id,
            group_id=group_id,
            properties=properties or {},
            created_at=now,
        )
        return self.store.upsert_device(device, now if by_device else None, within=within)

    def get(self, device_id: str, *, within: str | None = None) -> Device | None:
        """Return one device, with what this process recorded but has not written yet; None when it is not there."""
        # Before the store is asked: what is written meanwhile is then in its answer.
        waiting = self.tracker.waiting(device_id)
        device = self.store.get_device(device_id, within=within)
        if device is None:
            return None
        if device.group_id is not None:
            device = device.seen(self.tracker.waiting(claim(device_id, device.group_id)))
        return device.seen(waiting)

    def list(
        self,
        *,
        device_id: str | None = None,
        group_id: str | None = None,
        owner_id: str | None = None,
        status: ClientStatus | None = None,
        is_seen: bool | None = None,
        active_within: timedelta | None = None,
        inactive_for: timedelta | None = None,
        search: str = "",
        order: DeviceOrder = DeviceOrder.NAME,
        never_first: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        within: str | None = None,
    ) -> DevicePage:
        """Return one page of devices, by name unless asked otherwise.

        A device that was never seen is neither active nor inactive and has no status: `is_seen=False` asks for those.
        `active_within` and `inactive_for` divide all others exactly: seen precisely that long ago is inactive. Raises
        `InvalidCursor` for a cursor of another order and `ConfigurationError` for a limit or a span out of range.
        """
        limit = _checked(limit)
        by_time = order in {DeviceOrder.NEWEST, DeviceOrder.OLDEST}
        listing = f"devices {order}{' never first' if never_first else ''}"
        where = self._filter(
            device_id=device_id,
            group_id=group_id,
            owner_id=owner_id,
            search=search,
            within=within,
            is_seen=is_seen,
            status=status,
            active_within=active_within,
            inactive_for=inactive_for,
        )
        after = None if cursor is None else decode_cursor(listing, cursor, by_time=by_time)
        self._flush_before_listing()
        if where is None:
            return DevicePage(devices=(), next_cursor=None)
        # One more than asked for tells whether another page follows.
        query = DeviceQuery(where=where, order=order, never_first=never_first, limit=limit + 1, after=after)
        found = self.store.list_devices(query)
        devices, following = tuple(found[:limit]), None
        if len(found) > limit:
            last = devices[-1]
            following = encode_cursor(listing, last.last_seen_at if by_time else last.name, last.id)
        return DevicePage(devices=devices, next_cursor=following)

    def count(
        self,
        *,
        group_id: str | None = None,
        owner_id: str | None = None,
        status: ClientStatus | None = None,
        is_seen: bool | None = None,
        active_within: timedelta | None = None,
        inactive_for: timedelta | None = None,
        search: str = "",
        within: str | None = None,
    ) -> int:
        """Count the devices that the same options of `list` would return."""
        where = self._filter(
            group_id=group_id,
            owner_id=owner_id,
            search=search,
            within=within,
            is_seen=is_seen,
            status=status,
            active_within=active_within,
            inactive_for=inactive_for,
        )
        self._flush_before_listing()
        return 0 if where is None else self.store.count_devices([where])[0]

    def change(self, device_id: str, change: DeviceChange, *, within: str | None = None) -> Device:
        """Change what is set and return the device; raises `NotFound` and `InvalidValue`.

        With `within`, a device leaves its group as little as it can be put into another one.
        """
        if within is not None and change.group_id not in {UNSET, within}:
            raise NotFound("there is no such group")
        return self.store.change_device(device_id, change, within=within)

    def rename(self, device_id: str, name: str, *, within: str | None = None) -> Device:
        """Give the device another name; see `change`."""
        return self.change(device_id, DeviceChange(name=name), within=within)

    def move(self, device_id: str, group_id: str | None, *, within: str | None = None) -> Device:
        """Put the device into another group, or into none; see `change`."""
        return self.change(device_id, DeviceChange(group_id=group_id), within=within)

    def set_properties(self, device_id: str, properties: Mapping[str, JSON], *, within: str | None = None) -> Device:
        """Replace the device's properties; see `change`."""
        return self.change(device_id, DeviceChange(properties=properties), within=within)

    def delete(self, device_id: str, *, within: str | None = None) -> Device:
        """Remove the device and its keys, for good, and return it as it was; raises `NotFound`."""
        device = self.store.delete_device(device_id, within=within)
        self._forget_keys()
        return device

    # Groups

    def create_group(self, name: str, *, group_id: str | None = None) -> Group:
        """Make a group, with an id of its own choice or yours; raises `AlreadyExists` and `InvalidValue`."""
        group = Group(id=new_id() if group_id is None else group_id, name=name, created_at=self._now())
        self.store.add_group(group)
        return group

    def get_group(self, group_id: str, *, within: str | None = None) -> Group | None:
        """Return a group, or None."""
        return self.store.get_group(group_id) if within in {None, group_id} else None

    def list_groups(self, *, limit: int = 100, cursor: str | None = None, within: str | None = None) -> GroupPage:
        """Return one page of groups by name; with `within`, that group alone."""
        limit = _checked(limit)
        after = None if cursor is None else decode_cursor("groups", cursor, by_time=False)
        if within is not None:
            group = self.store.get_group(within) if after is None else None
            return GroupPage(groups=() if group is None else (group,), next_cursor=None)
        place = None if after is None else (str(after[0]), after[1])
        found = self.store.list_groups(GroupQuery(limit=limit + 1, after=place))
        groups = tuple(found[:limit])
        following = encode_cursor("groups", groups[-1].name, groups[-1].id) if len(found) > limit else None
        return GroupPage(groups=groups, next_cursor=following)

    def rename_group(self, group_id: str, name: str, *, within: str | None = None) -> Group:
        """Give a group another name; raises `NotFound` and `InvalidValue`."""
        _require_within(group_id, within)
        Group(id=group_id, name=name, created_at=self._now())
        return self.store.rename_group(group_id, name)

    def delete_group(self, group_id: str, *, within: str | None = None) -> Group:
        """Remove a group and its own keys; its devices stay, in no group. Raises `NotFound`."""
        _require_within(group_id, within)
        group = self.store.delete_group(group_id)
        self._forget_keys()
        return group

    # The tracker

    def flush(self) -> FlushResult:
        """Write everything that waits, at once; raises `FlushError` when something could not be written."""
        return self.tracker.flush()

    def close(self) -> int:
        """Stop recording and write once more; returns how many devices could not be saved."""
        return self.tracker.close()

    def health(self) -> ActivityHealth:
        """Return how the tracker feels."""
        return self.tracker.health()

    def _filter(
        self,
        *,
        device_id: str | None = None,
        group_id: str | None,
        owner_id: str | None,
        search: str,
        within: str | None,
        is_seen: bool | None,
        status: ClientStatus | None,
        active_within: timedelta | None,
        inactive_for: timedelta | None,
    ) -> DeviceFilter | None:
        """Return what the options ask for; None when no device can be that."""
        now = self._now()
        for name, span in (("active_within", active_within), ("inactive_for", inactive_for)):
            if span is not None and not timedelta(0) <= span <= now - utc(0):
                raise ConfigurationError(f"{name} must be a span from 0 to {now.year - 1970} years")
        if within is not None and group_id not in {None, within}:
            return None
        after, until = (None, None) if status is None else self.status_rule.window(status, now)
        if active_within is not None:
            after = max(after or utc(0), now - active_within)
        if inactive_for is not None:
            until = min(until or now, now - inactive_for)
        if status is not None and is_seen is None:
            # One status word has no ends at all on one side, and "never" is none of them.
            is_seen = True
        return DeviceFilter(
            device_id=device_id,
            group_id=group_id or within,
            owner_id=owner_id,
            search=search,
            is_seen=is_seen,
            seen_after=after,
            seen_until=until,
        )

    def _flush_before_listing(self) -> None:
        if self.tracker.is_failing:
            # The back-off decides when to try again, not how often somebody looks.
            return
        try:
            self.tracker.flush()
        except FlushError:
            # The tracker has logged it; the listing itself says whether the store can be read.
            self._logger.debug("listing without what could not be flushed")

    def _forget_keys(self) -> None:
        if self._keys is not None:
            self._keys.forget_cached()

    def _now(self) -> datetime:
        return utc(self._clock.now())


def _require_within(group_id: str, within: str | None) -> None:
    if within not in {None, group_id}:
        raise NotFound("there is no such group")


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigurationError(f"limit must be from 1 to {MAX_PAGE}")
    return limit
