"""The secret of an API key, and what is kept of it, are told to nobody."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lastseen.devices.key import NewKey, digest_of, new_secret
from lastseen.devices.manager import ApiKeys
from lastseen.errors import AlreadyExists, InvalidData, LastSeenError, NotFound, SchemaError
from lastseen.stores import Store
from lastseen.testing.api_keys import new_key

COLUMNS = "id, name, prefix, scopes, device_id, group_id, site_id, created_at, expires_at, revoked_at, last_used_at"


def spellings(*secrets: str) -> list[str]:
    """Return what must not be seen: the secrets, their random halves, and their digests however they are written."""
    digests = [digest_of(secret) for secret in secrets]
    return [
        *secrets,
        *(secret[12:] for secret in secrets),
        *(digest.hex() for digest in digests),
        *(repr(digest)[2:-1] for digest in digests),
        *(base64.b64encode(digest).decode().rstrip("=") for digest in digests),
    ]


def test_the_secret_is_nowhere_but_in_its_column(
    any_store: Store, run: Callable[..., list[tuple[Any, ...]]], caplog: pytest.LogCaptureFixture
) -> None:
    """A dump holds the digest in one column; lists, representations and logs hold neither."""
    caplog.set_level(logging.DEBUG)
    keys = ApiKeys(any_store.devices)
    old, old_secret = keys.create("till")
    new, secret = keys.rotate(old.id)
    texts = [old_secret.reveal(), secret.reveal()]
    shown = [repr(keys.verify(texts[1])), repr(keys.verify(texts[1][:-1] + "A")), repr(old), repr(secret)]
    keys.record_used(new.id)
    keys.flush()
    shown += [repr(keys.list()), repr(keys.get(new.id)), repr(keys.revoke(new.id)), repr(keys.health()), caplog.text]
    keys.close()
    digests = dict(run("SELECT id, digest FROM lastseen_api_keys"))
    assert bytes(digests[new.id]) == digest_of(texts[1])
    rows = repr(run(f"SELECT {COLUMNS} FROM lastseen_api_keys"))
    assert new.prefix in rows
    for hidden in spellings(*texts):
        assert hidden not in rows
        assert not any(hidden in text for text in shown)
    assert any(digest_of(texts[1]).hex() == bytes(digest).hex() for digest in digests.values())


def test_no_error_tells_the_secret(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """However a call with a digest fails, no error in the chain shows it, in its message, its repr or its traceback."""
    secret = new_secret().reveal()
    store, digest = any_store.devices, digest_of(secret)
    first = NewKey(key=new_key("k1").key, digest=digest)
    store.add_key(first)
    elsewhere = replace(first, key=new_key("k2", device_id="nobody").key)
    attempts: list[Callable[[], object]] = [
        lambda: store.add_key(first),
        lambda: store.add_key(elsewhere),
        lambda: store.set_expiry("k1", new_key("x").key.created_at, successor=first),
    ]
    errors = [_error_of(attempt) for attempt in attempts]
    run("DROP TABLE lastseen_api_keys")
    errors += [_error_of(attempt) for attempt in (attempts[0], lambda: ApiKeys(store).verify(secret))]
    assert {type(error) for error in errors} <= {AlreadyExists, NotFound, SchemaError, InvalidData}
    told = "".join("".join(traceback.format_exception(error)) + repr(error) for error in errors)
    for hidden in spellings(secret):
        assert hidden not in told


def _error_of(attempt: Callable[[], object]) -> BaseException:
    with pytest.raises(LastSeenError) as caught:
        attempt()
    return caught.value
