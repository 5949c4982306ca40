"""Devices on connections that the application already has: another driver, and an ORM's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from lastseen.devices.device import Device, Group
from lastseen.devices.store import DeviceFilter, DeviceOrder, DeviceQuery, DeviceStore, KeyQuery
from lastseen.stores import open_store
from lastseen.testing import DeviceStoreContract, moment
from lastseen.testing.api_keys import new_key


def test_psycopg2_takes_every_kind_of_statement(postgres_url: str) -> None:
    """The short version of the contract: what is written in one form of parameters is read in the other."""
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg2:"))
    opened = open_store(engine)
    opened.migrate()
    store = opened.devices
    store.add_group(Group(id="g", name="G", created_at=moment()))
    device = Device(id="a", name="%s", group_id="g", properties={"a": [1.0, None]}, created_at=moment())
    assert store.upsert_device(device, moment(1)) == store.get_device("a", within="g")
    assert store.devices_recorder.batch_record_activity({"a": moment(2)}) == 1
    for order in DeviceOrder:
        found = store.list_devices(DeviceQuery(where=DeviceFilter(is_seen=True, search="%"), order=order))
        assert [one.last_seen_at for one in found] == [moment(2)]
    assert store.count_devices([DeviceFilter(), DeviceFilter(is_seen=False)]) == [1, 0]
    assert store.groups_of(["a"]) == {"a": "g"}
    new = new_key("k1", device_id="a")
    store.add_key(new, within="g")
    assert store.find_key(new.key.prefix) == (new.key, new.digest)
    assert store.set_expiry("k1", moment(9)).expires_at == moment(9)
    revoked = store.revoke_key("k1", moment())
    assert store.list_keys(KeyQuery(group_id="g")) == [revoked]
    opened.close()
    engine.dispose()


@pytest.mark.faults
class TestSQLAlchemyWithPsycopg2(DeviceStoreContract):
    """PostgreSQL through a driver that knows text parameters only."""

    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[DeviceStore]:
        """Return an empty store with its tables."""
        engine = sqlalchemy.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg2:"))
        opened = open_store(engine)
        opened.migrate()
        yield opened.devices
        opened.close()
        engine.dispose()


@pytest.mark.faults
class TestSQLAlchemyWithSQLite(DeviceStoreContract):
    """SQLite through connections that an engine lends."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[DeviceStore]:
        """Return an empty store with its tables."""
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/lent.db")
        opened = open_store(engine)
        opened.migrate()
        yield opened.devices
        opened.close()
        engine.dispose()
