"""Devices, groups and API keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET

from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.store import DeviceFilter, DeviceOrder, DeviceQuery, GroupQuery
from lastseen.stores.device_rows import (
    DEVICE_ACTIVITY,
    KEY_ACTIVITY,
    already_exists,
    check_registration,
    device_of,
    first_registered,
    group_of,
    no_device,
    no_group,
    properties_text,
)
from lastseen.stores.postgres.api_keys import PostgresApiKeys
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.postgres.lazy_recorder import LazyTableRecorder
from lastseen.stores.postgres.moments import from_microseconds
from lastseen.stores.text import can_be_asked, can_be_stored

DEVICE = """
id, name, platform, owner_id, group_id, properties::text, (extract(epoch FROM created_at) * 1000000)::bigint,
(extract(epoch FROM last_seen_at) * 1000000)::bigint
"""

GET_DEVICE = f"""
SELECT {DEVICE} FROM lastseen_devices
WHERE id = %(id)s AND (%(within)s::text IS NULL OR group_id = %(within)s::text)
"""  # noqa: S608 - constants

HOLD_DEVICE = f"{GET_DEVICE} FOR NO KEY UPDATE"

ADD_DEVICE = """
INSERT INTO lastseen_devices (id, name, platform, owner_id, group_id, properties, created_at, last_seen_at)
VALUES (%s, %s, %s, %s, %s, %s::json, %s, %s) ON CONFLICT DO NOTHING
"""

# `greatest` leaves NULL out. Activity that is written meanwhile waits for this row.
CHANGE_DEVICE = """
UPDATE lastseen_devices SET name = %(name)s, platform = %(platform)s, owner_id = %(owner_id)s, group_id = %(group_id)s,
    properties = %(properties)s::json, last_seen_at = greatest(last_seen_at, %(last_seen_at)s::timestamptz)
WHERE id = %(id)s
"""

OF_ALL, OF_GROUP = "{group_id}::text IS NULL", "group_id = {group_id}::text"

MATCHES = """
({device_id}::text IS NULL OR d.id = {device_id}::text)
AND ({owner_id}::text IS NULL OR d.owner_id = {owner_id}::text)
AND ({search}::text = '' OR strpos(lower(d.id), lower({search}::text COLLATE "C")) > 0
     OR strpos(lower(d.name), lower({search}::text COLLATE "C")) > 0)
AND ({is_seen}::boolean IS NULL OR (d.last_seen_at IS NOT NULL) = {is_seen}::boolean)
AND ({after}::timestamptz IS NULL OR d.last_seen_at > {after}::timestamptz)
AND ({until}::timestamptz IS NULL OR d.last_seen_at <= {until}::timestamptz)
"""

FIELDS = ("device_id", "group_id", "owner_id", "search", "is_seen", "after", "until")
PARAMETERS = {name: f"%({name})s" for name in FIELDS}
COLUMNS = {name: f"f.{name}" for name in FIELDS}

# Both columns are compared bytewise, so that lower() folds ASCII letters and no others, as in every other store.
BY_NAME, FROM_NAME = "lower(name)", 'lower(%(from)s::text COLLATE "C")'
BY_LAST_SEEN, FROM_LAST_SEEN = "coalesce(last_seen_at, %(never)s::timestamptz)", "%(from)s::timestamptz"

LIST = f"""
SELECT {DEVICE} FROM lastseen_devices AS d WHERE {{group}} AND {MATCHES.format(**PARAMETERS)}
AND (%(from_id)s::text IS NULL OR {{by}} {{follows}} {{place}} OR ({{by}} = {{place}} AND id > %(from_id)s::text))
ORDER BY {{by}}{{direction}}, id LIMIT %(limit)s
"""  # noqa: S608 - constants

# One statement, so that all counts are of one moment.
COUNT = f"""
SELECT (SELECT count(*) FROM lastseen_devices AS d
        WHERE (f.group_id IS NULL OR d.group_id = f.group_id) AND {MATCHES.format(**COLUMNS)})
FROM unnest(%(device_id)s::text[], %(group_id)s::text[], %(owner_id)s::text[], %(search)s::text[],
            %(is_seen)s::boolean[], %(after)s::timestamptz[], %(until)s::timestamptz[])
     WITH ORDINALITY AS f (device_id, group_id, owner_id, search, is_seen, after, until, position)
ORDER BY f.position
"""  # noqa: S608 - constants


def _lists(group: str) -> dict[DeviceOrder, str]:
    name, seen = {"by": BY_NAME, "place": FROM_NAME}, {"by": BY_LAST_SEEN, "place": FROM_LAST_SEEN}
    up, down = {"follows": ">", "direction": ""}, {"follows": "<", "direction": " DESC"}
    return {
        DeviceOrder.NAME: LIST.format(group=group, **name, **up),
        DeviceOrder.NAME_DESCENDING: LIST.format(group=group, **name, **down),
        DeviceOrder.OLDEST: LIST.format(group=group, **seen, **up),
        DeviceOrder.NEWEST: LIST.format(group=group, **seen, **down),
    }


# Two statements, because an index helps only a condition that is always there.
LISTS = {False: _lists(OF_ALL.format(**PARAMETERS)), True: _lists(OF_GROUP.format(**PARAMETERS))}

# Locked in the order in which activity is written: neither then waits for the other in a circle.
HOLD_KEYS_OF_DEVICE = "SELECT 1 FROM lastseen_api_keys WHERE device_id = %(id)s ORDER BY id FOR UPDATE"

DELETE_DEVICE = "DELETE FROM lastseen_devices WHERE id = %(id)s"

GROUPS_OF = "SELECT id, group_id FROM lastseen_devices WHERE id = ANY(%(ids)s::text[])"

HOLD_GROUP = "SELECT 1 FROM lastseen_device_groups WHERE id = %(id)s FOR KEY SHARE"

ADD_GROUP = "INSERT INTO lastseen_device_groups (id, name, created_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"

GROUP = "id, name, (extract(epoch FROM created_at) * 1000000)::bigint"

GET_GROUP = f"SELECT {GROUP} FROM lastseen_device_groups WHERE id = %(id)s"  # noqa: S608 - constants

HOLD_WHOLE_GROUP = f"{GET_GROUP} FOR UPDATE"

LIST_GROUPS = f"""
SELECT {GROUP} FROM lastseen_device_groups
WHERE %(from_id)s::text IS NULL OR lower(name) > {FROM_NAME}
   OR (lower(name) = {FROM_NAME} AND id > %(from_id)s::text)
ORDER BY lower(name), id LIMIT %(limit)s
"""  # noqa: S608 - constants

RENAME_GROUP = f"""
UPDATE lastseen_device_groups SET name = %(name)s WHERE id = %(id)s RETURNING {GROUP}
"""  # noqa: S608 - constants

HOLD_DEVICES_OF_GROUP = "SELECT 1 FROM lastseen_devices WHERE group_id = %(id)s ORDER BY id FOR NO KEY UPDATE"

EMPTY_GROUP = "UPDATE lastseen_devices SET group_id = NULL WHERE group_id = %(id)s"

HOLD_KEYS_OF_GROUP = "SELECT 1 FROM lastseen_api_keys WHERE group_id = %(id)s ORDER BY id FOR UPDATE"

DELETE_GROUP = "DELETE FROM lastseen_device_groups WHERE id = %(id)s"


class PostgresDevices(PostgresApiKeys):
    """Implements `DeviceStore`. Commits wait for the disk as the server is set to; those of activity do not."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self.devices_recorder = LazyTableRecorder(database, DEVICE_ACTIVITY)
        self.keys_recorder = LazyTableRecorder(database, KEY_ACTIVITY)

    def upsert_device(self, device: Device, seen_at: datetime | None = None, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        check_registration(device, within)
        new = first_registered(device, seen_at, within)
        with self._database.transaction() as cursor:
            _hold_group(cursor, new.group_id)
            known = None
            while known is None:
                # Again when the one that was in the way is gone by the time it is held.
                cursor.execute(ADD_DEVICE, _device_row(new))
                if cursor.rowcount == 1:
                    return new
                known = _held(cursor, device.id, None)
            if within not in {None, known.group_id}:
                raise no_device()
            kept = known.registered_again(device, seen_at)
            cursor.execute(CHANGE_DEVICE, _parameters_of(kept))
        return kept

    def get_device(self, device_id: str, *, within: str | None = None) -> Device | None:
        """See `DeviceStore`."""
        found = self._ask(GET_DEVICE, {"id": device_id, "within": within}) if can_be_asked(device_id, within) else []
        return device_of(found[0], from_microseconds) if found else None

    def list_devices(self, query: DeviceQuery) -> Sequence[Device]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        if not _can_be_asked(query.where) or not can_be_asked(from_id):
            return []
        never = "-infinity" if query.never_first is (query.order is DeviceOrder.OLDEST) else "infinity"
        by_name = query.order in {DeviceOrder.NAME, DeviceOrder.NAME_DESCENDING}
        parameters = {
            **_parameters(query.where),
            "from": place if by_name else place or never,
            "from_id": from_id,
            "limit": query.limit,
        }
        if not by_name:
            parameters["never"] = never
        statement = LISTS[query.where.group_id is not None][query.order]
        return [device_of(row, from_microseconds) for row in self._ask(statement, parameters)]

    def count_devices(self, where: Sequence[DeviceFilter]) -> Sequence[int]:
        """See `DeviceStore`."""
        possible = [_parameters(one) for one in where if _can_be_asked(one)]
        if not possible:
            return [0 for _ in where]
        counts = iter(self._ask(COUNT, {name: [one[name] for one in possible] for name in FIELDS}))
        return [int(next(counts)[0]) if _can_be_asked(one) else 0 for one in where]

    def change_device(self, device_id: str, change: DeviceChange, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            # Before the device, in the order in which a group is deleted: neither then waits for the other.
            _hold_group(cursor, None if change.group_id is UNSET else change.group_id)
            changed = change.apply(_held_device(cursor, device_id, within))
            cursor.execute(CHANGE_DEVICE, _parameters_of(changed))
        return changed

    def delete_device(self, device_id: str, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            device = _held_device(cursor, device_id, within)
            cursor.execute(HOLD_KEYS_OF_DEVICE, {"id": device_id})
            cursor.execute(DELETE_DEVICE, {"id": device_id})
        return device

    def groups_of(self, device_ids: Collection[str]) -> dict[str, str | None]:
        """See `DeviceStore`."""
        return dict(self._ask(GROUPS_OF, {"ids": [one for one in device_ids if can_be_stored(one)]}))

    def add_group(self, group: Group) -> None:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(ADD_GROUP, (group.id, group.name, group.created_at))
            if cursor.rowcount != 1:
                raise already_exists("group")

    def get_group(self, group_id: str) -> Group | None:
        """See `DeviceStore`."""
        found = self._ask(GET_GROUP, {"id": group_id}) if can_be_stored(group_id) else []
        return group_of(found[0], from_microseconds) if found else None

    def list_groups(self, query: GroupQuery) -> Sequence[Group]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        rows = self._ask(LIST_GROUPS, {"from": place, "from_id": from_id, "limit": query.limit})
        return [group_of(row, from_microseconds) for row in rows]

    def rename_group(self, group_id: str, name: str) -> Group:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            return _group(cursor, RENAME_GROUP, {"id": group_id, "name": name})

    def delete_group(self, group_id: str) -> Group:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            group = _group(cursor, HOLD_WHOLE_GROUP, {"id": group_id})
            for statement in (HOLD_DEVICES_OF_GROUP, EMPTY_GROUP, HOLD_KEYS_OF_GROUP, DELETE_GROUP):
                cursor.execute(statement, {"id": group_id})
        return group


def _can_be_asked(where: DeviceFilter) -> bool:
    return can_be_asked(where.search, where.device_id, where.group_id, where.owner_id)


def _parameters(where: DeviceFilter) -> dict[str, Any]:
    return {
        "device_id": where.device_id,
        "group_id": where.group_id,
        "owner_id": where.owner_id,
        "search": where.search,
        "is_seen": where.is_seen,
        "after": where.seen_after,
        "until": where.seen_until,
    }


def _device_row(device: Device) -> tuple[Any, ...]:
    return (
        device.id,
        device.name,
        device.platform,
        device.owner_id,
        device.group_id,
        properties_text(device.properties),
        device.created_at,
        device.last_seen_at,
    )


def _parameters_of(device: Device) -> Mapping[str, Any]:
    return {
        "id": device.id,
        "name": device.name,
        "platform": device.platform,
        "owner_id": device.owner_id,
        "group_id": device.group_id,
        "properties": properties_text(device.properties),
        "last_seen_at": device.last_seen_at,
    }


def _held(cursor: Cursor, device_id: str, within: str | None) -> Device | None:
    """Return a device whose row nobody else changes until the end of the transaction."""
    if not can_be_asked(device_id, within):
        return None
    cursor.execute(HOLD_DEVICE, {"id": device_id, "within": within})
    found = cursor.fetchall()
    return device_of(found[0], from_microseconds) if found else None


def _held_device(cursor: Cursor, device_id: str, within: str | None) -> Device:
    """Return the same; raise when there is none."""
    device = _held(cursor, device_id, within)
    if device is None:
        raise no_device()
    return device


def _hold_group(cursor: Cursor, group_id: str | None) -> None:
    """Keep the group from going until the end of the transaction; raise when it is not there."""
    if group_id is None:
        return
    cursor.execute(HOLD_GROUP, {"id": group_id})
    if not cursor.fetchall():
        raise no_group()


def _group(cursor: Cursor, statement: str, parameters: Mapping[str, Any]) -> Group:
    if not can_be_asked(parameters["id"]):
        raise no_group()
    cursor.execute(statement, parameters)
    found = cursor.fetchall()
    if not found:
        raise no_group()
    return group_of(found[0], from_microseconds)
