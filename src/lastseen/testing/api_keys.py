"""The part of the contract of `DeviceStore` that is about API keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import ApiKey, KeyStatus, NewKey, Scope
from lastseen.devices.store import DeviceStore, KeyQuery
from lastseen.errors import AlreadyExists, NotFound
from lastseen.testing.factories import moment

VANS, TILLS = "vans", "tills"

# Name, last seen, group: two equal names but for the case, two equal times, two never seen.
FIVE = {
    "d1": ("banana", 30, VANS),
    "d2": ("Apple_1", 20, VANS),
    "d3": ("apple_1", 20, VANS),
    "d4": ("cherry%", None, TILLS),
    "d5": ("", None, None),
}


def new_key(key_id: str, **fields: Any) -> NewKey:
    """Return a key that was made at `moment()`, with a digest of its own."""
    prefix = "".join(character if character.isalnum() else "0" for character in key_id)[:8].ljust(8, "0")
    key = ApiKey(**{"id": key_id, "name": "a key", "prefix": prefix, "created_at": moment(), **fields})
    return NewKey(key=key, digest=f"digest of {key_id}".encode().ljust(32, b"."))


class ApiKeyContract:
    """See `DeviceStoreContract`, which includes it."""

    @pytest.fixture
    def store(self) -> DeviceStore:
        """Return an empty store with its tables."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def five(self, store: DeviceStore) -> DeviceStore:
        """Return the store with two groups and five devices."""
        store.add_group(Group(id=VANS, name="Vans", created_at=moment()))
        store.add_group(Group(id=TILLS, name="tills", created_at=moment()))
        for device_id, (name, seconds, group_id) in FIVE.items():
            seen_at = None if seconds is None else moment(seconds)
            device = Device(id=device_id, name=name, group_id=group_id, owner_id=f"owner-{name}", created_at=moment())
            store.upsert_device(device, seen_at)
        return store

    def test_a_key_is_found_by_its_prefix(self, five: DeviceStore) -> None:
        """With every field, and with its digest; nobody else sees that."""
        new = new_key(
            "k1",
            scopes=frozenset({Scope.ACTIVITY_WRITE, Scope.KEYS_READ}),
            group_id=VANS,
            expires_at=moment(60.5),
            prefix="AbCd1234",
        )
        five.add_key(new)
        assert five.find_key("AbCd1234") == (new.key, new.digest)
        assert five.get_key("k1") == new.key
        assert five.list_keys(KeyQuery()) == [new.key]
        assert five.find_key("abcd1234") is None
        assert five.get_key("nobody\0") is None

    def test_ids_and_prefixes_are_taken_once(self, five: DeviceStore) -> None:
        """The second one is refused, and the first one stays."""
        first = new_key("k1", prefix="12345678")
        five.add_key(first)
        for other in (new_key("k1", prefix="other000"), new_key("k2", prefix="12345678")):
            with pytest.raises(AlreadyExists):
                five.add_key(other)
        assert five.find_key("12345678") == (first.key, first.digest)
        assert len(five.list_keys(KeyQuery())) == 1

    def test_a_key_belongs_to_what_is_there(self, five: DeviceStore) -> None:
        """A device or a group that is not there has no key; sites are kept elsewhere."""
        for fields in ({"device_id": "nobody"}, {"group_id": "nowhere"}):
            with pytest.raises(NotFound):
                five.add_key(new_key("k1", **fields))
        five.add_key(new_key("k2", site_id="a site"))
        assert [key.id for key in five.list_keys(KeyQuery(site_id="a site"))] == ["k2"]
        assert five.list_keys(KeyQuery(site_id="another")) == []

    def test_keys_outside_of_the_group_are_not_there(self, five: DeviceStore) -> None:
        """A group's keys are its own and those of its devices, wherever these are at the moment."""
        for key_id, fields in {"k1": {"group_id": VANS}, "k2": {"device_id": "d1"}}.items():
            five.add_key(new_key(key_id, **fields), within=VANS)
        others = {"k3": {"group_id": TILLS}, "k4": {"device_id": "d4"}, "k5": {"device_id": "d5"}, "k6": {}}
        others["k7"] = {"site_id": VANS}
        for key_id, fields in others.items():
            with pytest.raises(NotFound):
                five.add_key(new_key(key_id, **fields), within=VANS)
            five.add_key(new_key(key_id, **fields))
            assert five.get_key(key_id, within=VANS) is None
            with pytest.raises(NotFound):
                five.revoke_key(key_id, moment(), within=VANS)
            with pytest.raises(NotFound):
                five.set_expiry(key_id, moment(), within=VANS, successor=new_key("k9", group_id=VANS))
        assert [key.id for key in five.list_keys(KeyQuery(group_id=VANS))] == ["k1", "k2"]
        assert [key.id for key in five.list_keys(KeyQuery(device_id="d4"))] == ["k4"]
        assert not any(key.revoked_at or key.expires_at for key in five.list_keys(KeyQuery()))
        five.change_device("d1", DeviceChange(group_id=TILLS))
        assert [key.id for key in five.list_keys(KeyQuery(group_id=VANS))] == ["k1"]
        assert five.get_key("k2", within=VANS) is None

    def test_keys_are_listed_in_pages(self, store: DeviceStore) -> None:
        """The youngest first; ties by id."""
        for number in range(7):
            store.add_key(new_key(f"k{number}", created_at=moment(number // 3)))
        paged: list[str] = []
        after: tuple[datetime, str] | None = None
        while page := store.list_keys(KeyQuery(limit=2, after=after)):
            paged += [key.id for key in page]
            after = (page[-1].created_at, page[-1].id)
        assert paged == ["k6", "k3", "k4", "k5", "k0", "k1", "k2"]

    def test_keys_are_listed_by_status(self, store: DeviceStore) -> None:
        """As `ApiKey.status` says at the moment that is given: at its expiry itself a key has expired."""
        for key_id, fields in {
            "k1": {},
            "k2": {"expires_at": moment(60)},
            "k3": {"expires_at": moment(30)},
            "k4": {"expires_at": moment(30), "revoked_at": moment(10)},
            "k5": {"revoked_at": moment(99)},
        }.items():
            store.add_key(new_key(key_id, **fields))
        for seconds in (29.999999, 30, 60, 90):
            now, everything = moment(seconds), store.list_keys(KeyQuery())
            for status in KeyStatus:
                expected = [key.id for key in everything if key.status(now) is status]
                found = store.list_keys(KeyQuery(status=status, now=now))
                assert [key.id for key in found] == expected, (seconds, status)
        valid = KeyQuery(status=KeyStatus.VALID, now=moment(), limit=1, after=(moment(), "k1"))
        assert [key.id for key in store.list_keys(valid)] == ["k2"]

    def test_revoking_is_final(self, store: DeviceStore) -> None:
        """The first moment stays, and the key is still found, to be refused."""
        store.add_key(new_key("k1"))
        revoked = store.revoke_key("k1", moment(5))
        assert revoked.revoked_at == moment(5)
        assert store.revoke_key("k1", moment(9)) == revoked == store.get_key("k1")
        found = store.find_key("k1000000")
        assert found is not None
        assert not found[0].is_valid(moment(1))
        with pytest.raises(NotFound):
            store.revoke_key("nobody", moment())
        with pytest.raises(NotFound):
            store.set_expiry("k1", moment(99), successor=new_key("k2"))
        assert store.get_key("k2") is None

    def test_an_expiry_only_comes_nearer(self, store: DeviceStore) -> None:
        """What was to expire earlier still does."""
        store.add_key(new_key("k1"))
        assert store.set_expiry("k1", moment(60)).expires_at == moment(60)
        assert store.set_expiry("k1", moment(90)).expires_at == moment(60)
        assert store.set_expiry("k1", moment(30)) == store.get_key("k1")
        with pytest.raises(NotFound):
            store.set_expiry("nobody", moment())

    def test_a_rotation_happens_as_a_whole(self, store: DeviceStore) -> None:
        """Both keys change, or neither does."""
        store.add_key(new_key("k1"))
        store.add_key(new_key("k2"))
        with pytest.raises(AlreadyExists):
            store.set_expiry("k1", moment(60), successor=new_key("k3", prefix="k2000000"))
        with pytest.raises(NotFound):
            store.set_expiry("k1", moment(60), successor=new_key("k3", device_id="nobody"))
        assert store.get_key("k1") == new_key("k1").key
        store.set_expiry("k1", moment(60), successor=new_key("k3"))
        assert store.get_key("k3") == new_key("k3").key
        assert store.find_key("k1000000") == (replace(new_key("k1").key, expires_at=moment(60)), new_key("k1").digest)
