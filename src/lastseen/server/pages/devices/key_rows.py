"""How keys are shown in lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from lastseen.devices.key import ApiKey
from lastseen.server.pages.devices.asking import address
from lastseen.server.pages.live import element_id

KEYS_OF_ONE = 20
"""How many keys the page of a device shows at once."""


def owner_of(key: ApiKey, groups: Mapping[str, str]) -> dict[str, str] | None:
    """Return what a key belongs to and its page, or None for a key of its own; `groups` are names by id."""
    for kind in ("device", "group", "site"):
        owner = getattr(key, f"{kind}_id")
        if owner is not None:
            name = groups.get(owner, owner) if kind == "group" else owner
            return {"kind": kind, "name": name, "href": address(f"/{kind}", {"id": owner})}
    return None


def key_rows(keys: Iterable[ApiKey], now: datetime, groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a list of keys shows."""
    return [
        {
            "element_id": element_id("key", key.id),
            "href": address("/key", {"id": key.id}),
            "name": key.name,
            "prefix": key.prefix,
            "scopes": sorted(key.scopes),
            "owner": owner_of(key, groups),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "last_used_at": key.last_used_at,
            "status": key.status(now).value,
        }
        for key in keys
    ]
