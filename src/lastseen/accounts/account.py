"""An account of the server: who may sign in, and as what. Pure: every moment is handed in."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from lastseen.errors import LastSeenError

MAX_NAME_LENGTH = 64
# No four characters compose to less than one. To sort the accents of a letter takes the square of their number.
_LONGEST_TYPED = 4 * (MAX_NAME_LENGTH + 1)
USER_ID_LENGTH = 64
"""No user id is longer; what is, names nobody."""


class AccountError(LastSeenError):
    """An account cannot be made or changed; the message may be shown."""


class NameTaken(AccountError):
    """Another account has this name, or one that differs in case only."""


class LastAdministrator(AccountError):
    """Without this account nobody could manage the others."""


class AccountNotFound(AccountError):
    """There is no such account, or its one-time link has been used, replaced or has expired."""


class Role(StrEnum):
    """What an account may do."""

    ADMINISTRATOR = "administrator"
    """Everything, and the accounts of others."""
    MEMBER = "member"
    """Everything but the accounts of others and the audit trail, or only what belongs to one group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One person. Moments are aware and UTC; what proves who they are is not in here."""

    user_id: str
    """The user whose login sessions these are."""
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None = None
    has_password: bool = True
    """False until a one-time link was used."""
    group_id: str | None = None
    """A member of a group sees the devices and the keys of this group, and nothing else."""

    @property
    def is_enabled(self) -> bool:
        """Whether this account may sign in, and its sessions may go on."""
        return self.disabled_at is None

    @property
    def is_administrator(self) -> bool:
        """Whether the accounts of others may be managed."""
        return self.role is Role.ADMINISTRATOR


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """An account with the hash of its password, which no representation shows."""

    account: Account
    password_hash: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneTimeLink:
    """What is kept of a link with which a password is chosen, once: its digest, and until when it works."""

    digest: bytes = field(repr=False)
    expires_at: datetime


def clean_name(name: str) -> str:
    """Return the name as it is kept and shown: composed characters, no blanks around it.

    What is far too long to be a name is cut, and too long all the same.
    """
    return unicodedata.normalize("NFC", name.strip()[:_LONGEST_TYPED]).strip()


def name_key(name: str) -> str:
    """Return what two names that must not both exist have in common, as RFC 8265 (3.3) compares names."""
    return unicodedata.normalize("NFKC", clean_name(name)).casefold()


def name_problem(name: str) -> str | None:
    """Return in words why this can be nobody's name, or None. Invisible characters would let one pass for another."""
    name = clean_name(name)
    if not name:
        return "Choose a name."
    if len(name) > MAX_NAME_LENGTH:
        return f"The name may have {MAX_NAME_LENGTH} characters."
    if not name.isprintable():
        return "The name holds a character that cannot be shown."
    return None
