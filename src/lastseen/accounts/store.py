"""What accounts need from a store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from lastseen.accounts.account import Account, Credentials, OneTimeLink
from lastseen.accounts.audit import AuditEntry, AuditRecord

AUDIT_PAGE = 100


@runtime_checkable
class AccountStore(Protocol):
    """Keeps accounts and the audit trail.

    Every method is one transaction and may be called by any thread. A change and the entry that tells of it are in the
    same transaction, so that there is never one without the other. Nothing changes or removes an entry. Hashes of
    passwords leave through `find_credentials` only, digests of links never. Raises `StoreUnavailable` or `SchemaError`
    when the database fails.
    """

    def has_administrator(self) -> bool:
        """Return whether there is an administrator who is enabled and has a password."""

    def add_first_administrator(self, account: Account, password_hash: str, entry: AuditEntry) -> bool:
        """Add the account, or return False when there is an administrator already; of two at once, one gets True.

        Raises `NameTaken`.
        """

    def add_account(self, account: Account, link: OneTimeLink, entry: AuditEntry) -> None:
        """Add an account whose password is chosen with the link; raises `NameTaken`."""

    def get_account(self, user_id: str) -> Account | None:
        """Return an account, or None."""

    def find_credentials(self, name: str) -> Credentials | None:
        """Return the account with this name, in any case, and the hash of its password, or None."""

    def get_credentials(self, user_id: str) -> Credentials | None:
        """Return an account and the hash of its password, or None."""

    def list_accounts(self) -> Sequence[Account]:
        """Return all accounts, by name."""

    def set_password(self, user_id: str, password_hash: str, entry: AuditEntry) -> None:
        """Replace the password, and end the account's one-time link; raises `AccountNotFound`."""

    def refresh_hash(self, user_id: str, old_hash: str, new_hash: str) -> bool:
        """Replace the hash of the same password, unless the password has changed meanwhile."""

    def set_link(self, user_id: str, link: OneTimeLink, entry: AuditEntry) -> None:
        """Give the account a one-time link in place of the one it has; raises `AccountNotFound`."""

    def find_link(self, digest: bytes, now: datetime) -> Account | None:
        """Return the enabled account whose link this is, while it works."""

    def redeem_link(self, digest: bytes, password_hash: str, now: datetime, entry: AuditEntry) -> None:
        """Set the password of the link's account and end the link; of two at once, one raises `AccountNotFound`."""

    def disable_account(self, user_id: str, now: datetime, entry: AuditEntry) -> None:
        """Keep an account from signing in; raises `AccountNotFound`, and `LastAdministrator` for that one."""

    def enable_account(self, user_id: str, entry: AuditEntry) -> None:
        """Let an account sign in again; raises `AccountNotFound`."""

    def set_group(self, user_id: str, group_id: str | None, entry: AuditEntry) -> None:
        """Put an account into a group, or None for out of it; raises `AccountNotFound`."""

    def delete_account(self, user_id: str, entry: AuditEntry) -> None:
        """Remove an account; raises `AccountNotFound`, and `LastAdministrator` for that one."""

    def append_audit(self, entry: AuditEntry) -> None:
        """Add an entry to the trail."""

    def list_audit(self, limit: int = AUDIT_PAGE, before: int | None = None) -> Sequence[AuditRecord]:
        """Return entries, the newest first, before the given place."""
