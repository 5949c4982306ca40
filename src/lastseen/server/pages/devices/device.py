"""One device: registered, changed, deleted; its properties and its keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from litestar import get, post

from lastseen.accounts.audit import AuditAction
from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.device import Device, DeviceChange
from lastseen.devices.key import Scope
from lastseen.devices.values import (
    JSON,
    MAX_NAME_LENGTH,
    MAX_PLATFORM_LENGTH,
    check_id,
    check_properties,
    check_text,
)
from lastseen.server.pages.devices.asking import (
    Form,
    Pages,
    WrongField,
    address,
    checked_id,
    checking,
    find_group,
    groups_of,
    show_form,
)
from lastseen.server.pages.devices.key_rows import KEYS_OF_ONE, key_rows
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import AnyRequest, go, show
from lastseen.server.pages.live import Page
from lastseen.server.pages.relative import relative
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.server.trail import Trail


class DevicePages(Pages):
    """The pages of one device."""

    path = "/"

    @get("/devices/new", needs=Scope.DEVICES_WRITE, sync_to_thread=True)
    def ask(self, request: AnyRequest, seen: LastSeen, principal: Principal, group: str = "") -> Page:
        """Ask what the new device is."""
        if group:
            find_group(seen, principal, group)
        return _new_form(request, seen, principal, {"group_id": group})

    @post("/devices/new", needs=Scope.DEVICES_WRITE, sync_to_thread=True)
    def register(self, request: AnyRequest, seen: LastSeen, principal: Principal, data: Form) -> Page:
        """Register it: entered by a person, it was never seen."""
        try:
            device_id = _register(seen, principal, data)
        except WrongField as problem:
            return _new_form(request, seen, principal, data, problem)
        return go(_address(device_id))

    @get("/device", needs=Scope.DEVICES_READ, sync_to_thread=True)
    def show_device(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - its name in the address
        """Show one device."""
        device = find_device(seen, principal, id)
        return _device_page(request, seen, principal, device, _fields(device))

    @post("/device", needs=Scope.DEVICES_WRITE, sync_to_thread=True)
    def change(self, request: AnyRequest, seen: LastSeen, principal: Principal, data: Form, id: str = "") -> Page:  # noqa: A002 - as above
        """Rename it, move it to another group or owner, replace its properties."""
        device = find_device(seen, principal, id)
        try:
            change = _change(data)
            with checking("group_id"):
                seen.devices.change(device.id, change, within=principal.within)
        except WrongField as problem:
            return _device_page(request, seen, principal, device, data, problem)
        return go(_address(device.id))

    @get("/device/delete", needs=Scope.DEVICES_WRITE, sync_to_thread=True)
    def ask_to_delete(self, request: AnyRequest, seen: LastSeen, principal: Principal, id: str = "") -> Page:  # noqa: A002 - as above
        """Ask once more."""
        device = find_device(seen, principal, id)
        return show(
            request,
            "devices/confirm.html",
            question=f"Delete {device.name or device.id}?",
            words="Its keys work no more from that moment. Neither can be had back.",
            action=address("/device/delete", {"id": device.id}),
            button="Delete it for good",
            back=_address(device.id),
        )

    @post("/device/delete", needs=Scope.DEVICES_WRITE, sync_to_thread=True)
    def delete(
        self,
        seen: LastSeen,
        principal: Principal,
        trail: Trail,
        id: str = "",  # noqa: A002 - as above
    ) -> Page:
        """Remove it and its keys."""
        device = seen.devices.delete(find_device(seen, principal, id).id, within=principal.within)
        trail.note(AuditAction.DEVICE_DELETED, device.id, device.name or device.id)
        return go("/devices")


def find_device(seen: LastSeen, principal: Principal, device_id: str) -> Device:
    """Return a device; 404 when it is not there for this principal."""
    device = seen.devices.get(checked_id(device_id, "device"), within=principal.within)
    if device is None:
        raise Problem(404, "there is no such device")
    return device


def _register(seen: LastSeen, principal: Principal, data: Form) -> str:
    device_id = data.get("id", "").strip()
    with checking("id"):
        check_id("The id", device_id)
    change = _change(data)
    if seen.devices.get(device_id, within=principal.within) is not None:
        raise WrongField("id", "There is a device with this id.")
    group_id = data.get("group_id") or principal.within
    if group_id is not None and seen.devices.get_group(group_id, within=principal.within) is None:
        raise WrongField("group_id", "There is no such group.")
    with checking("id"):
        seen.devices.register(
            device_id,
            name=str(change.name),
            platform=str(change.platform),
            owner_id=data.get("owner_id", "").strip() or None,
            group_id=group_id,
            properties=change.properties or None,
            by_device=False,
            within=principal.within,
        )
    return device_id


def _change(data: Form) -> DeviceChange:
    """Return what a form asks for; raises `WrongField`."""
    name, platform, owner = (data.get(field, "").strip() for field in ("name", "platform", "owner_id"))
    with checking("name"):
        check_text("The name", name, MAX_NAME_LENGTH)
    with checking("platform"):
        check_text("The platform", platform, MAX_PLATFORM_LENGTH)
    with checking("owner_id"):
        if owner:
            check_id("The owner", owner)
    return DeviceChange(
        name=name,
        platform=platform,
        owner_id=owner or None,
        group_id=data.get("group_id") or None,
        properties=_properties(data.get("properties", "")),
    )


def _properties(text: str) -> dict[str, JSON]:
    try:
        properties = msgspec.json.decode(text.strip() or "{}")
    except msgspec.DecodeError as error:
        raise WrongField("properties", f"This is no JSON: {error}.") from error
    with checking("properties"):
        check_properties(properties)
    return dict(properties)


def _fields(device: Device) -> dict[str, str]:
    """Return what the fields of the form hold."""
    properties = msgspec.json.format(msgspec.json.encode(device.properties), indent=2).decode()
    return {
        "name": device.name,
        "platform": device.platform,
        "owner_id": device.owner_id or "",
        "group_id": device.group_id or "",
        "properties": properties if device.properties else "",
    }


def _new_form(
    request: AnyRequest, seen: LastSeen, principal: Principal, fields: dict[str, str], problem: WrongField | None = None
) -> Page:
    groups = groups_of(seen, principal)
    return show_form(request, "devices/device_new.html", problem, fields=fields, groups=groups, within=principal.within)


def _device_page(  # noqa: PLR0917 - a page has many parts
    request: AnyRequest,
    seen: LastSeen,
    principal: Principal,
    device: Device,
    fields: dict[str, str],
    problem: WrongField | None = None,
) -> Page:
    now = utc(SYSTEM_CLOCK.now())
    status = seen.devices.status(device)
    groups = groups_of(seen, principal)
    keys = seen.keys.list(device_id=device.id, limit=KEYS_OF_ONE, within=principal.within)
    context: dict[str, Any] = {
        "device": device,
        "state": "never" if status is None else status.value,
        "group": next((group for group in groups if group.id == device.group_id), None),
        "keys": key_rows(keys, now, {}),
        "all_keys": address("/keys", {"device": device.id}) if keys.next_cursor else None,
        "key_exports": list_exports("/api/v1/keys", [("device_id", device.id)]),
        "api": f"/api/v1/devices/{quote(device.id, safe='')}",
    }
    return show_form(
        request,
        "devices/device.html",
        problem,
        fields=fields,
        groups=groups,
        within=principal.within,
        relative=lambda moment: relative(moment, now),
        **context,
    )


def _address(device_id: str) -> str:
    return address("/device", {"id": device_id})
