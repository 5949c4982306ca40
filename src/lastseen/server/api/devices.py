"""`/api/v1/devices…`: register, list, change, and note that one was seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import Parameter

from lastseen.accounts.audit import AuditAction
from lastseen.activity.status import ClientStatus
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.device import Device, DeviceChange
from lastseen.devices.key import Scope
from lastseen.devices.manager import Devices
from lastseen.devices.store import DeviceOrder
from lastseen.server.api.asking import Cursor, Limit, QueryId, Search, Span, checked_id, checked_search, id_of
from lastseen.server.api.clients import span_of
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.api.idempotency import Once
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail
from lastseen.wire.devices import DeviceChanges, DeviceList, DeviceView, NewDevice, Seen

IsSeen = Annotated[bool | None, Parameter(description="true: seen at least once; false: never")]
NeverFirst = Annotated[bool, Parameter(description="ordered by last_seen: those never seen come first, else last")]


def no_device() -> Problem:
    """Return the answer for a device that is not there, or not for this principal."""
    return Problem(404, "there is no such device")


class DevicesController(Controller):
    """Devices. Whoever is limited to a group, or to one device, finds nothing else."""

    path = "/devices"
    tags = ("devices",)

    @post(
        "/",
        needs=Scope.DEVICES_WRITE,
        status_code=200,
        sync_to_thread=True,
        summary="Register a device",
        operation_id="RegisterDevice",
    )
    def register(self, seen: LastSeen, principal: Principal, once: Once, data: NewDevice) -> DeviceView:
        """Make a device known, or register it again: the same twice changes nothing, what is left out stays."""
        _require_own(principal, data.id)
        if principal.device_id is not None and data.group_id is not None:
            raise _not_moved()

        def make() -> DeviceView:
            device = seen.devices.register(
                data.id,
                name=data.name,
                platform=data.platform,
                owner_id=data.owner_id,
                group_id=data.group_id,
                properties=data.properties,
                by_device=data.seen or principal.device_id is not None,
                within=principal.within,
            )
            return _view_of(device, seen.devices)

        return once("RegisterDevice", data, make)

    @get(
        "/",
        needs=Scope.DEVICES_READ,
        sync_to_thread=True,
        summary="List devices",
        operation_id="ListDevices",
        operation_class=ExportOperation,
    )
    def list_devices(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        principal: Principal,
        export: Export,
        group_id: QueryId = None,
        owner_id: QueryId = None,
        status: ClientStatus | None = None,
        is_seen: IsSeen = None,
        active_within: Span = None,
        inactive_for: Span = None,
        search: Search = "",
        order: DeviceOrder = DeviceOrder.NAME,
        never_first: NeverFirst = False,  # noqa: FBT002 - as above
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response[DeviceList]:
        """Return one page of devices, by name unless asked otherwise."""
        spans: dict[str, timedelta | None] = {
            "active_within": span_of("active_within", active_within),
            "inactive_for": span_of("inactive_for", inactive_for),
        }
        page = seen.devices.list(
            device_id=principal.device_id,
            group_id=checked_id("group_id", group_id),
            owner_id=checked_id("owner_id", owner_id),
            status=status,
            is_seen=is_seen,
            search=checked_search(search),
            order=order,
            never_first=never_first,
            limit=limit,
            cursor=cursor,
            within=principal.within,
            **spans,
        )
        views = [_view_of(device, seen.devices) for device in page]
        return export(DeviceList(devices=views, next_cursor=page.next_cursor))

    @get(
        "/{device_id:str}",
        needs=Scope.DEVICES_READ,
        sync_to_thread=True,
        summary="Show one device",
        operation_id="GetDevice",
    )
    def show(self, seen: LastSeen, principal: Principal, device_id: str) -> DeviceView:
        """Return one device by its id, percent-encoded as one segment (a slash is `%2F`)."""
        return _view_of(find_device(seen.devices, principal, device_id), seen.devices)

    @patch(
        "/{device_id:str}",
        needs=Scope.DEVICES_WRITE,
        sync_to_thread=True,
        summary="Change a device",
        operation_id="ChangeDevice",
    )
    def change(self, seen: LastSeen, principal: Principal, device_id: str, data: DeviceChanges) -> DeviceView:
        """Rename, move to another group or owner, or replace the properties; what is left out stays."""
        device = find_device(seen.devices, principal, device_id)
        change = DeviceChange(
            name=data.name,
            platform=data.platform,
            owner_id=data.owner_id,
            group_id=data.group_id,
            properties=data.properties,
        )
        if principal.device_id is not None and change.apply(device).group_id != device.group_id:
            raise _not_moved()
        return _view_of(seen.devices.change(device.id, change, within=principal.within), seen.devices)

    @delete(
        "/{device_id:str}",
        needs=Scope.DEVICES_WRITE,
        sync_to_thread=True,
        summary="Delete a device",
        operation_id="DeleteDevice",
    )
    def delete(self, seen: LastSeen, principal: Principal, trail: Trail, device_id: str) -> None:
        """Remove a device and its keys, for good."""
        device = seen.devices.delete(find_device(seen.devices, principal, device_id).id, within=principal.within)
        trail.note(AuditAction.DEVICE_DELETED, device.id, device.name or device.id)

    @post(
        "/{device_id:str}/seen",
        needs=Scope.DEVICES_WRITE,
        status_code=202,
        sync_to_thread=True,
        summary="Note that a device was seen",
        operation_id="RecordDeviceSeen",
    )
    def record_seen(self, seen: LastSeen, principal: Principal, device_id: str) -> Seen:
        """For uploads that this server does not handle itself. Held in memory and written with the next batch."""
        device = find_device(seen.devices, principal, device_id)
        now = SYSTEM_CLOCK.now()
        seen.devices.record_seen(device.id, now)
        return Seen(device_id=device.id, seen_at=utc(now))


def find_device(devices: Devices, principal: Principal, segment: str) -> Device:
    """Return the device that a segment of the path names; 404 when it is not there for this principal."""
    device_id = id_of(segment, "device")
    _require_own(principal, device_id)
    device = devices.get(device_id, within=principal.within)
    if device is None:
        raise no_device()
    return device


def _view_of(device: Device, devices: Devices) -> DeviceView:
    return DeviceView.of(device, devices.status(device))


def _require_own(principal: Principal, device_id: str) -> None:
    if principal.device_id not in {None, device_id}:
        raise no_device()


def _not_moved() -> Problem:
    return Problem(403, "the key of a device cannot move it to another group; that takes somebody of that group")
