"""Any sequence of calls: devices, groups and keys on a database are exactly as in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lastseen.devices.device import Device, DeviceChange, Group
from lastseen.devices.key import NewKey
from lastseen.devices.store import DeviceFilter, DeviceOrder, DeviceQuery, GroupQuery, KeyQuery
from lastseen.errors import DeviceError
from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemoryDevices
from lastseen.testing import moment
from lastseen.testing.api_keys import new_key
from tests.servers import ask

TABLES = ("lastseen_api_keys", "lastseen_devices", "lastseen_device_groups")
DEVICES = st.sampled_from(["d1", "D1", "é'%", "z_"])
GROUPS = st.sampled_from(["g1", "g2", "G'"])
SOME_GROUP = st.none() | GROUPS
KEYS = st.sampled_from([f"k{number}" for number in range(6)])
NAMES = st.sampled_from(["", "a", "A", "b%", "É", "\\_"])
MOMENTS = st.integers(-3, 5).map(lambda seconds: moment(seconds, microseconds=seconds % 2))
PROPERTIES = st.dictionaries(
    st.sampled_from(["a", "é"]),
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("a'\\", max_size=3),
)


def _change(changes: dict[str, Any]) -> DeviceChange:
    return DeviceChange(**changes)


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "platform": NAMES,
        "owner_id": SOME_GROUP,
        "group_id": SOME_GROUP,
        "properties": PROPERTIES,
    },
).map(_change)
FILTERS = st.builds(
    DeviceFilter,
    group_id=SOME_GROUP,
    owner_id=SOME_GROUP,
    search=st.sampled_from(["", "a", "D", "%", "_", "é", "\\", "\0"]),
    is_seen=st.none() | st.booleans(),
    seen_after=st.none() | MOMENTS,
    seen_until=st.none() | MOMENTS,
)


def state_machine(store: Store, empty: Callable[[], object]) -> type[RuleBasedStateMachine]:
    """Return a machine that drives this store, emptied before every run, beside a fresh one in memory."""

    class DeviceStoreModel(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            empty()
            self.real: Any = store.devices
            self.model: Any = MemoryDevices()

        def both(self, call: Callable[[Any], Any]) -> Any:
            """Call both, demand the same answer or the same error, and return it."""
            answers = []
            for side in (self.real, self.model):
                try:
                    answers.append(call(side))
                except DeviceError as error:
                    answers.append(type(error))
            assert answers[0] == answers[1]
            return answers[0]

        def listed(self, query: DeviceQuery) -> Any:
            """List devices."""
            return self.both(lambda side: list(side.list_devices(query)))

        def found(self, prefix: str) -> Any:
            """Find a key."""
            return self.both(lambda side: side.find_key(prefix))

        @rule(group_id=GROUPS, name=NAMES.filter(bool), at=MOMENTS)
        def add_group(self, group_id: str, name: str, at: Any) -> None:
            self.both(lambda side: side.add_group(Group(id=group_id, name=name, created_at=at)))

        @rule(group_id=GROUPS, name=NAMES.filter(bool))
        def rename_group(self, group_id: str, name: str) -> None:
            self.both(lambda side: side.rename_group(group_id, name))

        @rule(group_id=GROUPS)
        def delete_group(self, group_id: str) -> None:
            self.both(lambda side: side.delete_group(group_id))

        @rule(
            device=st.builds(
                Device,
                id=DEVICES,
                name=NAMES,
                platform=NAMES,
                owner_id=SOME_GROUP,
                group_id=SOME_GROUP,
                properties=PROPERTIES,
                created_at=MOMENTS,
            ),
            seen_at=st.none() | MOMENTS,
            within=SOME_GROUP,
        )
        def register(self, device: Device, seen_at: Any, within: str | None) -> None:
            self.both(lambda side: side.upsert_device(device, seen_at, within=within))

        @rule(device_id=DEVICES, change=CHANGES, within=SOME_GROUP)
        def change(self, device_id: str, change: DeviceChange, within: str | None) -> None:
            self.both(lambda side: side.change_device(device_id, change, within=within))

        @rule(device_id=DEVICES, within=SOME_GROUP)
        def delete_device(self, device_id: str, within: str | None) -> None:
            self.both(lambda side: side.delete_device(device_id, within=within))

        @rule(batch=st.dictionaries(DEVICES, MOMENTS))
        def see(self, batch: dict[str, Any]) -> None:
            self.both(lambda side: side.devices_recorder.batch_record_activity(dict(sorted(batch.items()))))

        @rule(batch=st.dictionaries(KEYS, MOMENTS))
        def use(self, batch: dict[str, Any]) -> None:
            self.both(lambda side: side.keys_recorder.batch_record_activity(dict(sorted(batch.items()))))

        @rule(new=st.deferred(lambda: NEW_KEYS), within=SOME_GROUP)
        def add_key(self, new: NewKey, within: str | None) -> None:
            self.both(lambda side: side.add_key(new, within=within))

        @rule(key_id=KEYS, at=MOMENTS, within=SOME_GROUP)
        def revoke(self, key_id: str, at: Any, within: str | None) -> None:
            self.both(lambda side: side.revoke_key(key_id, at, within=within))

        @rule(key_id=KEYS, at=MOMENTS, within=SOME_GROUP, successor=st.none() | st.deferred(lambda: NEW_KEYS))
        def set_expiry(self, key_id: str, at: Any, within: str | None, successor: NewKey | None) -> None:
            self.both(lambda side: side.set_expiry(key_id, at, successor=successor, within=within))

        @rule(where=FILTERS, order=st.sampled_from(DeviceOrder), never_first=st.booleans(), limit=st.integers(1, 3))
        def list_in_pages(self, where: DeviceFilter, order: DeviceOrder, never_first: bool, limit: int) -> None:
            query = DeviceQuery(where=where, order=order, never_first=never_first, limit=limit)
            for _ in range(4):
                page = self.listed(query)
                if not page:
                    break
                by_name = order in {DeviceOrder.NAME, DeviceOrder.NAME_DESCENDING}
                query = replace(query, after=(page[-1].name if by_name else page[-1].last_seen_at, page[-1].id))

        @rule(where=st.lists(FILTERS, max_size=3))
        def count(self, where: list[DeviceFilter]) -> None:
            self.both(lambda side: list(side.count_devices(where)))

        @rule(device_id=st.none() | DEVICES, group_id=SOME_GROUP, limit=st.integers(1, 3))
        def list_keys(self, device_id: str | None, group_id: str | None, limit: int) -> None:
            query = KeyQuery(device_id=device_id, group_id=group_id, limit=limit)
            page = self.both(lambda side: list(side.list_keys(query)))
            if page:
                self.both(lambda side: list(side.list_keys(replace(query, after=(page[-1].created_at, page[-1].id)))))

        @invariant()
        def everything_is_the_same(self) -> None:
            self.both(lambda side: list(side.list_devices(DeviceQuery())))
            self.both(lambda side: list(side.list_groups(GroupQuery())))
            for key in self.both(lambda side: list(side.list_keys(KeyQuery()))):
                self.found(key.prefix)

    return DeviceStoreModel


@st.composite
def _new_keys(draw: st.DrawFn) -> NewKey:
    owner = draw(st.sampled_from(["device_id", "group_id", "site_id", None]))
    bound = {} if owner is None else {owner: draw(DEVICES if owner == "device_id" else GROUPS)}
    key_id = draw(KEYS)
    return new_key(
        key_id, prefix=f"{draw(KEYS)}000000", created_at=draw(MOMENTS), expires_at=draw(st.none() | MOMENTS), **bound
    )


NEW_KEYS = _new_keys()


def _check(store: Store, empty: Callable[[], object], runs: int, steps: int) -> None:
    run_state_machine_as_test(
        state_machine(store, empty),
        settings=settings(
            max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    store = open_store(f"sqlite:///{tmp_path}/model.db")
    store.migrate()
    yield store, tmp_path / "model.db"
    store.close()


def _empty_sqlite(connection: sqlite3.Connection) -> Callable[[], None]:
    def empty() -> None:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")

    return empty


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("runs", "steps"), [(25, 40), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_sqlite_equals_its_model(sqlite_file: tuple[Store, Path], runs: int, steps: int) -> None:
    """Twenty-five runs of forty calls each, and two hundred of fifty in the long run."""
    store, file = sqlite_file
    connection = sqlite3.connect(file, isolation_level=None)
    _check(store, _empty_sqlite(connection), runs, steps)
    connection.close()


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("runs", "steps"), [(10, 30), pytest.param(200, 50, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_postgres_equals_its_model(postgres_url: str, runs: int, steps: int) -> None:
    """Ten runs of thirty calls each, and two hundred of fifty in the long run."""
    store = open_store(postgres_url)
    store.migrate()
    _check(store, lambda: ask(postgres_url, f"TRUNCATE {', '.join(TABLES)}"), runs, steps)
    store.close()
