"""What PostgreSQL does with the activity of devices and keys, and how a group is listed."""

from __future__ import annotations

import random
from datetime import UTC
from pathlib import Path

import psycopg
import pytest

from lastseen.devices.device import Device, Group
from lastseen.devices.key import new_secret
from lastseen.devices.manager import ApiKeys
from lastseen.devices.store import DeviceFilter, DeviceOrder, DeviceQuery, Position
from lastseen.stores import open_store
from lastseen.stores.sqlite import SQLiteStore
from lastseen.stores.sqlite.api_keys import FIND_KEY
from lastseen.testing import moment
from tests.servers import ask

FILL = """
INSERT INTO lastseen_devices (id, name, platform, owner_id, group_id, properties, created_at, last_seen_at)
SELECT 'd' || lpad(n::text, 5, '0'), 'Device ' || n % 977, '', NULL, 'g' || n % 2, '{}', now(),
       CASE WHEN n % 7 > 0 THEN timestamptz '2026-01-01' + n % 5000 * interval '1 s' END
FROM generate_series(0, %s - 1) AS n
"""
UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'lastseen_devices'"


@pytest.mark.parametrize("indexed", [False, True], ids=["as it is", "control with an index on the time"])
def test_activity_stays_in_its_page(postgres_url: str, indexed: bool) -> None:
    """Nine of ten updates touch no index; with an index on `last_seen_at` none would."""
    store = open_store(postgres_url)
    store.migrate()
    for group_id in ("g0", "g1"):
        store.devices.add_group(Group(id=group_id, name=group_id, created_at=moment()))
    ask(postgres_url, FILL.replace("%s", "5000"))
    if indexed:
        ask(postgres_url, "CREATE INDEX ON lastseen_devices (last_seen_at)")
    dice = random.Random(5)
    for second in range(60):
        chosen = sorted(dice.sample(range(5_000), 50))
        batch = {f"d{number:05}": moment(days=1, seconds=second) for number in chosen}
        assert store.devices.devices_recorder.batch_record_activity(batch) == 50
    store.close()
    updated, in_place = _reported(postgres_url, 3_000)
    assert updated == 3_000
    if indexed:
        assert in_place == 0
    else:
        assert in_place / updated > 0.9


def _reported(url: str, expected: int) -> tuple[int, int]:
    """Return what the statistics hold once every session has reported, as it does at its end."""
    while True:
        with psycopg.connect(url) as connection:
            row = connection.execute(UPDATES).fetchone()
        if row is not None and row[0] >= expected:
            return row[0], row[1]


COLUMNS = r"""
SELECT table_name, column_name, data_type, datetime_precision FROM information_schema.columns
WHERE table_name IN ('lastseen_devices', 'lastseen_api_keys', 'lastseen_device_groups') AND column_name LIKE '%\_at'
"""


def test_moments_have_their_zone_and_their_microseconds(postgres_url: str) -> None:
    """Every moment of a device, a group and a key is a `timestamptz`; what was handed in comes back, as UTC."""
    store = open_store(postgres_url)
    store.migrate()
    columns = ask(postgres_url, COLUMNS)
    assert {name for _, name, *_ in columns} == {
        "created_at",
        "last_seen_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    }
    assert {tuple(kind) for _, _, *kind in columns} == {("timestamp with time zone", 6)}
    store.devices.upsert_device(Device(id="a", created_at=moment()), moment(0.123456))
    device = store.devices.get_device("a")
    store.close()
    assert device is not None
    assert (device.last_seen_at, device.created_at.tzinfo) == (moment(0.123456), UTC)
    assert ask(postgres_url, "SELECT last_seen_at FROM lastseen_devices") == [(moment(0.123456),)]


def test_a_group_of_ten_thousand_is_paged_by_last_seen(postgres_url: str) -> None:
    """Each device of the group once, the latest first and never last, and nobody else's."""
    store = open_store(postgres_url)
    store.migrate()
    for group_id in ("g0", "g1"):
        store.devices.add_group(Group(id=group_id, name=group_id, created_at=moment()))
    ask(postgres_url, FILL.replace("%s", "20000"))
    query = DeviceQuery(where=DeviceFilter(group_id="g1"), order=DeviceOrder.NEWEST, limit=1_000)
    seen: list[tuple[bool, float, str]] = []
    after: Position | None = None
    while page := store.devices.list_devices(
        DeviceQuery(where=query.where, order=query.order, limit=query.limit, after=after)
    ):
        seen += [
            (
                device.last_seen_at is None,
                -(device.last_seen_at or moment()).timestamp() * bool(device.last_seen_at),
                device.id,
            )
            for device in page
        ]
        after = (page[-1].last_seen_at, page[-1].id)
    assert len(seen) == len({one[2] for one in seen}) == 10_000
    assert seen == sorted(seen)
    assert sum(one[0] for one in seen) == store.devices.count_devices([DeviceFilter(group_id="g1", is_seen=False)])[0]
    store.close()


def test_a_secret_is_one_indexed_read(tmp_path: Path) -> None:
    """Whether the prefix is there or not, one statement is run, each part through the index of prefixes."""
    store = SQLiteStore(tmp_path / "a.db")
    store.migrate()
    keys = ApiKeys(store.devices)
    right = keys.create("a")[1].reveal()
    wrong = right[:12] + new_secret().reveal()[12:]
    with store._database.read() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {FIND_KEY}", ("",)).fetchall()
        looks = [row[3] for row in plan if not row[3].startswith("SCALAR SUBQUERY")]
        assert looks[0] == "SEARCH lastseen_api_keys USING INDEX sqlite_autoindex_lastseen_api_keys_2 (prefix=?)"
        covering = "SEARCH lastseen_api_keys USING COVERING INDEX sqlite_autoindex_lastseen_api_keys_2"
        assert looks[1:] == [f"{covering} (prefix>?)", covering]
        for secret in (right, wrong, new_secret().reveal()):
            heard: list[str] = []
            connection.set_trace_callback(heard.append)
            keys.verify(secret)
            connection.set_trace_callback(None)
            assert len(heard) == 1
    store.close()
