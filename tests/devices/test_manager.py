"""What `Devices` promises beside its store: who is seen, what is listed, and who is limited to a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lastseen import LastSeen
from lastseen.activity.buffer import Outcome
from lastseen.activity.health import HealthStatus
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import ClientStatus
from lastseen.devices.device import DeviceChange
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.devices.store import DeviceOrder
from lastseen.errors import AlreadyExists, ConfigurationError, InvalidCursor, InvalidValue, MissingAbility, NotFound
from lastseen.stores.memory import MemoryDevices
from lastseen.testing import ManualClock

SLOW = TrackerSettings(flush_interval=timedelta(hours=1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> MemoryDevices:
    return MemoryDevices()


@pytest.fixture
def devices(store: MemoryDevices, clock: ManualClock) -> Iterator[Devices]:
    devices = Devices(store, tracking=SLOW, clock=clock)
    for group_id in ("vans", "tills"):
        devices.create_group(group_id.title(), group_id=group_id)
    yield devices
    devices.close()


def test_a_device_that_registers_itself_is_seen(devices: Devices, clock: ManualClock) -> None:
    """One that an administrator enters is *never*, and stays as it was when it is entered again."""
    itself = devices.register("a", name="A", platform="Linux", properties={"v": 1})
    assert (itself.last_seen_at, itself.created_at) == (clock.utc(), clock.utc())
    assert devices.register("b", by_device=False).last_seen_at is None
    clock.advance(60)
    assert devices.register("a", by_device=False).last_seen_at == itself.last_seen_at
    again = devices.register("a")
    assert (again.last_seen_at, again.created_at, again.name) == (clock.utc(), itself.created_at, "A")
    with pytest.raises(InvalidValue):
        devices.register("")


def test_a_seen_device_is_seen_at_once_in_this_process(
    devices: Devices, store: MemoryDevices, clock: ManualClock
) -> None:
    """Before it is written; the store knows after the flush."""
    devices.register("a", by_device=False)
    assert devices.last_seen("a") is None
    assert devices.record_seen("a") is Outcome.ACCEPTED
    assert devices.last_seen("a") == clock.utc()
    assert store.get_device("a").last_seen_at is None  # type: ignore[union-attr]
    assert devices.flush().updated_count == 1
    assert store.get_device("a").last_seen_at == clock.utc()  # type: ignore[union-attr]
    devices.record_seen("a", clock.utc() - timedelta(hours=1))
    assert devices.last_seen("a") == clock.utc()
    with pytest.raises(NotFound):
        devices.last_seen("nobody")


def test_what_is_not_registered_is_not_seen(devices: Devices) -> None:
    """Recording makes no device and brings none back."""
    devices.record_seen("nobody")
    devices.register("a")
    devices.delete("a")
    devices.record_seen("a")
    assert devices.flush().updated_count == 0
    assert devices.list().devices == ()


def test_who_speaks_for_a_group_cannot_see_a_device_of_another(devices: Devices, clock: ManualClock) -> None:
    """Its own is seen; another group's, nobody's, and one that is moved meanwhile are not, and nothing tells."""
    for device_id, group_id in {"mine": "vans", "theirs": "tills", "nobodys": None, "moved": "vans"}.items():
        devices.register(device_id, group_id=group_id, by_device=False)
        assert devices.record_seen(device_id, within="vans") is Outcome.ACCEPTED
    assert devices.last_seen("mine") == clock.utc()
    assert devices.last_seen("theirs") is None
    devices.move("moved", "tills")
    devices.flush()
    assert {one.id for one in devices.list(is_seen=True)} == {"mine"}
    clock.advance(5)
    devices.record_seen("mine", within="tills")
    devices.record_seen("mine", clock.utc() - timedelta(seconds=2), within="vans")
    devices.record_seen("mine", clock.utc() - timedelta(seconds=3))
    devices.flush()
    assert devices.last_seen("mine") == clock.utc() - timedelta(seconds=2)


@pytest.mark.parametrize("device_id", ["", "x" * 256, "a\0b", "a\x1fb", "\ud800", None, 5], ids=repr)
def test_recording_never_raises(devices: Devices, device_id: str) -> None:
    """What can never be stored is refused and counted, also in the name of a group."""
    assert devices.record_seen(device_id) is Outcome.REJECTED
    assert devices.record_seen(device_id, within="vans") is Outcome.REJECTED
    assert devices.record_seen("a", within="va\x1fns") is Outcome.REJECTED
    assert devices.record_seen("a", datetime(2026, 1, 1), within="vans") is Outcome.REJECTED  # noqa: DTZ001 - naive
    assert devices.health().rejected == 4


def test_another_groups_thing_is_not_found(devices: Devices) -> None:
    """Whatever is asked of it; the same for a thing that does not exist, in the same words."""
    devices.register("theirs", group_id="tills")
    devices.register("mine", group_id="vans")
    attempts: list[Callable[[str], object]] = [
        lambda one: devices.last_seen(one, within="vans"),
        lambda one: devices.rename(one, "x", within="vans"),
        lambda one: devices.move(one, "vans", within="vans"),
        lambda one: devices.set_properties(one, {}, within="vans"),
        lambda one: devices.change(one, DeviceChange(), within="vans"),
        lambda one: devices.delete(one, within="vans"),
    ]
    for attempt in attempts:
        messages = []
        for device_id in ("theirs", "nobody"):
            with pytest.raises(NotFound) as raised:
                attempt(device_id)
            messages.append(str(raised.value))
        assert messages[0] == messages[1]
    assert devices.get("theirs", within="vans") is None
    for group_id in ("tills", None):
        with pytest.raises(NotFound):
            devices.move("mine", group_id, within="vans")
    assert [one.id for one in devices.list(within="vans")] == ["mine"]
    assert [one.id for one in devices.list(within="vans", group_id="tills")] == []
    assert (devices.count(within="vans"), devices.count(within="vans", group_id="tills")) == (1, 0)
    assert devices.get_group("tills", within="vans") is None
    assert [group.id for group in devices.list_groups(within="vans")] == ["vans"]
    changes: list[Callable[[], object]] = [
        lambda: devices.rename_group("tills", "x", within="vans"),
        lambda: devices.delete_group("tills", within="vans"),
        lambda: devices.register("theirs", within="vans"),
        lambda: devices.register("new", group_id="tills", within="vans"),
    ]
    for change in changes:
        with pytest.raises(NotFound):
            change()
    assert devices.get("theirs", within="tills") is not None


def test_a_listing_writes_first_and_filters_by_status(devices: Devices, clock: ManualClock) -> None:
    """Each status word is a span; never is none of them."""
    for number, hours in enumerate([0.01, 0.5, 5, 50]):
        devices.register(f"d{number}", by_device=False)
        devices.record_seen(f"d{number}", clock.utc() - timedelta(hours=hours))
    never = devices.register("never", by_device=False)
    for number, status in enumerate(ClientStatus):
        found = devices.list(status=status)
        assert [device.id for device in found] == [f"d{number}"]
        assert devices.status(found.devices[0]) is status
        assert devices.count(status=status) == 1
    assert devices.status(never) is None
    assert [one.id for one in devices.list(is_seen=False)] == ["never"]
    assert [one.id for one in devices.list(active_within=timedelta(hours=1), order=DeviceOrder.NEWEST)] == ["d0", "d1"]
    assert [one.id for one in devices.list(inactive_for=timedelta(hours=5), order=DeviceOrder.OLDEST)] == ["d3", "d2"]
    assert [one.id for one in devices.list(order=DeviceOrder.NEWEST, never_first=True, limit=2)] == ["never", "d0"]


@pytest.mark.parametrize("never_first", [False, True], ids=["never last", "never first"])
@pytest.mark.parametrize("order", DeviceOrder)
def test_cursors_cover_everything_once(
    devices: Devices, clock: ManualClock, order: DeviceOrder, never_first: bool
) -> None:
    """Whatever the order; a cursor is refused by any other listing."""
    for number in range(11):
        devices.register(f"d{number}", name="", by_device=number % 3 == 0)
        clock.advance(number % 2)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = devices.list(order=order, never_first=never_first, limit=3, cursor=cursor)
        seen += [device.id for device in page]
        cursor = page.next_cursor or cursor
        if page.next_cursor is None:
            break
    assert sorted(seen) == sorted(f"d{number}" for number in range(11))
    for other in DeviceOrder:
        if other is not order:
            with pytest.raises(InvalidCursor):
                devices.list(order=other, never_first=never_first, cursor=cursor)


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "e30", "WyJncm91cHMiLDUsImEiXQ", "WyJncm91cHMiLCJhIiwiIl0", "A" * 10_000]
)
def test_a_cursor_that_nobody_made_is_refused(devices: Devices, cursor: str) -> None:
    """With one error, whatever is in it."""
    for listing in (devices.list, devices.list_groups, ApiKeys(MemoryDevices()).list):
        with pytest.raises(InvalidCursor):
            listing(cursor=cursor)


def test_groups_are_listed_in_pages(devices: Devices) -> None:
    """By name; an id is made for a group that is given none."""
    made = devices.create_group("aaa")
    assert len(made.id) == 22
    with pytest.raises(AlreadyExists):
        devices.create_group("x", group_id="vans")
    with pytest.raises(InvalidValue):
        devices.rename_group("vans", "")
    first = devices.list_groups(limit=2)
    rest = devices.list_groups(limit=2, cursor=first.next_cursor)
    assert [group.name for group in [*first, *rest]] == ["aaa", "Tills", "Vans"]
    assert rest.next_cursor is None
    devices.rename_group("vans", "Lorries")
    assert devices.get_group("vans").name == "Lorries"  # type: ignore[union-attr]


def test_options_out_of_range_are_refused(devices: Devices) -> None:
    """With what is allowed."""
    for limit in (0, 1001):
        with pytest.raises(ConfigurationError):
            devices.list(limit=limit)
        with pytest.raises(ConfigurationError):
            devices.list_groups(limit=limit)
    with pytest.raises(ConfigurationError):
        devices.list(active_within=timedelta(days=-1))
    with pytest.raises(MissingAbility):
        Devices(object())  # type: ignore[arg-type]
    with pytest.raises(MissingAbility):
        ApiKeys(object())  # type: ignore[arg-type]


def test_nothing_is_spent_until_it_is_asked_for(tmp_path: Path, clock: ManualClock) -> None:
    """A LastSeen makes its devices and keys once, and saves what they hold when it is closed."""
    with LastSeen.open(f"sqlite:///{tmp_path}/a.db", migrate=True, tracking=SLOW, clock=clock) as seen:
        assert (seen._devices, seen._keys) == ([], [])
        assert seen.devices is seen.devices
        assert seen.keys is seen.keys
        key, _ = seen.keys.create("a")
        seen.devices.register("a", by_device=False)
        seen.devices.record_seen("a")
        seen.keys.record_used(key.id)
        assert seen.devices.health().status is HealthStatus.OK
    with LastSeen.open(f"sqlite:///{tmp_path}/a.db", clock=clock) as seen:
        assert seen.devices.last_seen("a") == clock.utc().astimezone(UTC)
        assert seen.keys.get(key.id).last_used_at == clock.utc()  # type: ignore[union-attr]
