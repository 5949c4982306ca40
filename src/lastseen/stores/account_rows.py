"""What the stores on a database decide alike about accounts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from lastseen.accounts.account import Account, AccountNotFound, LastAdministrator, NameTaken, Role
from lastseen.accounts.audit import AuditAction, AuditEntry, AuditRecord

Moment = Callable[[Any], datetime]


def account_of(row: Sequence[Any], moment: Moment) -> Account:
    """Return the account of a row: user id, name, role, created, disabled, whether it has a password, group."""
    return Account(
        user_id=row[0],
        name=row[1],
        role=Role(row[2]),
        created_at=moment(row[3]),
        disabled_at=None if row[4] is None else moment(row[4]),
        has_password=bool(row[5]),
        group_id=row[6],
    )


def record_of(row: Sequence[Any], moment: Moment) -> AuditRecord:
    """Return the record of a row: id and the entry's fields in their order."""
    entry = AuditEntry(
        at=moment(row[1]),
        action=AuditAction(row[2]),
        actor_id=row[3],
        actor_name=row[4],
        subject_id=row[5],
        subject_name=row[6],
        address=row[7],
        detail=row[8],
    )
    return AuditRecord(id=row[0], entry=entry)


def name_taken() -> NameTaken:
    """Return the error for a name that another account has."""
    return NameTaken("There is a user with this name already.")


def no_account() -> AccountNotFound:
    """Return the error for an account that is not there."""
    return AccountNotFound("There is no such user.")


def no_link() -> AccountNotFound:
    """Return the error for a link that does not work."""
    return AccountNotFound("This link has been used or has expired.")


def last_administrator() -> LastAdministrator:
    """Return the error for who would leave nobody to manage the others."""
    return LastAdministrator("This is the only administrator; make another one first.")
