"""An API key, what it allows, and its secret. Pure: every moment is handed in.

The secret is `ls_<prefix>_<random>`: 8 characters that find the key, and 32 random bytes that prove it. A store keeps
the prefix and the SHA-256 of the whole; 256 random bits need no salt and no slow hash. The first three letters let
scanners of repositories recognise a key that was published by mistake.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lastseen.devices.values import MAX_NAME_LENGTH, check_id, check_text
from lastseen.errors import InvalidValue

SECRET_BYTES = 32
PREFIX_LENGTH = 8
ID_BYTES = 16

_PREFIX_LETTERS = string.ascii_letters + string.digits
_SECRET = re.compile(r"ls_([A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9]{8}", re.ASCII)


class Scope(StrEnum):
    """What a key allows."""

    ACTIVITY_WRITE = "activity:write"
    CLIENTS_READ = "clients:read"
    DEVICES_READ = "devices:read"
    DEVICES_WRITE = "devices:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    SITES_READ = "sites:read"
    SITES_WRITE = "sites:write"
    EVENTS_WRITE = "events:write"
    VISITS_READ = "visits:read"
    REPORTS_READ = "reports:read"
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"


class KeyStatus(StrEnum):
    """Whether a key works. One that was revoked stays revoked, also when its time is over."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


GROUP_SCOPES = frozenset(
    {
        Scope.ACTIVITY_WRITE,
        Scope.DEVICES_READ,
        Scope.DEVICES_WRITE,
        Scope.KEYS_READ,
        Scope.KEYS_WRITE,
        Scope.GROUPS_READ,
        Scope.GROUPS_WRITE,
    }
)
"""All that a key of a group or of a device may hold: everything else cannot be limited to a group."""

SITE_SCOPES = frozenset({Scope.EVENTS_WRITE, Scope.VISITS_READ, Scope.REPORTS_READ, Scope.SITES_READ})
"""All that a key of a site may hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """What is known of a key, without anything that would let somebody use it. Moments are aware and UTC.

    It belongs to a device, to a group, to a site, or to none of them. Raises `InvalidValue`.
    """

    id: str
    name: str
    prefix: str
    """Visible in the secret; tells keys apart where secrets must not be shown."""
    scopes: frozenset[Scope] = frozenset()
    device_id: str | None = None
    group_id: str | None = None
    site_id: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """None is *never*."""

    def __post_init__(self) -> None:
        check_id("id", self.id)
        check_text("name", self.name, MAX_NAME_LENGTH)
        if _PREFIX.fullmatch(self.prefix) is None:
            raise InvalidValue(f"prefix must have {PREFIX_LENGTH} ASCII letters and digits")
        for name in ("device_id", "group_id", "site_id"):
            if getattr(self, name) is not None:
                check_id(name, getattr(self, name))
        self._check_scopes()

    def _check_scopes(self) -> None:
        bound = [name for name in ("device", "group", "site") if getattr(self, f"{name}_id") is not None]
        if len(bound) > 1:
            raise InvalidValue(f"a key belongs to one {' or one '.join(bound)}, not to both")
        if not bound:
            return
        too_much = self.scopes - (SITE_SCOPES if bound == ["site"] else GROUP_SCOPES)
        if too_much:
            raise InvalidValue(f"a key of a {bound[0]} cannot hold the scopes {', '.join(sorted(too_much))}")

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key may be used at this moment; at its expiry itself it has expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def status(self, now: datetime) -> KeyStatus:
        """Return in one word whether the key works at this moment."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        return KeyStatus.VALID if self.is_valid(now) else KeyStatus.EXPIRED

    def used(self, at: datetime | None) -> ApiKey:
        """Return the key as it is after it was used then, which never moves `last_used_at` back."""
        if at is None or (self.last_used_at is not None and at <= self.last_used_at):
            return self
        return replace(self, last_used_at=at)


class Secret:
    """The secret of a key, on the one occasion on which it is known; nothing shows it but `reveal`.

    No dataclass: those are written out field by field by whatever encodes or logs them.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret, to be shown once to whoever asked for the key."""
        return self._text

    def __repr__(self) -> str:
        """Leave the secret out."""
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied into something that shows it."""
        raise TypeError("a secret is not pickled; reveal it where it is shown")


@dataclass(frozen=True, kw_only=True, slots=True)
class NewKey:
    """What a store is asked to keep: a key and the digest of its secret, which no representation shows."""

    key: ApiKey
    digest: bytes = field(repr=False)


def new_id() -> str:
    """Return an id for a key or a group: 16 random bytes as 22 URL-safe characters."""
    return secrets.token_urlsafe(ID_BYTES)


def new_secret() -> Secret:
    """Return a secret made of 32 bytes from the system's random source."""
    prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(PREFIX_LENGTH))
    return Secret(f"ls_{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}")


def prefix_of(secret: str) -> str | None:
    """Return the prefix in the secret, or None for what has not the shape of one: that is never looked up."""
    found = _SECRET.fullmatch(secret)
    return None if found is None else found[1]


def digest_of(secret: str) -> bytes:
    """Return what a store keeps of a secret that has its shape: its SHA-256, 32 bytes."""
    return hashlib.sha256(secret.encode("ascii")).digest()
