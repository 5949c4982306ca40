"""What the stores decide alike about devices, groups and API keys. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from lastseen.devices.device import Device, Group
from lastseen.devices.key import ApiKey, Scope
from lastseen.devices.values import JSON
from lastseen.errors import AlreadyExists, NotFound
from lastseen.stores.table import ActivityTable

DEVICE_ACTIVITY = ActivityTable(table="lastseen_devices", key_column="id", time_column="last_seen_at")
KEY_ACTIVITY = ActivityTable(table="lastseen_api_keys", key_column="id", time_column="last_used_at")

_SCOPES = {scope.value: scope for scope in Scope}

Moment = Callable[[Any], datetime]


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


def device_of(row: Sequence[Any], moment: Moment) -> Device:
    """Return the device of a row: the fields in their order, the properties as JSON."""
    return Device(
        id=row[0],
        name=row[1],
        platform=row[2],
        owner_id=row[3],
        group_id=row[4],
        properties=msgspec.json.decode(row[5]),
        created_at=moment(row[6]),
        last_seen_at=_maybe(row[7], moment),
    )


def group_of(row: Sequence[Any], moment: Moment) -> Group:
    """Return the group of a row: the fields in their order."""
    return Group(id=row[0], name=row[1], created_at=moment(row[2]))


def key_of(row: Sequence[Any], moment: Moment) -> ApiKey:
    """Return the key of a row: the fields in their order. A scope of a later version allows nothing here."""
    return ApiKey(
        id=row[0],
        name=row[1],
        prefix=row[2],
        scopes=frozenset(_SCOPES[scope] for scope in row[3].split() if scope in _SCOPES),
        device_id=row[4],
        group_id=row[5],
        site_id=row[6],
        created_at=moment(row[7]),
        expires_at=_maybe(row[8], moment),
        revoked_at=_maybe(row[9], moment),
        last_used_at=_maybe(row[10], moment),
    )


def found_key(rows: Sequence[Sequence[Any]], prefix: str, moment: Moment) -> tuple[ApiKey, bytes] | None:
    """Return what `find_key` does of a row: the fields of a key, then its digest.

    Where no key has the prefix, the row is that of the next one, or of the first: something is found, fetched and read
    in every case. Else the time that this takes would tell which prefixes exist.
    """
    if not rows:
        return None
    key, digest = key_of(rows[0], moment), bytes(rows[0][-1])
    return (key, digest) if key.prefix == prefix else None


def scopes_text(scopes: Iterable[Scope]) -> str:
    """Return the scopes as they are kept."""
    return " ".join(sorted(scopes))


def properties_text(properties: JSON) -> str:
    """Return the properties as they are kept."""
    return msgspec.json.encode(properties).decode()


def _maybe(value: Any, moment: Moment) -> datetime | None:
    return None if value is None else moment(value)
