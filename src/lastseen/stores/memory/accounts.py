"""Accounts and the audit trail in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lastseen.accounts.account import (
    Account,
    AccountNotFound,
    Credentials,
    LastAdministrator,
    NameTaken,
    OneTimeLink,
    name_key,
)
from lastseen.accounts.audit import AuditEntry, AuditRecord
from lastseen.accounts.store import AUDIT_PAGE


@dataclass(slots=True)
class _Row:
    account: Account
    password_hash: str | None = None
    link: OneTimeLink | None = None


class MemoryAccounts:
    """See `AccountStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._trail: list[AuditRecord] = []

    def has_administrator(self) -> bool:
        """See `AccountStore`."""
        with self._lock:
            return bool(self._administrators())

    def add_first_administrator(self, account: Account, password_hash: str, entry: AuditEntry) -> bool:
        """See `AccountStore`."""
        with self._lock:
            if self._administrators():
                return False
            self._add(_Row(account=replace(account, has_password=True), password_hash=password_hash), entry)
            return True

    def add_account(self, account: Account, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            self._add(_Row(account=replace(account, has_password=False), link=link), entry)

    def _add(self, row: _Row, entry: AuditEntry) -> None:
        key = name_key(row.account.name)
        if any(name_key(other.account.name) == key for other in self._rows.values()):
            raise NameTaken("There is a user with this name already.")
        self._rows[row.account.user_id] = row
        self.append_audit(entry)

    def get_account(self, user_id: str) -> Account | None:
        """See `AccountStore`."""
        row = self._rows.get(user_id)
        return None if row is None else row.account

    def find_credentials(self, name: str) -> Credentials | None:
        """See `AccountStore`."""
        key = name_key(name)
        with self._lock:
            found = [row for row in self._rows.values() if name_key(row.account.name) == key]
        return Credentials(account=found[0].account, password_hash=found[0].password_hash) if found else None

    def get_credentials(self, user_id: str) -> Credentials | None:
        """See `AccountStore`."""
        with self._lock:
            row = self._rows.get(user_id)
            return None if row is None else Credentials(account=row.account, password_hash=row.password_hash)

    def list_accounts(self) -> Sequence[Account]:
        """See `AccountStore`."""
        with self._lock:
            accounts = [row.account for row in self._rows.values()]
        return sorted(accounts, key=lambda account: name_key(account.name))

    def set_password(self, user_id: str, password_hash: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            row = self._row(user_id)
            row.password_hash, row.link = password_hash, None
            row.account = replace(row.account, has_password=True)
            self.append_audit(entry)

    def refresh_hash(self, user_id: str, old_hash: str, new_hash: str) -> bool:
        """See `AccountStore`."""
        with self._lock:
            row = self._rows.get(user_id)
            if row is None or row.password_hash != old_hash:
                return False
            row.password_hash = new_hash
            return True

    def set_link(self, user_id: str, link: OneTimeLink, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            self._row(user_id).link = link
            self.append_audit(entry)

    def find_link(self, digest: bytes, now: datetime) -> Account | None:
        """See `AccountStore`."""
        with self._lock:
            for row in self._rows.values():
                works = row.link is not None and row.link.digest == digest and now < row.link.expires_at
                if works and row.account.is_enabled:
                    return row.account
        return None

    def redeem_link(self, digest: bytes, password_hash: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            account = self.find_link(digest, now)
            if account is None:
                raise AccountNotFound("This link has been used or has expired.")
            self.set_password(account.user_id, password_hash, entry)

    def disable_account(self, user_id: str, now: datetime, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            row = self._row(user_id)
            self._spare_last_administrator(user_id)
            if row.account.is_enabled:
                row.account = replace(row.account, disabled_at=now)
            self.append_audit(entry)

    def enable_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            row = self._row(user_id)
            row.account = replace(row.account, disabled_at=None)
            self.append_audit(entry)

    def set_group(self, user_id: str, group_id: str | None, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            row = self._row(user_id)
            row.account = replace(row.account, group_id=group_id)
            self.append_audit(entry)

    def delete_account(self, user_id: str, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            self._row(user_id)
            self._spare_last_administrator(user_id)
            del self._rows[user_id]
            self.append_audit(entry)

    def append_audit(self, entry: AuditEntry) -> None:
        """See `AccountStore`."""
        with self._lock:
            self._trail.append(AuditRecord(id=len(self._trail) + 1, entry=entry))

    def list_audit(self, limit: int = AUDIT_PAGE, before: int | None = None) -> Sequence[AuditRecord]:
        """See `AccountStore`."""
        with self._lock:
            earlier = self._trail if before is None else self._trail[: max(0, before - 1)]
            return earlier[::-1][:limit]

    def _row(self, user_id: str) -> _Row:
        row = self._rows.get(user_id)
        if row is None:
            raise AccountNotFound("There is no such user.")
        return row

    def _administrators(self) -> set[str]:
        return {
            user_id
            for user_id, row in self._rows.items()
            if row.account.is_administrator and row.account.is_enabled and row.password_hash is not None
        }

    def _spare_last_administrator(self, user_id: str) -> None:
        if self._administrators() == {user_id}:
            raise LastAdministrator("This is the only administrator; make another one first.")
