"""API keys: secrets are in the answer that makes them, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from lastseen.client.call import Call, once
from lastseen.devices.key import KeyStatus, Scope
from lastseen.wire.keys import IssuedKey, KeyList, KeyRotation, KeyView, NewApiKey

PATH = "/api/v1/keys"
ONE = f"{PATH}/{{key_id}}"


def create(
    name: str,
    *,
    scopes: Iterable[Scope] = (),
    device_id: str | None = None,
    group_id: str | None = None,
    site_id: str | None = None,
    expires_at: datetime | None = None,
) -> Call[IssuedKey]:
    """Make a key, which may do no more than the one that asks."""
    body = NewApiKey(
        name=name,
        scopes=sorted(scopes),
        device_id=device_id,
        group_id=group_id,
        site_id=site_id,
        expires_at=expires_at,
    )
    return Call(
        operation="CreateKey", method="POST", template=PATH, answer=IssuedKey, body=body, idempotency_key=once()
    )


def list(  # noqa: A001 - read as keys.list
    *,
    device_id: str | None = None,
    group_id: str | None = None,
    site_id: str | None = None,
    status: KeyStatus | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[KeyList]:
    """Ask for one page of keys, the youngest first; also revoked and expired ones unless a status is given."""
    owners = {"device_id": device_id, "group_id": group_id, "site_id": site_id}
    query = {**owners, "status": status, "limit": limit, "cursor": cursor}
    return Call(operation="ListKeys", method="GET", template=PATH, answer=KeyList, query=query)


def get(key_id: str) -> Call[KeyView]:
    """Ask what is known of a key."""
    return Call(operation="GetKey", method="GET", template=ONE, answer=KeyView, path={"key_id": key_id})


def rotate(key_id: str, *, overlap: timedelta = timedelta(days=1)) -> Call[IssuedKey]:
    """Make a successor; the old key works on for the overlap, in whole seconds."""
    return Call(
        operation="RotateKey",
        method="POST",
        template=f"{ONE}/rotate",
        answer=IssuedKey,
        path={"key_id": key_id},
        body=KeyRotation(overlap_seconds=int(overlap.total_seconds())),
        idempotency_key=once(),
    )


def revoke(key_id: str) -> Call[KeyView]:
    """Let a key work no more, for good."""
    return Call(operation="RevokeKey", method="DELETE", template=ONE, answer=KeyView, path={"key_id": key_id})
