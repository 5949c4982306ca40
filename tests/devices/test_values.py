"""What may be in a device, a group and a key."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import (
    GROUP_SCOPES,
    SITE_SCOPES,
    ApiKey,
    NewKey,
    Scope,
    Secret,
    digest_of,
    new_secret,
    prefix_of,
)
from lastseen.errors import DeviceError, InvalidValue, LastSeenError
from lastseen.testing import moment

DEVICE = Device(id="a", created_at=moment())
KEY = ApiKey(id="a", name="a key", prefix="AbCd1234", created_at=moment())
ID_PROBLEMS = ["", "x" * 256, "a\0", "a\nb", "\x7f", "\x85", "\ud800", 5]


@pytest.mark.parametrize("value", ID_PROBLEMS, ids=lambda value: repr(value)[:12])
def test_an_id_is_like_a_clients(value: Any) -> None:
    """One to 255 printable characters, for everything that has an id or names one."""
    attempts: list[dict[str, Any]] = [{"id": value}]
    for fields in attempts:
        for thing in (DEVICE, KEY, Group(id="a", name="A", created_at=moment())):
            with pytest.raises(InvalidValue, match=r"^id "):
                replace(thing, **fields)
    for field in ("owner_id", "group_id"):
        with pytest.raises(InvalidValue, match=f"^{field} "):
            replace(DEVICE, **{field: value})
    for field in ("device_id", "group_id", "site_id"):
        with pytest.raises(InvalidValue, match=f"^{field} "):
            replace(KEY, **{field: value})


def test_names_are_bounded() -> None:
    """A name of 200 characters can be, one of 201 cannot; a group must have one, a device need not."""
    assert replace(DEVICE, name="x" * 200, platform="y" * 100).name == "x" * 200
    for fields in ({"name": "x" * 201}, {"platform": "y" * 101}, {"name": "a\nb"}, {"name": None}):
        with pytest.raises(InvalidValue):
            replace(DEVICE, **fields)
    with pytest.raises(InvalidValue):
        Group(id="a", name="", created_at=moment())


@pytest.mark.parametrize(
    "properties",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 2**53},
        {"a": "\0"},
        {"a": ["\ud800"]},
        {"a": {1, 2}},
        {"a": object()},
        {1: "a"},
        {"": "a"},
        {"a\0": "a"},
        {"a": b"bytes"},
        {"a": "x" * 16_384},
        [],
        None,
        "text",
    ],
    ids=lambda value: repr(value)[:20].split(" at ")[0],
)
def test_properties_are_json_that_every_store_gives_back(properties: Any) -> None:
    """Anything else is refused when it is handed in, not when it is written."""
    with pytest.raises(InvalidValue, match=r"^properties "):
        replace(DEVICE, properties=properties)


def test_properties_are_not_nested_for_ever() -> None:
    """Eight deep is allowed, and a thing that contains itself is refused, not followed."""
    nested: dict[str, Any] = {}
    for _ in range(8):
        nested = {"a": nested}
    assert replace(DEVICE, properties=nested).properties == nested
    with pytest.raises(InvalidValue):
        replace(DEVICE, properties={"a": nested})
    nested["a"] = nested
    with pytest.raises(InvalidValue):
        replace(DEVICE, properties=nested)


def test_properties_belong_to_the_device() -> None:
    """Who handed them in may change theirs."""
    mine = {"a": 1}
    device = replace(DEVICE, properties=mine)
    mine["a"] = 2
    assert device.properties == {"a": 1}
    assert hash(device) == hash(device)


def test_seen_never_moves_back() -> None:
    """The later moment stays."""
    seen = DEVICE.seen(moment(5))
    assert (seen.last_seen_at, seen.seen(moment(3)), seen.seen(None)) == (moment(5), seen, seen)
    assert KEY.used(moment(5)).used(moment(3)).last_used_at == moment(5)


def test_a_change_checks_what_it_makes() -> None:
    """An impossible value is refused before anything is written."""
    with pytest.raises(InvalidValue):
        DeviceChange(name="x" * 300).apply(DEVICE)
    assert DeviceChange().apply(DEVICE) == DEVICE


def test_a_key_works_until_it_expires_or_is_revoked() -> None:
    """At the expiry itself it has expired; a revocation counts at once, whatever a clock says."""
    key = replace(KEY, expires_at=moment(10))
    assert key.is_valid(moment(10) - timedelta(microseconds=1))
    assert not key.is_valid(moment(10))
    assert not replace(KEY, revoked_at=moment(99)).is_valid(moment())
    assert KEY.is_valid(moment(99999))


def test_a_key_belongs_to_one_thing() -> None:
    """A device, a group, a site, or none."""
    for pair in (("device_id", "group_id"), ("group_id", "site_id"), ("device_id", "site_id")):
        with pytest.raises(InvalidValue, match="not to both"):
            replace(KEY, **dict.fromkeys(pair, "x"))  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", Scope)
def test_a_bound_key_holds_only_what_can_be_limited(scope: Scope) -> None:
    """A group's or a device's key no scope that reaches beyond, a site's none that reaches elsewhere."""
    for bound, allowed in (("device_id", GROUP_SCOPES), ("group_id", GROUP_SCOPES), ("site_id", SITE_SCOPES)):
        fields: dict[str, Any] = {bound: "x", "scopes": frozenset({scope})}
        if scope in allowed:
            assert replace(KEY, **fields).scopes == {scope}
            continue
        with pytest.raises(InvalidValue, match=scope):
            replace(KEY, **fields)
    assert replace(KEY, scopes=frozenset({scope})).scopes == {scope}


def test_a_secret_has_its_shape() -> None:
    """`ls_`, a prefix of 8 letters and digits, 43 characters for 32 random bytes; no two are alike."""
    secrets = {new_secret().reveal() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert re.fullmatch(r"ls_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}", secret)
        assert prefix_of(secret) == secret[3:11]
        assert len(digest_of(secret)) == 32


@pytest.mark.parametrize(
    "text", ["", "ls_", "ls_AbCd1234_short", "ls_AbCd1234_" + "é" * 43, "x" * 55, "LS_AbCd1234_" + "a" * 43]
)
def test_what_is_no_secret_has_no_prefix(text: str) -> None:
    """It is never looked up."""
    assert prefix_of(text) is None
    assert prefix_of(new_secret().reveal() + "\n") is None


def test_a_secret_does_not_show_itself() -> None:
    """Neither printed, formatted, encoded nor copied; the digest beside a key neither."""
    import msgspec

    secret = new_secret()
    text = secret.reveal()
    new = NewKey(key=KEY, digest=digest_of(text))
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr([secret]), repr(new), str(new)):
        assert text not in shown
        assert text[12:] not in shown
        assert new.digest.hex() not in shown
        assert repr(new.digest) not in shown
    for copied in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            copied(secret)
    assert isinstance(secret, Secret)


def test_the_errors_are_one_tree() -> None:
    """Whoever catches all of lastseen's, or all of the devices', catches these."""
    assert issubclass(InvalidValue, DeviceError)
    assert issubclass(InvalidValue, ValueError)
    assert issubclass(DeviceError, LastSeenError)
