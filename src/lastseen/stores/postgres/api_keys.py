"""API keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lastseen.devices.key import ApiKey, NewKey
from lastseen.devices.store import KeyQuery
from lastseen.stores.device_rows import already_exists, found_key, key_of, no_device, no_group, no_key, scopes_text
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.postgres.moments import from_microseconds
from lastseen.stores.text import can_be_asked, can_be_stored

# Moments leave the database as microseconds: what a driver makes of a timestamp depends on the application's settings.
KEY = """
id, name, prefix, scopes, device_id, group_id, site_id, (extract(epoch FROM created_at) * 1000000)::bigint,
(extract(epoch FROM expires_at) * 1000000)::bigint, (extract(epoch FROM revoked_at) * 1000000)::bigint,
(extract(epoch FROM last_used_at) * 1000000)::bigint
"""

# Held until the key is there, so that neither its device nor its group goes meanwhile.
HOLD_DEVICE = """
SELECT 1 FROM lastseen_devices
WHERE id = %(id)s AND (%(within)s::text IS NULL OR group_id = %(within)s::text) FOR KEY SHARE
"""

HOLD_GROUP = "SELECT 1 FROM lastseen_device_groups WHERE id = %(id)s FOR KEY SHARE"

ADD_KEY = """
INSERT INTO lastseen_api_keys (id, name, prefix, scopes, device_id, group_id, site_id, created_at, expires_at,
    revoked_at, last_used_at, digest)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

# One row whether the prefix is known or not, see `found_key`.
FIND_KEY = f"""
SELECT {KEY}, digest FROM lastseen_api_keys WHERE prefix = coalesce(
    (SELECT min(prefix) FROM lastseen_api_keys WHERE prefix >= %(prefix)s::text),
    (SELECT min(prefix) FROM lastseen_api_keys)
)
"""  # noqa: S608 - constants

IN_GROUP = """
(group_id = {group}::text OR device_id IN (SELECT id FROM lastseen_devices WHERE group_id = {group}::text))
"""

# The rule of `ApiKey.status`.
STATUS = """
CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= %(now)s::timestamptz THEN 'expired' ELSE 'valid' END
"""

WITHIN = f"(%(within)s::text IS NULL OR {IN_GROUP.format(group='%(within)s')})"

GET_KEY = f"SELECT {KEY} FROM lastseen_api_keys WHERE id = %(id)s AND {WITHIN}"  # noqa: S608 - constants

LIST_KEYS = f"""
SELECT {KEY} FROM lastseen_api_keys
WHERE (%(device_id)s::text IS NULL OR device_id = %(device_id)s::text)
  AND (%(site_id)s::text IS NULL OR site_id = %(site_id)s::text)
  AND (%(group_id)s::text IS NULL OR {IN_GROUP.format(group="%(group_id)s")})
  AND (%(status)s::text IS NULL OR %(status)s::text = {STATUS})
  AND (%(from_id)s::text IS NULL OR created_at < %(from)s::timestamptz
       OR (created_at = %(from)s::timestamptz AND id > %(from_id)s::text))
ORDER BY lastseen_api_keys.created_at DESC, id LIMIT %(limit)s
"""  # noqa: S608 - constants

REVOKE_KEY = f"""
UPDATE lastseen_api_keys SET revoked_at = coalesce(revoked_at, %(now)s::timestamptz)
WHERE id = %(id)s AND {WITHIN} RETURNING {KEY}
"""  # noqa: S608 - constants

SET_EXPIRY = f"""
UPDATE lastseen_api_keys SET expires_at = least(expires_at, %(expires_at)s::timestamptz)
WHERE id = %(id)s AND revoked_at IS NULL AND {WITHIN} RETURNING {KEY}
"""  # noqa: S608 - constants


class PostgresApiKeys:
    """The part of `DeviceStore` that keeps keys."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def add_key(self, new: NewKey, *, within: str | None = None) -> None:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            _add_key(cursor, new, within)

    def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
        """See `DeviceStore`."""
        rows = self._ask(FIND_KEY, {"prefix": prefix}) if can_be_stored(prefix) else []
        return found_key(rows, prefix, from_microseconds)

    def get_key(self, key_id: str, *, within: str | None = None) -> ApiKey | None:
        """See `DeviceStore`."""
        found = self._ask(GET_KEY, {"id": key_id, "within": within}) if can_be_asked(key_id, within) else []
        return key_of(found[0], from_microseconds) if found else None

    def list_keys(self, query: KeyQuery) -> Sequence[ApiKey]:
        """See `DeviceStore`."""
        place, from_id = (None, None) if query.after is None else query.after
        if not can_be_asked(query.device_id, query.group_id, query.site_id, from_id):
            return []
        parameters = {
            "device_id": query.device_id,
            "group_id": query.group_id,
            "site_id": query.site_id,
            "status": None if query.status is None else query.status.value,
            "now": query.now,
            "from": place,
            "from_id": from_id,
            "limit": query.limit,
        }
        return [key_of(row, from_microseconds) for row in self._ask(LIST_KEYS, parameters)]

    def revoke_key(self, key_id: str, now: datetime, *, within: str | None = None) -> ApiKey:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            return _changed(cursor, REVOKE_KEY, {"id": key_id, "now": now, "within": within})

    def set_expiry(
        self, key_id: str, expires_at: datetime, *, successor: NewKey | None = None, within: str | None = None
    ) -> ApiKey:
        """See `DeviceStore`."""
        with self._database.transaction() as cursor:
            changed = _changed(cursor, SET_EXPIRY, {"id": key_id, "expires_at": expires_at, "within": within})
            if successor is not None:
                _add_key(cursor, successor, within)
            return changed

    def _ask(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._database.read() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()


def _changed(cursor: Cursor, statement: str, parameters: Mapping[str, Any]) -> ApiKey:
    if not can_be_asked(parameters["id"], parameters["within"]):
        raise no_key()
    cursor.execute(statement, parameters)
    found = cursor.fetchall()
    if not found:
        raise no_key()
    return key_of(found[0], from_microseconds)


def _add_key(cursor: Cursor, new: NewKey, within: str | None) -> None:
    key = new.key
    if key.device_id is not None:
        cursor.execute(HOLD_DEVICE, {"id": key.device_id, "within": within})
        if not cursor.fetchall():
            raise no_device()
    elif within not in {None, key.group_id}:
        raise no_group()
    if key.group_id is not None:
        cursor.execute(HOLD_GROUP, {"id": key.group_id})
        if not cursor.fetchall():
            raise no_group()
    row = (
        key.id,
        key.name,
        key.prefix,
        scopes_text(key.scopes),
        key.device_id,
        key.group_id,
        key.site_id,
        key.created_at,
        key.expires_at,
        key.revoked_at,
        key.last_used_at,
        new.digest,
    )
    cursor.execute(ADD_KEY, row)
    if cursor.rowcount != 1:
        raise already_exists("key")
