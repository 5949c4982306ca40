"""API keys in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from lastseen.devices.key import ApiKey, NewKey
from lastseen.devices.store import KeyQuery
from lastseen.stores.device_rows import already_exists, found_key, key_of, no_device, no_group, no_key, scopes_text
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.times import TEXT, encoded
from lastseen.stores.text import can_be_asked, can_be_stored

KEY = "id, name, prefix, scopes, device_id, group_id, site_id, created_at, expires_at, revoked_at, last_used_at"

HAS_DEVICE = """
SELECT EXISTS (SELECT 1 FROM lastseen_devices WHERE id = :id AND (:within IS NULL OR group_id = :within))
"""

HAS_GROUP = "SELECT EXISTS (SELECT 1 FROM lastseen_device_groups WHERE id = ?)"

ADD_KEY = f"""
INSERT INTO lastseen_api_keys ({KEY}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants

# One row whether the prefix is known or not, see `found_key`.
FIND_KEY = f"""
SELECT {KEY}, digest FROM lastseen_api_keys WHERE prefix = coalesce(
    (SELECT min(prefix) FROM lastseen_api_keys WHERE prefix >= ?1), (SELECT min(prefix) FROM lastseen_api_keys)
)
"""  # noqa: S608 - constants

IN_GROUP = "(group_id = {group} OR device_id IN (SELECT id FROM lastseen_devices WHERE group_id = {group}))"

# The rule of `ApiKey.status`.
STATUS = "CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= :now THEN 'expired' ELSE 'valid' END"

GET_KEY = f"""
SELECT {KEY} FROM lastseen_api_keys WHERE id = :id AND (:within IS NULL OR {IN_GROUP.format(group=":within")})
"""  # noqa: S608 - constants

LIST_KEYS = f"""
SELECT {KEY} FROM lastseen_api_keys
WHERE (:device_id IS NULL OR device_id = :device_id) AND (:site_id IS NULL OR site_id = :site_id)
  AND (:group_id IS NULL OR {IN_GROUP.format(group=":group_id")})
  AND (:status IS NULL OR :status = {STATUS})
  AND (:from_id IS NULL OR created_at < :from OR (created_at = :from AND id > :from_id))
ORDER BY created_at DESC, id LIMIT :limit
"""  # noqa: S608 - constants

REVOKE_KEY = "UPDATE lastseen_api_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1"

SET_EXPIRY = "UPDATE lastseen_api_keys SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE id = ?1"


class SQLiteApiKeys:
    """The part of `DeviceStore` that keeps keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_key(self, new: NewKey, *, within: str | None = None) -> None:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            _add_key(connection, new, within)

    def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
        """See `DeviceStore`."""
        with self._database.read() as connection:
            rows = connection.execute(FIND_KEY, (prefix,)).fetchall() if can_be_stored(prefix) else []
        return found_key(rows, prefix, TEXT.decode)

    def get_key(self, key_id: str, *, within: str | None = None) -> ApiKey | None:
        """See `DeviceStore`."""
        with self._database.read() as connection:
            return _key(connection, key_id, within)

    def list_keys(self, query: KeyQuery) -> Sequence[ApiKey]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        if not can_be_asked(query.device_id, query.group_id, query.site_id, from_id):
            return []
        parameters = {
            "device_id": query.device_id,
            "group_id": query.group_id,
            "site_id": query.site_id,
            "status": query.status,
            "now": encoded(query.now),
            "from": encoded(place),
            "from_id": from_id,
            "limit": query.limit,
        }
        with self._database.read() as connection:
            return [key_of(row, TEXT.decode) for row in connection.execute(LIST_KEYS, parameters).fetchall()]

    def revoke_key(self, key_id: str, now: datetime, *, within: str | None = None) -> ApiKey:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            _existing_key(connection, key_id, within)
            connection.execute(REVOKE_KEY, (key_id, TEXT.encode(now)))
            return _existing_key(connection, key_id, None)

    def set_expiry(
        self, key_id: str, expires_at: datetime, *, successor: NewKey | None = None, within: str | None = None
    ) -> ApiKey:
        """See `DeviceStore`."""
        with self._database.write() as connection:
            if _existing_key(connection, key_id, within).revoked_at is not None:
                raise no_key()
            if successor is not None:
                _add_key(connection, successor, within)
            connection.execute(SET_EXPIRY, (key_id, TEXT.encode(expires_at)))
            return _existing_key(connection, key_id, None)


def _key(connection: sqlite3.Connection, key_id: str, within: str | None) -> ApiKey | None:
    if not can_be_asked(key_id, within):
        return None
    row = connection.execute(GET_KEY, {"id": key_id, "within": within}).fetchone()
    return None if row is None else key_of(row, TEXT.decode)


def _existing_key(connection: sqlite3.Connection, key_id: str, within: str | None) -> ApiKey:
    key = _key(connection, key_id, within)
    if key is None:
        raise no_key()
    return key


def _add_key(connection: sqlite3.Connection, new: NewKey, within: str | None) -> None:
    key = new.key
    if key.device_id is not None:
        if not connection.execute(HAS_DEVICE, {"id": key.device_id, "within": within}).fetchone()[0]:
            raise no_device()
    elif within not in {None, key.group_id}:
        raise no_group()
    if key.group_id is not None and not connection.execute(HAS_GROUP, (key.group_id,)).fetchone()[0]:
        raise no_group()
    row = (
        key.id,
        key.name,
        key.prefix,
        scopes_text(key.scopes),
        key.device_id,
        key.group_id,
        key.site_id,
        TEXT.encode(key.created_at),
        encoded(key.expires_at),
        encoded(key.revoked_at),
        encoded(key.last_used_at),
        new.digest,
    )
    if connection.execute(ADD_KEY, row).rowcount != 1:
        raise already_exists("key")
