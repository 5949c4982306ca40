"""Databases whose texts are not UTF-8: what goes in comes out, whichever way it took."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from lastseen import LastSeen
from lastseen.devices.device import Device
from lastseen.errors import InvalidData
from lastseen.visits.event import PAGEVIEW, Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery
from tests.servers import PostgresServer

TEXT = "Käse für Ærø"
AT = datetime(2026, 1, 2, tzinfo=UTC)


def encoded_database(postgres: PostgresServer, encoding: str) -> str:
    """Make an empty database of another encoding and return its address."""
    name = f"texts_{encoding.lower()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    return postgres.url_of(name)


def event(event_id: str, text: str) -> Event:
    return Event(
        id=event_id,
        site_id="default",
        distinct_id=text,
        name=PAGEVIEW,
        at=1_767_312_000_000_000,
        received_at=0,
        url=f"https://e.org/{text}",
        properties={text: text},
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8"])
def test_texts_come_back_as_they_were(postgres: PostgresServer, encoding: str) -> None:
    """Activity, devices and events; what such a database has no letters for is refused, and everything else goes on."""
    with LastSeen.open(encoded_database(postgres, encoding), migrate=True) as seen:
        seen.clients.record(TEXT, AT)
        assert seen.clients.flush().error is None
        assert seen.store.clients.get_client(TEXT) is not None
        seen.store.devices.upsert_device(Device(id="d", name=TEXT, created_at=AT), None)
        device = seen.store.devices.get_device("d")
        assert device is not None
        assert device.name == TEXT
        visits = seen.store.visits
        first = event("e1", TEXT)
        assert visits.save([first], lambda _site: VisitRule()).new == 1
        assert visits.list_events(EventQuery(site_id="default")) == [first]
        assert [visit.entry_url for visit in visits.visits_of_visitors("default", [TEXT])[TEXT]] == [first.url]
        if encoding == "LATIN1":
            with pytest.raises(InvalidData):
                visits.save([event("e2", "\U0001f600")], lambda _site: VisitRule())
        else:
            assert visits.save([event("e2", "\U0001f600")], lambda _site: VisitRule()).new == 1
        assert visits.save([event("e3", TEXT)], lambda _site: VisitRule()).new == 1
