"""What the stores decide alike about devices, groups and API keys. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from lastseen.devices.device import Device
from lastseen.errors import AlreadyExists, NotFound


def no_device() -> NotFound:
    """Return the one error for a device that is not there, or not in the group."""
    return NotFound("there is no such device")


def no_group() -> NotFound:
    """Return the one error for a group that is not there, or not the one that is allowed."""
    return NotFound("there is no such group")


def no_key() -> NotFound:
    """Return the one error for a key that is not there, not in the group, or cannot be used any more."""
    return NotFound("there is no such key")


def already_exists(what: str) -> AlreadyExists:
    """Return the error for an id that is taken."""
    return AlreadyExists(f"there is a {what} with this id already")


def check_registration(device: Device, within: str | None) -> None:
    """Raise `NotFound` when a registration that is limited to a group names another one."""
    if within is not None and device.group_id not in {None, within}:
        raise no_group()


def first_registered(device: Device, seen_at: datetime | None, within: str | None) -> Device:
    """Return a device as it is kept when it was not there before."""
    return replace(device, group_id=device.group_id or within, last_seen_at=seen_at)
