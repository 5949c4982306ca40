"""What `ApiKeys` promises: verifying, the cache, rotation, and how often the table of keys is written."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from lastseen.activity.settings import TrackerSettings
from lastseen.devices import api_keys
from lastseen.devices.api_keys import ApiKeys
from lastseen.devices.key import ApiKey, Scope, Secret, new_secret
from lastseen.devices.manager import Devices
from lastseen.errors import ConfigurationError, InvalidValue, NotFound
from lastseen.stores.memory import MemoryDevices
from lastseen.testing import ManualClock

CACHE = timedelta(seconds=5)


class CountingStore(MemoryDevices):
    """Counts what it is asked and what is written to its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.finds = 0
        self.clock = ManualClock()
        self.batches: list[int] = []
        self.written_at: list[float] = []
        self.written = threading.Condition()

    def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
        self.finds += 1
        return super().find_key(prefix)

    def record_used(self, updates: Any) -> int:
        with self.written:
            self.batches.append(len(updates))
            self.written_at.append(self.clock.monotonic())
            self.written.notify_all()
        return super().record_used(updates)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def keys(store: CountingStore, clock: ManualClock) -> Iterator[ApiKeys]:
    keys = ApiKeys(store, clock=clock)
    yield keys
    keys.close()


def wrong(secret: Secret) -> str:
    """Return another secret with the same prefix."""
    return secret.reveal()[:12] + new_secret().reveal()[12:]


def test_a_key_is_verified_by_its_secret(keys: ApiKeys, clock: ManualClock) -> None:
    """The right secret gives the key, any other nothing; verifying records nothing."""
    key, secret = keys.create(
        "till", scopes=["devices:read", Scope.DEVICES_WRITE], expires_at=clock.utc() + timedelta(1)
    )
    assert keys.verify(secret.reveal()) == key
    assert key.scopes == {Scope.DEVICES_READ, Scope.DEVICES_WRITE}
    for other in (
        wrong(secret),
        new_secret().reveal(),
        secret.reveal() + " ",
        secret.reveal()[:-1],
        "",
        "ls_",
        key.prefix,
    ):
        assert keys.verify(other) is None
    clock.advance(days=1)
    assert keys.verify(secret.reveal()) is None
    assert keys.get(key.id) == key


def test_unknown_wrong_and_right_cost_the_same(
    keys: ApiKeys, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read and one comparison in constant time of 32 with 32 bytes, whichever it is, so that time tells nothing."""
    _, secret = keys.create("till")
    _, revoked = keys.create("old")
    keys.revoke(keys.list().keys[0].id)
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(api_keys, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    for attempt in (secret.reveal(), wrong(secret), new_secret().reveal(), revoked.reveal()):
        store.finds, compared[:] = 0, []
        keys.verify(attempt)
        assert (store.finds, compared) == (1, [(32, 32)])
    for shapeless in ("", "x", secret.reveal() + "x", "ls_" + "é" * 52):
        store.finds, compared[:] = 0, []
        keys.verify(shapeless)
        assert (store.finds, compared) == (0, [])


def test_a_cache_asks_once_and_forgets_what_is_revoked_here(store: CountingStore, clock: ManualClock) -> None:
    """Within its span; another process's revocation is noticed after it, this one's at once."""
    keys, elsewhere = ApiKeys(store, cache=CACHE, clock=clock), ApiKeys(store, clock=clock)
    key, secret = keys.create("a")
    other, other_secret = keys.create("b")
    known, store.finds = None, 0
    for _ in range(3):
        assert keys.remembered(secret.reveal()) == known
        known = key
        assert keys.verify(secret.reveal()) == key
        assert keys.verify(other_secret.reveal()) == other
        assert keys.verify(wrong(secret)) is None
    assert store.finds == 2 + 3
    keys.revoke(key.id)
    assert keys.remembered(secret.reveal()) is None
    assert keys.verify(secret.reveal()) is None
    keys.verify(other_secret.reveal())
    elsewhere.revoke(other.id)
    clock.advance(4.9)
    assert keys.verify(other_secret.reveal()) == other
    clock.advance(0.1)
    assert keys.verify(other_secret.reveal()) is None
    assert keys.remembered("nonsense") is None


def test_the_cache_of_a_key_ends_with_its_expiry(store: CountingStore, clock: ManualClock) -> None:
    """What is remembered is checked again."""
    keys = ApiKeys(store, cache=CACHE, clock=clock)
    _, secret = keys.create("a", expires_at=clock.utc() + timedelta(seconds=2))
    assert keys.verify(secret.reveal()) is not None
    clock.advance(2)
    assert keys.verify(secret.reveal()) is None
    assert keys.remembered(secret.reveal()) is None


def test_a_read_that_a_revocation_overtakes_is_not_remembered(clock: ManualClock) -> None:
    """Otherwise a revoked key would work for five more seconds in the process that revoked it."""

    class Overtaken(CountingStore):
        def find_key(self, prefix: str) -> tuple[ApiKey, bytes] | None:
            found = super().find_key(prefix)
            if found is not None and found[0].revoked_at is None:
                overtaken.revoke(found[0].id)
            return found

    overtaken = ApiKeys(Overtaken(), cache=CACHE, clock=clock)
    _, secret = overtaken.create("a")
    overtaken.verify(secret.reveal())
    assert overtaken.verify(secret.reveal()) is None


def test_a_key_goes_with_its_device_and_its_group_at_once(store: CountingStore, clock: ManualClock) -> None:
    """Also from the cache of this process."""
    keys = ApiKeys(store, cache=CACHE, clock=clock)
    devices = Devices(store, keys=keys, clock=clock)
    group = devices.create_group("Vans")
    devices.register("van-1", group_id=group.id)
    _, of_device = keys.create("a", device_id="van-1")
    _, of_group = keys.create("b", group_id=group.id)
    assert keys.verify(of_device.reveal()) is not None
    assert keys.verify(of_group.reveal()) is not None
    devices.delete("van-1")
    assert keys.verify(of_device.reveal()) is None
    devices.delete_group(group.id)
    assert keys.verify(of_group.reveal()) is None


@pytest.mark.parametrize("seconds", [-1, 5.1])
def test_a_cache_lasts_five_seconds_at_most(store: CountingStore, seconds: float) -> None:
    """Anything longer would keep revoked keys alive."""
    with pytest.raises(ConfigurationError):
        ApiKeys(store, cache=timedelta(seconds=seconds))


def test_rotation_overlaps(keys: ApiKeys, clock: ManualClock) -> None:
    """Both secrets work for the overlap, then the new one alone; what the key is for stays."""
    Devices(keys.store).create_group("Vans", group_id="vans")
    old, old_secret = keys.create(
        "till", scopes=["keys:read"], group_id="vans", expires_at=clock.utc() + timedelta(days=30)
    )
    clock.advance(days=10)
    new, new_secret_ = keys.rotate(old.id, overlap=timedelta(hours=1))
    assert (new.name, new.scopes, new.group_id) == (old.name, old.scopes, old.group_id)
    assert new.id != old.id
    assert new.prefix != old.prefix
    assert new.expires_at == clock.utc() + timedelta(days=30)
    assert keys.verify(old_secret.reveal()) is not None
    assert keys.verify(new_secret_.reveal()) == new
    clock.advance(hours=1)
    assert keys.verify(old_secret.reveal()) is None
    assert keys.verify(new_secret_.reveal()) == new
    with pytest.raises(NotFound):
        keys.rotate(old.id)
    with pytest.raises(ConfigurationError):
        keys.rotate(new.id, overlap=timedelta(-1))


def test_a_key_that_lasts_for_ever_can_be_rotated(keys: ApiKeys, clock: ManualClock) -> None:
    """Its successor, and the overlap, end with the last moment there is."""
    old, _ = keys.create("till", expires_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    clock.advance(days=1)
    new, secret = keys.rotate(old.id, overlap=timedelta.max)
    assert new.expires_at == datetime.max.replace(tzinfo=UTC)
    assert keys.verify(secret.reveal()) == new
    assert keys.get(old.id) == old


def test_no_key_lasts_beyond_the_last_moment(keys: ApiKeys) -> None:
    """The last hours of 9999 west of Greenwich are in the year 10000 of UTC, which no listing could show."""
    with pytest.raises(InvalidValue, match="before the year 10000"):
        keys.create("till", expires_at=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))))
    assert not list(keys.list())


def test_a_revoked_key_is_not_rotated(keys: ApiKeys) -> None:
    """It would come back by another name; so would a key of another group."""
    Devices(keys.store).create_group("Vans", group_id="vans")
    key, _ = keys.create("a")
    with pytest.raises(NotFound):
        keys.rotate(key.id, within="vans")
    with pytest.raises(NotFound):
        keys.revoke(key.id, within="vans")
    keys.revoke(key.id)
    with pytest.raises(NotFound):
        keys.rotate(key.id)
    assert len(keys.list().keys) == 1


def test_keys_of_another_group_are_not_there(keys: ApiKeys) -> None:
    """To get, to list and to make."""
    devices = Devices(keys.store)
    for group_id in ("vans", "tills"):
        devices.create_group(group_id, group_id=group_id)
    devices.register("till-1", group_id="tills")
    mine, _ = keys.create("mine", group_id="vans", within="vans")
    theirs, _ = keys.create("theirs", device_id="till-1")
    assert keys.get(theirs.id, within="vans") is None
    assert keys.list(within="vans").keys == (mine,)
    assert keys.list(within="vans", group_id="tills").keys == ()
    assert keys.list(within="tills").keys == keys.list(group_id="tills").keys == (theirs,)
    for options in ({"group_id": "tills"}, {"device_id": "till-1"}, {"site_id": "vans"}, {}):
        with pytest.raises(NotFound):
            keys.create("x", within="vans", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"scopes": ["everything"]},
        {"expires_at": datetime(2100, 1, 1)},  # noqa: DTZ001 - naive
        {"expires_at": ManualClock().utc()},
        {"site_id": "s", "scopes": ["keys:write"]},
        {"device_id": "a", "group_id": "b"},
    ],
    ids=["scope", "naive", "past", "site", "two owners"],
)
def test_impossible_keys_are_refused(keys: ApiKeys, options: dict[str, Any]) -> None:
    """Before anything is kept."""
    with pytest.raises(InvalidValue):
        keys.create("x", **options)
    assert keys.list().keys == ()


@pytest.mark.parametrize("name", ["", " \t"])
def test_a_key_has_a_name(keys: ApiKeys, name: str) -> None:
    """One without is a blank in every list; the negative control is one of a single letter."""
    with pytest.raises(InvalidValue, match="name must not be empty"):
        keys.create(name)
    assert keys.list().keys == ()
    assert keys.create("x")[0].name == "x"


def test_a_prefix_that_is_taken_is_chosen_again(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys never share one."""
    first, _ = keys.create("a")
    secrets = iter([Secret(f"ls_{first.prefix}_{'x' * 43}"), new_secret()])
    monkeypatch.setattr(api_keys, "new_secret", lambda: next(secrets))
    second, _ = keys.create("b")
    assert second.prefix != first.prefix


def test_pages_of_keys(keys: ApiKeys, clock: ManualClock) -> None:
    """The youngest first, each once, with the uses that this process has not written yet."""
    for number in range(5):
        keys.create(f"k{number}")
        clock.advance(number % 2)
    seen: list[ApiKey] = []
    cursor = None
    for key in keys.list():
        keys.record_used(key.id)
    while True:
        page = keys.list(limit=2, cursor=cursor)
        seen += page
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [key.created_at for key in seen] == sorted((key.created_at for key in seen), reverse=True)
    assert len({key.id for key in seen}) == 5
    assert {key.last_used_at for key in seen} == {clock.utc()}
    with pytest.raises(ConfigurationError):
        keys.list(limit=0)


def test_ten_thousand_requests_of_a_hundred_keys_are_a_statement_a_second(
    store: CountingStore, clock: ManualClock
) -> None:
    """However many keys are used, the table is written by time alone: at most once a second."""
    tracking = TrackerSettings(flush_interval=timedelta(milliseconds=10), max_buffer_size=1)
    keys = ApiKeys(store, tracking=tracking, clock=clock)
    made = [keys.create(f"k{number}")[0].id for number in range(100)]
    store.clock = clock
    for batch in range(1, 11):
        for number in range(1_000):
            keys.record_used(made[number % 100])
        assert len(store.batches) == batch - 1
        for _ in range(1_000):
            clock.advance(0.05)
            with store.written:
                if store.written.wait_for(lambda count=batch: len(store.batches) == count, timeout=0.01):  # type: ignore[misc]
                    break
    keys.close()
    assert store.batches == [100] * 10
    assert min(later - earlier for earlier, later in pairwise(store.written_at)) >= 1
    assert {key.last_used_at for key in keys.list()} != {None}
