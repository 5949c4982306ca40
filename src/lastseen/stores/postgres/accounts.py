"""Accounts and the audit trail in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lastseen.accounts.account import Account, Credentials, OneTimeLink, name_key
from lastseen.accounts.audit import AuditEntry, AuditRecord
from lastseen.accounts.store import AUDIT_PAGE
from lastseen.stores.account_rows import account_of, last_administrator, name_taken, no_account, no_link, record_of
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.text import can_be_stored

# Moments leave the database as microseconds: what a driver makes of a timestamp depends on the application's settings.
ACCOUNT = """
user_id, name, role, (extract(epoch FROM created_at) * 1000000)::bigint,
(extract(epoch FROM disabled_at) * 1000000)::bigint, password_hash IS NOT NULL, group_id
"""

IS_ADMINISTRATOR = "role = 'administrator' AND disabled_at IS NULL AND password_hash IS NOT NULL"

# Whether somebody is the first administrator or the last one is a question about all rows.
LOCK = "LOCK TABLE lastseen_accounts IN SHARE ROW EXCLUSIVE MODE"

HAS_ADMINISTRATOR = f"SELECT EXISTS (SELECT 1 FROM lastseen_accounts WHERE {IS_ADMINISTRATOR})"  # noqa: S608 - constants

IS_LAST_ADMINISTRATOR = f"""
SELECT coalesce(count(*) = 1 AND max(user_id) = %(user_id)s, false) FROM lastseen_accounts WHERE {IS_ADMINISTRATOR}
"""  # noqa: S608 - constants

ADD = """
INSERT INTO lastseen_accounts
    (user_id, name, name_key, role, created_at, password_hash, link_digest, link_expires_at, group_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name_key) DO NOTHING
"""

GET = f"SELECT {ACCOUNT}, password_hash FROM lastseen_accounts WHERE user_id = %(key)s"  # noqa: S608 - constants

FIND = f"SELECT {ACCOUNT}, password_hash FROM lastseen_accounts WHERE name_key = %(key)s"  # noqa: S608 - constants

LIST = f"SELECT {ACCOUNT} FROM lastseen_accounts ORDER BY name_key"  # noqa: S608 - constants

SET_HASH = """
UPDATE lastseen_accounts SET password_hash = %(hash)s, link_digest = NULL, link_expires_at = NULL
WHERE user_id = %(user_id)s
"""

REFRESH_HASH = """
UPDATE lastseen_accounts SET password_hash = %(new)s WHERE user_id = %(user_id)s AND password_hash = %(old)s
"""

SET_LINK = """
UPDATE lastseen_accounts SET link_digest = %(digest)s::bytea, link_expires_at = %(expires_at)s::timestamptz
WHERE user_id = %(user_id)s
"""

WORKS = """
link_digest = %(digest)s::bytea AND %(now)s::timestamptz < link_expires_at AND disabled_at IS NULL
"""

FIND_LINK = f"SELECT {ACCOUNT} FROM lastseen_accounts WHERE {WORKS}"  # noqa: S608 - constants

REDEEM = f"""
UPDATE lastseen_accounts SET password_hash = %(hash)s, link_digest = NULL, link_expires_at = NULL WHERE {WORKS}
"""  # noqa: S608 - constants

DISABLE = """
UPDATE lastseen_accounts SET disabled_at = coalesce(disabled_at, %(now)s::timestamptz) WHERE user_id = %(user_id)s
"""

ENABLE = "UPDATE lastseen_accounts SET disabled_at = NULL WHERE user_id = %(user_id)s"

SET_GROUP = "UPDATE lastseen_accounts SET group_id = %(group_id)s::text WHERE user_id = %(user_id)s"

DELETE = "DELETE FROM lastseen_accounts WHERE user_id = %(user_id)s"

APPEND = """
INSERT INTO lastseen_audit_trail (at, action, actor_id, actor_name, subject_id, subject_name, address, detail)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""

TRAIL = """
SELECT id, (extract(epoch FROM at) * 1000000)::bigint, action, actor_id, actor_name, subject_id, subject_name, address,
    detail
FROM lastseen_audit_trail WHERE %(before)s::bigint IS NULL OR id < %(before)s::bigint
ORDER BY id DESC LIMIT %(limit)s
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresAccounts:
    """Implements `AccountStore`. Commits wait for the disk as the server is set to."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def has_administrator(self) -> bool:
        """See `AccountStore`."""
        return bool(self._ask(HAS_ADMINISTRATOR)[0][0])

    def add_first_administrator(self, account: Account, password_hash: str, entry: AuditEntry) -> bool:
        """See `AccountStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(LOCK)
            cursor.execute(HAS_ADMINISTRATOR)
            if cursor.fetchall()[0][0]:
                return False
            _add(cursor, account, password_hash, None)
            _append(cursor, entry)
        return True

    def add_account(self, account: Account, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.transaction() as cursor:
            _add(cursor, account, None, link)
            _append(cursor, entry)

    def get_account(self, user_id: str) -> Account | None:
        """See `AccountStore`."""
        found = self.get_credentials(user_id)
        return None if found is None else found.account

    def find_credentials(self, name: str) -> Credentials | None:
        """See `AccountStore`."""
        return self._credentials(FIND, name_key(name))

    def get_credentials(self, user_id: str) -> Credentials | None:
        """See `AccountStore`."""
        return self._credentials(GET, user_id)

    def list_accounts(self) -> Sequence[Account]:
        """See `AccountStore`."""
        return [account_of(row, _moment) for row in self._ask(LIST)]

    def set_password(self, user_id: str, password_hash: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_HASH, {"user_id": user_id, "hash": password_hash}, entry)

    def refresh_hash(self, user_id: str, old_hash: str, new_hash: str) -> bool:
        """See `AccountStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(REFRESH_HASH, {"user_id": user_id, "old": old_hash, "new": new_hash})
            return cursor.rowcount == 1

    def set_link(self, user_id: str, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_LINK, {"user_id": user_id, "digest": link.digest, "expires_at": link.expires_at}, entry)

    def find_link(self, digest: bytes, now: datetime) -> Account | None:
        """See `AccountStore`."""
        found = self._ask(FIND_LINK, {"digest": digest, "now": now})
        return account_of(found[0], _moment) if found else None

    def redeem_link(self, digest: bytes, password_hash: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(REDEEM, {"digest": digest, "hash": password_hash, "now": now})
            if cursor.rowcount != 1:
                raise no_link()
            _append(cursor, entry)

    def disable_account(self, user_id: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(DISABLE, {"user_id": user_id, "now": now}, entry, spare_last_administrator=True)

    def enable_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(ENABLE, {"user_id": user_id}, entry)

    def set_group(self, user_id: str, group_id: str | None, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_GROUP, {"user_id": user_id, "group_id": group_id}, entry)

    def delete_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(DELETE, {"user_id": user_id}, entry, spare_last_administrator=True)

    def append_audit(self, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.transaction() as cursor:
            _append(cursor, entry)

    def list_audit(self, limit: int = AUDIT_PAGE, before: int | None = None) -> Sequence[AuditRecord]:
        """See `AccountStore`."""
        return [record_of(row, _moment) for row in self._ask(TRAIL, {"before": before, "limit": limit})]

    def _ask(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._database.read() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

    def _credentials(self, statement: str, key: str) -> Credentials | None:
        found = self._ask(statement, {"key": key}) if can_be_stored(key) else []
        return Credentials(account=account_of(found[0], _moment), password_hash=found[0][-1]) if found else None

    def _change(
        self,
        statement: str,
        parameters: Mapping[str, Any],
        entry: AuditEntry,
        *,
        spare_last_administrator: bool = False,
    ) -> None:
        """Change one account, and append the entry."""
        if not can_be_stored(parameters["user_id"]):
            raise no_account()
        with self._database.transaction() as cursor:
            if spare_last_administrator:
                cursor.execute(LOCK)
                cursor.execute(IS_LAST_ADMINISTRATOR, parameters)
                if cursor.fetchall()[0][0]:
                    raise last_administrator()
            cursor.execute(statement, parameters)
            if cursor.rowcount != 1:
                raise no_account()
            _append(cursor, entry)


def _add(cursor: Cursor, account: Account, password_hash: str | None, link: OneTimeLink | None) -> None:
    values = (
        account.user_id,
        account.name,
        name_key(account.name),
        account.role.value,
        account.created_at,
        password_hash,
        None if link is None else link.digest,
        None if link is None else link.expires_at,
        account.group_id,
    )
    cursor.execute(ADD, values)
    if cursor.rowcount != 1:
        raise name_taken()


def _append(cursor: Cursor, entry: AuditEntry) -> None:
    values = (
        entry.at,
        entry.action.value,
        entry.actor_id,
        entry.actor_name,
        entry.subject_id,
        entry.subject_name,
        entry.address,
        entry.detail,
    )
    cursor.execute(APPEND, values)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
