"""API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from lastseen.devices.key import ApiKey, Scope
from lastseen.wire.devices import Id, RequiredName

Seconds = Annotated[int, Meta(ge=0, le=366 * 86_400)]


class NewApiKey(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key to be made. It belongs to a device, to a group, to a site, or to none of them.

    Nobody can make a key that may do more than they may themselves.
    """

    name: RequiredName
    scopes: list[Scope] = []
    device_id: Id | None = None
    group_id: Id | None = None
    site_id: Id | None = None
    expires_at: datetime | None = None
    """With an offset; null never expires."""


class KeyView(Struct, kw_only=True):
    """What is known of a key; moments are UTC. The secret is not in here, and cannot be asked for."""

    id: str
    name: str
    prefix: str
    """Visible in the secret behind `ls_`."""
    scopes: list[Scope]
    device_id: str | None
    group_id: str | None
    site_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """Null is *never*."""
    is_valid: bool
    """Neither revoked nor expired when this was answered."""

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> KeyView:
        """Return what is shown of a key at this moment."""
        return cls(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            scopes=sorted(key.scopes),
            device_id=key.device_id,
            group_id=key.group_id,
            site_id=key.site_id,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
            is_valid=key.is_valid(now),
        )


class IssuedKey(Struct, kw_only=True):
    """A new key with its secret, which is shown here and never again."""

    key: KeyView
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out: it must not reach a log."""
        return f"IssuedKey(key={self.key!r}, secret=…)"


class KeyRotation(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a key is replaced."""

    overlap_seconds: Seconds = 86_400
    """The old secret works that much longer; 0 ends it at once."""


class KeyList(Struct, kw_only=True):
    """One page of keys, the youngest first; `next_cursor` is null on the last."""

    keys: list[KeyView]
    next_cursor: str | None
