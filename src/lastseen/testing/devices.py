"""The contract of `DeviceStore`. Time is handed in, nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from lastseen.activity.recorder import require_recorder
from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.store import (
    DeviceFilter,
    DeviceOrder,
    DeviceQuery,
    DeviceStore,
    GroupQuery,
    KeyQuery,
    Position,
)
from lastseen.errors import AlreadyExists, NotFound
from lastseen.testing.api_keys import TILLS, VANS, ApiKeyContract, new_key
from lastseen.testing.factories import moment

PROPERTIES = {"text": "日本 \\ \" '", "number": 1.0, "list": [None, True, {"deep": -0.5}], "big": 2**53 - 1}


class DeviceStoreContract(ApiKeyContract):
    """Inherit, override the `store` fixture, and pytest runs what every store of devices promises."""

    def test_it_is_a_device_store(self, store: DeviceStore) -> None:
        """The protocol is there, with two recorders."""
        assert isinstance(store, DeviceStore)
        for recorder in (store.devices_recorder, store.keys_recorder):
            assert require_recorder(recorder) is recorder

    # Devices

    def test_a_device_comes_back_as_it_went_in(self, store: DeviceStore) -> None:
        """With every field; its own `last_seen_at` is not looked at, the moment handed in is."""
        store.add_group(Group(id="g", name="G", created_at=moment()))
        device = Device(
            id="日本/%_'",
            name="a name",
            platform="Linux 6",
            owner_id="ada",
            group_id="g",
            properties=PROPERTIES,
            created_at=moment(0.123456),
            last_seen_at=moment(99),
        )
        kept = store.upsert_device(device, moment(7))
        assert kept == replace(device, last_seen_at=moment(7)) == store.get_device(device.id)

    def test_without_being_seen_a_device_is_never(self, store: DeviceStore) -> None:
        """Somebody who enters a device says nothing about it; what does not exist is None."""
        kept = store.upsert_device(Device(id="a", created_at=moment()))
        assert kept.last_seen_at is None
        assert store.get_device("a") == kept
        assert store.get_device("b") is None
        assert store.get_device("no\0body\ud800") is None

    def test_registering_again_changes_what_is_given(self, five: DeviceStore) -> None:
        """What is left empty stays, `created_at` too, and `last_seen_at` never moves back."""
        first = five.get_device("d1")
        assert first is not None
        again = Device(id="d1", platform="new", properties={"a": 1}, created_at=moment(500))
        kept = five.upsert_device(again, moment(10))
        assert kept == replace(first, platform="new", properties={"a": 1}) == five.get_device("d1")
        moved = five.upsert_device(Device(id="d1", name="x", group_id=TILLS, created_at=moment()), moment(40))
        assert (moved.name, moved.group_id, moved.last_seen_at) == ("x", TILLS, moment(40))
        assert moved == five.get_device("d1")
        assert five.upsert_device(Device(id="d1", created_at=moment())) == moved

    def test_a_device_needs_a_group_that_is_there(self, five: DeviceStore) -> None:
        """Neither registering nor changing invents one, and nothing of the attempt is left."""
        with pytest.raises(NotFound):
            five.upsert_device(Device(id="new", group_id="nowhere", created_at=moment()))
        with pytest.raises(NotFound):
            five.change_device("d1", DeviceChange(name="other", group_id="nowhere"))
        assert five.get_device("new") is None
        assert _group_of(five, "d1") == VANS

    def test_a_change_changes_what_is_set(self, five: DeviceStore) -> None:
        """Everything else stays, also when it was seen; None takes the owner and the group away."""
        before = five.get_device("d1")
        assert before is not None
        assert five.change_device("d1", DeviceChange()) == before
        assert five.change_device("d1", DeviceChange(name="")) == replace(before, name="")
        change = DeviceChange(owner_id=None, group_id=None, properties={"b": [2]}, platform="p")
        changed = five.change_device("d1", change)
        assert changed == replace(before, name="", owner_id=None, group_id=None, properties={"b": [2]}, platform="p")
        assert five.get_device("d1") == changed
        with pytest.raises(NotFound):
            five.change_device("nobody", DeviceChange(name="x"))

    def test_a_deleted_device_is_gone_with_its_keys(self, five: DeviceStore) -> None:
        """For good: activity that was recorded does not bring it back."""
        five.add_key(new_key("k1", device_id="d1"))
        five.add_key(new_key("k2", device_id="d2"))
        deleted = five.delete_device("d1")
        assert deleted.name == "banana"
        assert five.devices_recorder.batch_record_activity({"d1": moment(99)}) == 0
        assert (five.get_device("d1"), five.get_key("k1"), five.find_key("k1000000")) == (None, None, None)
        assert five.get_key("k2") is not None
        with pytest.raises(NotFound):
            five.delete_device("d1")

    def test_what_is_outside_of_the_group_is_not_there(self, five: DeviceStore) -> None:
        """To read, to register, to change and to delete: another group's and nobody's alike, and nothing changes."""
        before = five.list_devices(DeviceQuery())
        attempts: list[Callable[[str], object]] = [
            lambda one: five.upsert_device(Device(id=one, name="x", created_at=moment()), moment(99), within=VANS),
            lambda one: five.upsert_device(Device(id=one, group_id=VANS, created_at=moment()), within=VANS),
            lambda one: five.upsert_device(Device(id=one, group_id=TILLS, created_at=moment()), within=VANS),
            lambda one: five.change_device(one, DeviceChange(name="x"), within=VANS),
            lambda one: five.delete_device(one, within=VANS),
        ]
        for device_id in ("d4", "d5"):
            assert five.get_device(device_id, within=VANS) is None
            for attempt in attempts:
                with pytest.raises(NotFound):
                    attempt(device_id)
        with pytest.raises(NotFound):
            five.upsert_device(Device(id="new", group_id=TILLS, created_at=moment()), within=VANS)
        assert five.list_devices(DeviceQuery()) == before
        assert five.get_device("d1", within=VANS) is not None

    def test_what_is_registered_within_a_group_belongs_to_it(self, five: DeviceStore) -> None:
        """Without saying so."""
        assert five.upsert_device(Device(id="new", created_at=moment()), within=VANS).group_id == VANS
        assert _group_of(five, "new") == VANS
        with pytest.raises(NotFound):
            five.upsert_device(Device(id="other", created_at=moment()), within="nowhere")

    @pytest.mark.parametrize(
        ("order", "never_first", "expected"),
        [
            (DeviceOrder.NAME, False, ["d5", "d2", "d3", "d1", "d4"]),
            (DeviceOrder.NAME_DESCENDING, False, ["d4", "d1", "d2", "d3", "d5"]),
            (DeviceOrder.NEWEST, False, ["d1", "d2", "d3", "d4", "d5"]),
            (DeviceOrder.NEWEST, True, ["d4", "d5", "d1", "d2", "d3"]),
            (DeviceOrder.OLDEST, False, ["d2", "d3", "d1", "d4", "d5"]),
            (DeviceOrder.OLDEST, True, ["d4", "d5", "d2", "d3", "d1"]),
        ],
    )
    def test_listings_are_sorted(
        self,
        five: DeviceStore,
        order: DeviceOrder,
        never_first: bool,  # noqa: FBT001 - a case
        expected: list[str],
    ) -> None:
        """Names whatever the case of ASCII letters; never where it was asked for; ties by id, ascending."""
        assert _ids(five.list_devices(DeviceQuery(order=order, never_first=never_first))) == expected

    @pytest.mark.parametrize("never_first", [False, True], ids=["never last", "never first"])
    @pytest.mark.parametrize("order", DeviceOrder)
    def test_pages_cover_everything_once(
        self,
        store: DeviceStore,
        order: DeviceOrder,
        never_first: bool,  # noqa: FBT001 - a case
    ) -> None:
        """Following the last device of each page visits every device exactly once, also among equal ones and never."""
        for number in range(23):
            seen_at = None if number % 3 == 0 else moment(number // 5)
            store.upsert_device(Device(id=f"d{number:02}", name="xY"[number % 2] * 3, created_at=moment()), seen_at)
        everything = _ids(store.list_devices(DeviceQuery(order=order, never_first=never_first)))
        paged: list[str] = []
        after: Position | None = None
        query = DeviceQuery(order=order, never_first=never_first, limit=4)
        while page := store.list_devices(replace(query, after=after)):
            paged += _ids(page)
            by_name = order in {DeviceOrder.NAME, DeviceOrder.NAME_DESCENDING}
            after = (page[-1].name if by_name else page[-1].last_seen_at, page[-1].id)
        assert paged == everything
        assert len(set(paged)) == 23

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (DeviceFilter(), ["d1", "d2", "d3", "d4", "d5"]),
            (DeviceFilter(group_id=VANS), ["d1", "d2", "d3"]),
            (DeviceFilter(device_id="d1"), ["d1"]),
            (DeviceFilter(device_id="d1", group_id=TILLS), []),
            (DeviceFilter(device_id="no\0body"), []),
            (DeviceFilter(group_id="nowhere"), []),
            (DeviceFilter(group_id="no\0where"), []),
            (DeviceFilter(owner_id="owner-banana"), ["d1"]),
            (DeviceFilter(search="APPLE"), ["d2", "d3"]),
            (DeviceFilter(search="%"), ["d4"]),
            (DeviceFilter(search="_"), ["d2", "d3"]),
            (DeviceFilter(search="D1"), ["d1"]),
            (DeviceFilter(search="\\"), []),
            (DeviceFilter(search="\0"), []),
            (DeviceFilter(is_seen=True), ["d1", "d2", "d3"]),
            (DeviceFilter(is_seen=False), ["d4", "d5"]),
            (DeviceFilter(is_seen=False, group_id=TILLS), ["d4"]),
            (DeviceFilter(seen_after=moment(20)), ["d1"]),
            (DeviceFilter(seen_until=moment(20)), ["d2", "d3"]),
            (DeviceFilter(seen_after=moment(10), seen_until=moment(20), search="Apple"), ["d2", "d3"]),
        ],
        ids=lambda value: repr(value)[:80] if isinstance(value, DeviceFilter) else "",
    )
    def test_filters(self, five: DeviceStore, where: DeviceFilter, expected: list[str]) -> None:
        """The same for listing and for counting; no character is a wildcard, never is in no span of time."""
        assert sorted(_ids(five.list_devices(DeviceQuery(where=where)))) == expected
        assert list(five.count_devices([where, DeviceFilter(), where])) == [len(expected), 5, len(expected)]
        assert list(five.count_devices([])) == []

    def test_groups_of(self, five: DeviceStore) -> None:
        """Each device that is there, with its group or none."""
        assert five.groups_of(["d1", "d4", "d5", "nobody"]) == {"d1": VANS, "d4": TILLS, "d5": None}
        assert five.groups_of([]) == {}

    # Groups

    def test_groups_are_made_once_renamed_and_listed(self, five: DeviceStore) -> None:
        """By name, whatever the case, in pages."""
        with pytest.raises(AlreadyExists):
            five.add_group(Group(id=VANS, name="other", created_at=moment()))
        five.add_group(Group(id="z", name="TILLS", created_at=moment(0.5)))
        assert [group.id for group in five.list_groups(GroupQuery())] == [TILLS, "z", VANS]
        assert [group.id for group in five.list_groups(GroupQuery(limit=1, after=("tIlls", TILLS)))] == ["z"]
        assert five.rename_group(VANS, "all vans") == five.get_group(VANS)
        assert five.get_group("z") == Group(id="z", name="TILLS", created_at=moment(0.5))
        assert five.get_group("nowhere") is None
        with pytest.raises(NotFound):
            five.rename_group("nowhere", "x")
        with pytest.raises(NotFound):
            five.delete_group("no\0where")

    def test_a_deleted_group_leaves_its_devices_and_takes_its_keys(self, five: DeviceStore) -> None:
        """A key without its group would be one without limits; a device is one that belongs to nobody."""
        five.add_key(new_key("k1", group_id=VANS))
        five.add_key(new_key("k2", group_id=TILLS))
        five.add_key(new_key("k3", device_id="d1"))
        assert five.delete_group(VANS).name == "Vans"
        assert (five.get_group(VANS), five.get_key("k1"), _group_of(five, "d1")) == (None, None, None)
        assert [key.id for key in five.list_keys(KeyQuery())] == ["k2", "k3"]

    def test_one_of_several_registrations_at_once_is_the_first(self, store: DeviceStore) -> None:
        """None fails, one device is there, and its latest moment counts."""

        def register(number: int) -> Device:
            return store.upsert_device(Device(id="a", name=f"n{number}", created_at=moment(number)), moment(number))

        with ThreadPoolExecutor(4) as pool:
            kept = list(pool.map(register, range(12)))
        (device,) = store.list_devices(DeviceQuery())
        assert device.last_seen_at == moment(11)
        assert {one.created_at for one in kept} == {device.created_at}


def _ids(devices: Any) -> list[str]:
    return [device.id for device in devices]


def _group_of(store: DeviceStore, device_id: str) -> str | None:
    device = store.get_device(device_id)
    assert device is not None
    return device.group_id
