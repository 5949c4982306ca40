"""Devices, groups and API keys in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

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
from lastseen.stores.sqlite.api_keys import SQLiteApiKeys
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.lazy_recorder import LazyTableRecorder
from lastseen.stores.sqlite.times import TEXT, encoded
from lastseen.stores.text import can_be_asked, can_be_stored

DEVICE = "id, name, platform, owner_id, group_id, properties, created_at, last_seen_at"

GET_DEVICE = f"""
SELECT {DEVICE} FROM lastseen_devices WHERE id = :id AND (:within IS NULL OR group_id = :within)
"""  # noqa: S608 - constants

PUT_DEVICE = f"""
INSERT INTO lastseen_devices ({DEVICE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, platform = excluded.platform, owner_id = excluded.owner_id,
    group_id = excluded.group_id, properties = excluded.properties, last_seen_at = excluded.last_seen_at
"""  # noqa: S608 - constants

MATCHES = """
(:device_id IS NULL OR id = :device_id)
AND (:owner_id IS NULL OR owner_id = :owner_id)
AND (:search = '' OR instr(lower(id), lower(:search)) > 0 OR instr(lower(name), lower(:search)) > 0)
AND (:is_seen IS NULL OR (last_seen_at IS NOT NULL) = :is_seen)
AND (:after IS NULL OR last_seen_at > :after) AND (:until IS NULL OR last_seen_at <= :until)
"""

# Two statements, because an index helps only a condition that is always there.
OF_ALL, OF_GROUP = ":group_id IS NULL", "group_id = :group_id"

BY_NAME = "lower(name)"

# The moment of a device that was never seen is text before or after every moment.
BY_LAST_SEEN = "coalesce(last_seen_at, :never)"

LIST = f"""
SELECT {DEVICE} FROM lastseen_devices WHERE {{group}} AND {MATCHES}
AND (:from_id IS NULL OR {{by}} {{follows}} {{place}} OR ({{by}} = {{place}} AND id > :from_id))
ORDER BY {{by}}{{direction}}, id LIMIT :limit
"""  # noqa: S608 - constants

COUNT = f"SELECT count(*) FROM lastseen_devices WHERE {{group}} AND {MATCHES}"  # noqa: S608 - constants


def _lists(group: str) -> dict[DeviceOrder, str]:
    name = {"by": BY_NAME, "place": "lower(:from)"}
    seen = {"by": BY_LAST_SEEN, "place": ":from"}
    up, down = {"follows": ">", "direction": ""}, {"follows": "<", "direction": " DESC"}
    return {
        DeviceOrder.NAME: LIST.format(group=group, **name, **up),
        DeviceOrder.NAME_DESCENDING: LIST.format(group=group, **name, **down),
        DeviceOrder.OLDEST: LIST.format(group=group, **seen, **up),
        DeviceOrder.NEWEST: LIST.format(group=group, **seen, **down),
    }


LISTS = {False: _lists(OF_ALL), True: _lists(OF_GROUP)}
COUNTS = {False: COUNT.format(group=OF_ALL), True: COUNT.format(group=OF_GROUP)}

DELETE_DEVICE = "DELETE FROM lastseen_devices WHERE id = ?"

DELETE_KEYS_OF_DEVICE = "DELETE FROM lastseen_api_keys WHERE device_id = ?"

GROUPS_OF = "SELECT id, group_id FROM lastseen_devices WHERE id IN (SELECT value FROM json_each(?))"

ADD_GROUP = "INSERT INTO lastseen_device_groups (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

GET_GROUP = "SELECT id, name, created_at FROM lastseen_device_groups WHERE id = ?"

LIST_GROUPS = """
SELECT id, name, created_at FROM lastseen_device_groups
WHERE :from_id IS NULL OR lower(name) > lower(:from) OR (lower(name) = lower(:from) AND id > :from_id)
ORDER BY lower(name), id LIMIT :limit
"""

RENAME_GROUP = "UPDATE lastseen_device_groups SET name = ?2 WHERE id = ?1"

EMPTY_GROUP = "UPDATE lastseen_devices SET group_id = NULL WHERE group_id = ?"

DELETE_KEYS_OF_GROUP = "DELETE FROM lastseen_api_keys WHERE group_id = ?"

DELETE_GROUP = "DELETE FROM lastseen_device_groups WHERE id = ?"


class SQLiteDevices(SQLiteApiKeys):
    """Implements `DeviceStore`.

    Commits on `database` are there after a power cut. Recorded activity goes through `activity_database`, whose last
    commits may not be.
    """

    def __init__(self, database: Database, activity_database: Database) -> None:
        super().__init__(database)
        self.devices_recorder = LazyTableRecorder(activity_database, DEVICE_ACTIVITY)
        self.keys_recorder = LazyTableRecorder(activity_database, KEY_ACTIVITY)

    def upsert_device(self, device: Device, seen_at: datetime | None = None, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        check_registration(device, within)
        with self._database.write() as connection:
            known = _device(connection, device.id, None)
            if known is None:
                kept = first_registered(device, seen_at, within)
            elif within not in {None, known.group_id}:
                raise no_device()
            else:
                kept = known.registered_again(device, seen_at)
            _require_group(connection, kept.group_id)
            connection.execute(PUT_DEVICE, _device_row(kept))
        return kept

    def get_device(self, device_id: str, *, within: str | None = None) -> Device | None:
        """See `DeviceStore`."""
        with self._database.read() as connection:
            return _device(connection, device_id, within)

    def list_devices(self, query: DeviceQuery) -> Sequence[Device]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        if not (_can_be_asked(query.where) and can_be_asked(from_id)):
            return []
        never = "" if query.never_first is (query.order is DeviceOrder.OLDEST) else "~"
        by_name = query.order in {DeviceOrder.NAME, DeviceOrder.NAME_DESCENDING}
        parameters = {
            **_parameters(query.where),
            "never": never,
            "from": place if by_name else encoded(place) or never,
            "from_id": from_id,
            "limit": query.limit,
        }
        statement = LISTS[query.where.group_id is not None][query.order]
        return [device_of(row, TEXT.decode) for row in self._ask(statement, parameters)]

    def count_devices(self, where: Sequence[DeviceFilter]) -> Sequence[int]:
        """See `DeviceStore`."""
        with self._database.read() as connection:
            # One transaction, so that all counts are of one moment.
            connection.execute("BEGIN")
            try:
                return [_count(connection, one) for one in where]
            finally:
                connection.execute("ROLLBACK")

    def change_device(self, device_id: str, change: DeviceChange, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            device = _device(connection, device_id, within)
            if device is None:
                raise no_device()
            changed = change.apply(device)
            _require_group(connection, changed.group_id)
            connection.execute(PUT_DEVICE, _device_row(changed))
        return changed

    def delete_device(self, device_id: str, *, within: str | None = None) -> Device:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            device = _device(connection, device_id, within)
            if device is None:
                raise no_device()
            connection.execute(DELETE_KEYS_OF_DEVICE, (device_id,))
            connection.execute(DELETE_DEVICE, (device_id,))
        return device

    def groups_of(self, device_ids: Collection[str]) -> dict[str, str | None]:
        """See `DeviceStore`."""
        return dict(self._ask(GROUPS_OF, (json.dumps([one for one in device_ids if can_be_stored(one)]),)))

    def add_group(self, group: Group) -> None:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            if connection.execute(ADD_GROUP, (group.id, group.name, TEXT.encode(group.created_at))).rowcount != 1:
                raise already_exists("group")

    def get_group(self, group_id: str) -> Group | None:
        """See `DeviceStore`."""
        with self._database.read() as connection:
            return _group(connection, group_id)

    def list_groups(self, query: GroupQuery) -> Sequence[Group]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        parameters = {"from": place, "from_id": from_id, "limit": query.limit}
        return [group_of(row, TEXT.decode) for row in self._ask(LIST_GROUPS, parameters)]

    def rename_group(self, group_id: str, name: str) -> Group:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            _require_group(connection, group_id)
            connection.execute(RENAME_GROUP, (group_id, name))
            return _existing_group(connection, group_id)

    def delete_group(self, group_id: str) -> Group:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            group = _existing_group(connection, group_id)
            for statement in (EMPTY_GROUP, DELETE_KEYS_OF_GROUP, DELETE_GROUP):
                connection.execute(statement, (group_id,))
        return group

    def _ask(self, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
        with self._database.read() as connection:
            return connection.execute(statement, parameters).fetchall()


def _can_be_asked(where: DeviceFilter) -> bool:
    return can_be_asked(where.search, where.device_id, where.group_id, where.owner_id)


def _parameters(where: DeviceFilter) -> dict[str, Any]:
    return {
        "device_id": where.device_id,
        "group_id": where.group_id,
        "owner_id": where.owner_id,
        "search": where.search,
        "is_seen": where.is_seen,
        "after": encoded(where.seen_after),
        "until": encoded(where.seen_until),
    }


def _count(connection: sqlite3.Connection, where: DeviceFilter) -> int:
    if not _can_be_asked(where):
        return 0
    return int(connection.execute(COUNTS[where.group_id is not None], _parameters(where)).fetchone()[0])


def _device(connection: sqlite3.Connection, device_id: str, within: str | None) -> Device | None:
    if not can_be_asked(device_id, within):
        return None
    row = connection.execute(GET_DEVICE, {"id": device_id, "within": within}).fetchone()
    return None if row is None else device_of(row, TEXT.decode)


def _device_row(device: Device) -> tuple[Any, ...]:
    return (
        device.id,
        device.name,
        device.platform,
        device.owner_id,
        device.group_id,
        properties_text(device.properties),
        TEXT.encode(device.created_at),
        encoded(device.last_seen_at),
    )


def _group(connection: sqlite3.Connection, group_id: str) -> Group | None:
    row = connection.execute(GET_GROUP, (group_id,)).fetchone() if can_be_stored(group_id) else None
    return None if row is None else group_of(row, TEXT.decode)


def _existing_group(connection: sqlite3.Connection, group_id: str) -> Group:
    group = _group(connection, group_id)
    if group is None:
        raise no_group()
    return group


def _require_group(connection: sqlite3.Connection, group_id: str | None) -> None:
    if group_id is not None:
        _existing_group(connection, group_id)
