"""A database whose visits were written before their rows changed is brought to the present, and goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec.structs import asdict

from lastseen.stores import open_store
from lastseen.stores.migrations import load_migrations
from lastseen.stores.visit_rows import body_of
from lastseen.visits.event import PAGEVIEW, Event
from lastseen.visits.fold import fold
from lastseen.visits.recount import Recount
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery, VisitQuery

LAST_BEFORE = "0008"
RULE = VisitRule()
MINUTE = timedelta(minutes=1) // timedelta(microseconds=1)
BEGINNING = 1_790_000_000_000_000
VISIT_COLUMNS = (
    "seq, site_id, id, visitor, started_at, last_activity_at, is_open, is_bot, start_reason, entry_url, body"
)
VISITORS = 2_500
"""More than one list of what was written has."""


def page_view(number: int, minute: int = 0) -> Event:
    """Return a page view of one of many visitors."""
    at = BEGINNING + number * 1_000 + minute * MINUTE
    event_id, properties = f"e{number}-{minute}", {"n": number}
    return Event(event_id, "default", f"v{number}", PAGEVIEW, at, at, url="https://shop.test/", properties=properties)


def rows_before() -> tuple[list[Any], list[Any], list[Any]]:
    """Return identities, events and visits as they were written: whole visits, and the place of each newest event."""
    identities, events, visits = [], [], []
    for number in range(1, VISITORS + 1):
        event = page_view(number)
        (visit,) = fold([event], RULE, event.distinct_id)
        identities.append((number, "default", event.distinct_id, number, event.at, event.id))
        events.append((number, "default", event.id, number, event.at, event.name, event.at, 0, body_of(event)))
        body = msgspec.json.encode(asdict(visit)).decode()
        visits.append(
            (VISITORS + number, "default", event.id, number, event.at, event.at, True, False, "first", event.url, body)
        )
    return identities, events, visits


def make_old(url: str) -> None:
    """Make a database of then, with visits in it."""
    database = "sqlite" if url.startswith("sqlite") else "postgres"
    migrations = [each for each in load_migrations(database) if each.name[:4] <= LAST_BEFORE]
    tables = rows_before()
    names = (
        "lastseen_identities (no, site_id, distinct_id, visitor, newest_at, newest_id)",
        "lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body)",
        f"lastseen_visits ({VISIT_COLUMNS})",
    )
    if database == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE lastseen_migrations (name TEXT PRIMARY KEY, applied_at TEXT)")
            for migration in migrations:
                connection.executescript(migration.sql)
                connection.execute("INSERT INTO lastseen_migrations VALUES (?, '')", (migration.name,))
            for name, rows in zip(names, tables, strict=True):
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
            connection.execute("UPDATE lastseen_visit_counter SET value = ?", (2 * VISITORS,))
            connection.commit()
        return
    with psycopg.connect(url) as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE lastseen_migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())")
        for migration in migrations:
            cursor.execute(migration.sql.encode())
            cursor.execute("INSERT INTO lastseen_migrations VALUES (%s)", (migration.name,))
        for name, rows in zip(names, tables, strict=True):
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO {name} VALUES ({marks})".encode(), rows)
        cursor.execute("SELECT setval('lastseen_identity_numbers', %s)", (VISITORS,))
        written = "count(*), array_agg(visitor ORDER BY seq), array_agg(started_at ORDER BY seq)"
        note = f"INSERT INTO lastseen_visit_writes (size, visitors, starts) SELECT {written} FROM lastseen_visits"
        cursor.execute(note.encode())


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_visits_written_before_go_on(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nothing is lost, copies find all of it, and what comes now continues the visits that were open."""
    url = f"sqlite:///{tmp_path}/old.db" if database == "sqlite" else request.getfixturevalue("postgres_url")
    make_old(url)
    store = open_store(url)
    assert store.migrate()
    assert store.visits.count_visits(VisitQuery(site_id="default")) == VISITORS
    more = [page_view(number, 5) for number in range(1, VISITORS + 1, 2)]
    assert store.visits.save([*more, page_view(2)], lambda _: RULE).new == len(more)
    assert store.visits.count_visits(VisitQuery(site_id="default")) == VISITORS
    assert store.visits.count_events(EventQuery(site_id="default")) == VISITORS + len(more)
    assert not [found for found in Recount(store.visits, "default", RULE).run() if found.differs]
    copied: dict[str, int] = {}
    position = ""
    while True:
        changes = store.visits.changes(position, 700)
        copied |= {visit.id: visit.event_count for visit in changes.visits}
        position = changes.position
        if changes.is_complete:
            break
    assert copied == {f"e{number}-0": 1 + number % 2 for number in range(1, VISITORS + 1)}
    store.close()
