"""Accounts and the audit trail in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lastseen.accounts.account import Account, Credentials, OneTimeLink, name_key
from lastseen.accounts.audit import AuditEntry, AuditRecord
from lastseen.accounts.store import AUDIT_PAGE
from lastseen.stores.account_rows import account_of, last_administrator, name_taken, no_account, no_link, record_of
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.times import TEXT
from lastseen.stores.text import can_be_stored

ACCOUNT = "user_id, name, role, created_at, disabled_at, password_hash IS NOT NULL, group_id"

IS_ADMINISTRATOR = "role = 'administrator' AND disabled_at IS NULL AND password_hash IS NOT NULL"

HAS_ADMINISTRATOR = f"SELECT EXISTS (SELECT 1 FROM lastseen_accounts WHERE {IS_ADMINISTRATOR})"  # noqa: S608 - constants

IS_LAST_ADMINISTRATOR = f"""
SELECT count(*) = 1 AND max(user_id) = ? FROM lastseen_accounts WHERE {IS_ADMINISTRATOR}
"""  # noqa: S608 - constants

ADD = """
INSERT INTO lastseen_accounts
    (user_id, name, name_key, role, created_at, password_hash, link_digest, link_expires_at, group_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name_key) DO NOTHING
"""

GET = f"SELECT {ACCOUNT}, password_hash FROM lastseen_accounts WHERE user_id = ?"  # noqa: S608 - constants

FIND = f"SELECT {ACCOUNT}, password_hash FROM lastseen_accounts WHERE name_key = ?"  # noqa: S608 - constants

LIST = f"SELECT {ACCOUNT} FROM lastseen_accounts ORDER BY name_key"  # noqa: S608 - constants

SET_HASH = """
UPDATE lastseen_accounts SET password_hash = ?2, link_digest = NULL, link_expires_at = NULL WHERE user_id = ?1
"""

REFRESH_HASH = "UPDATE lastseen_accounts SET password_hash = ?3 WHERE user_id = ?1 AND password_hash = ?2"

SET_LINK = "UPDATE lastseen_accounts SET link_digest = ?2, link_expires_at = ?3 WHERE user_id = ?1"

FIND_LINK = f"""
SELECT {ACCOUNT} FROM lastseen_accounts WHERE link_digest = ?1 AND ?2 < link_expires_at AND disabled_at IS NULL
"""  # noqa: S608 - constants

REDEEM = """
UPDATE lastseen_accounts SET password_hash = ?3, link_digest = NULL, link_expires_at = NULL
WHERE link_digest = ?1 AND ?2 < link_expires_at AND disabled_at IS NULL
"""

DISABLE = "UPDATE lastseen_accounts SET disabled_at = coalesce(disabled_at, ?2) WHERE user_id = ?1"

ENABLE = "UPDATE lastseen_accounts SET disabled_at = NULL WHERE user_id = ?"

SET_GROUP = "UPDATE lastseen_accounts SET group_id = ?2 WHERE user_id = ?1"

DELETE = "DELETE FROM lastseen_accounts WHERE user_id = ?"

APPEND = """
INSERT INTO lastseen_audit_trail (at, action, actor_id, actor_name, subject_id, subject_name, address, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

TRAIL = """
SELECT id, at, action, actor_id, actor_name, subject_id, subject_name, address, detail FROM lastseen_audit_trail
WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2
"""


class SQLiteAccounts:
    """Implements `AccountStore`. Commits are there after a power cut."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_administrator(self) -> bool:
        """See `AccountStore`."""
        return bool(self._ask(HAS_ADMINISTRATOR)[0][0])

    def add_first_administrator(self, account: Account, password_hash: str, entry: AuditEntry) -> bool:
        """See `AccountStore`."""
        with self._database.write() as connection:
            if connection.execute(HAS_ADMINISTRATOR).fetchone()[0]:
                return False
            _add(connection, account, password_hash, None)
            _append(connection, entry)
        return True

    def add_account(self, account: Account, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.write() as connection:
            _add(connection, account, None, link)
            _append(connection, entry)

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
        return [account_of(row, TEXT.decode) for row in self._ask(LIST)]

    def set_password(self, user_id: str, password_hash: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_HASH, (user_id, password_hash), entry)

    def refresh_hash(self, user_id: str, old_hash: str, new_hash: str) -> bool:
        """See `AccountStore`."""
        with self._database.write() as connection:
            return connection.execute(REFRESH_HASH, (user_id, old_hash, new_hash)).rowcount == 1

    def set_link(self, user_id: str, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_LINK, (user_id, link.digest, TEXT.encode(link.expires_at)), entry)

    def find_link(self, digest: bytes, now: datetime) -> Account | None:
        """See `AccountStore`."""
        found = self._ask(FIND_LINK, (digest, TEXT.encode(now)))
        return account_of(found[0], TEXT.decode) if found else None

    def redeem_link(self, digest: bytes, password_hash: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.write() as connection:
            if connection.execute(REDEEM, (digest, TEXT.encode(now), password_hash)).rowcount != 1:
                raise no_link()
            _append(connection, entry)

    def disable_account(self, user_id: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(DISABLE, (user_id, TEXT.encode(now)), entry, spare_last_administrator=True)

    def enable_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(ENABLE, (user_id,), entry)

    def set_group(self, user_id: str, group_id: str | None, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(SET_GROUP, (user_id, group_id), entry)

    def delete_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        self._change(DELETE, (user_id,), entry, spare_last_administrator=True)

    def append_audit(self, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._database.write() as connection:
            _append(connection, entry)

    def list_audit(self, limit: int = AUDIT_PAGE, before: int | None = None) -> Sequence[AuditRecord]:
        """See `AccountStore`."""
        return [record_of(row, TEXT.decode) for row in self._ask(TRAIL, (before, limit))]

    def _ask(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._database.read() as connection:
            return connection.execute(statement, parameters).fetchall()

    def _credentials(self, statement: str, key: str) -> Credentials | None:
        found = self._ask(statement, (key,)) if can_be_stored(key) else []
        return Credentials(account=account_of(found[0], TEXT.decode), password_hash=found[0][-1]) if found else None

    def _change(
        self, statement: str, parameters: Sequence[Any], entry: AuditEntry, *, spare_last_administrator: bool = False
    ) -> None:
        """Change the account whose id comes first, and append the entry."""
        if not can_be_stored(parameters[0]):
            raise no_account()
        with self._database.write() as connection:
            if spare_last_administrator and connection.execute(IS_LAST_ADMINISTRATOR, parameters[:1]).fetchone()[0]:
                raise last_administrator()
            if connection.execute(statement, parameters).rowcount != 1:
                raise no_account()
            _append(connection, entry)


def _add(connection: sqlite3.Connection, account: Account, password_hash: str | None, link: OneTimeLink | None) -> None:
    values = (
        account.user_id,
        account.name,
        name_key(account.name),
        account.role.value,
        TEXT.encode(account.created_at),
        password_hash,
        None if link is None else link.digest,
        None if link is None else TEXT.encode(link.expires_at),
        account.group_id,
    )
    if connection.execute(ADD, values).rowcount != 1:
        raise name_taken()


def _append(connection: sqlite3.Connection, entry: AuditEntry) -> None:
    values = (
        TEXT.encode(entry.at),
        entry.action.value,
        entry.actor_id,
        entry.actor_name,
        entry.subject_id,
        entry.subject_name,
        entry.address,
        entry.detail,
    )
    connection.execute(APPEND, values)
