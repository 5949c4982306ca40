"""What a batch of changes has the copy in DuckDB look at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import msgspec

from lastseen.stores.columnar import duckdb_feed as feed
from lastseen.stores.columnar import duckdb_settling as settling
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event, EventFlags
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes

SECOND = 1_000_000
LONG = 500
"""Events of a visit."""
MANY = 5_000
"""Events; a block has 2,048."""


def seen(number: int, page: str, event_id: str | None = None) -> Event:
    """Return a page view, so many seconds after the first."""
    return Event(
        id=event_id or f"e{number:04}",
        site_id="default",
        distinct_id="somebody",
        name="$pageview",
        at=1_780_000_000_000_000 + number * SECOND,
        received_at=0,
        url=f"https://e.org/{page}",
    )


class Following:
    """A store, and tables that follow it."""

    def __init__(self) -> None:
        self.tables = duckdb.connect(":memory:")
        self.tables.execute(feed.TABLES + settling.TABLE)
        self._store = MemoryVisits()
        self._position = ""

    def save(self, *events: Event) -> int:
        """Save events, apply what has changed, and return how many events were looked at for that."""
        feed.apply(self.tables, self.changes(*events), assign=True)
        return int(self.tables.execute("SELECT count(*) FROM found").fetchall()[0][0])

    def changes(self, *events: Event) -> Changes:
        """Save events, and return what has changed."""
        self._store.save(events, lambda _: VisitRule())
        changes = self._store.changes(self._position, 100_000)
        self._position = changes.position
        return changes

    def is_first(self, event_id: str) -> bool:
        """Return whether an event is the first on its page."""
        found = self.tables.execute("SELECT is_first_on_page FROM events WHERE id = $1", [event_id]).fetchall()
        return bool(found[0][0])


def test_what_a_long_visit_goes_on_with_has_its_end_alone_looked_at() -> None:
    """One more event costs the same after 500 as after one, and is not taken for the first on a page seen long ago."""
    following = Following()
    assert following.save(*[seen(number, "same") for number in range(LONG)]) == LONG
    assert following.save(seen(LONG, "same", "again")) <= 2
    assert following.save(seen(LONG + 1, "other", "new page")) <= 2
    assert following.is_first("e0000")
    assert not following.is_first("again")
    assert following.is_first("new page")


def test_an_event_that_comes_late_has_all_behind_it_looked_at() -> None:
    """It may be the first on its page in place of another, however much later that one is."""
    following = Following()
    following.save(seen(0, "same"), *[seen(number, "other") for number in range(2, LONG)])
    assert following.is_first("e0002")
    assert following.save(seen(1, "other", "late")) >= LONG - 2
    assert following.is_first("late")
    assert not following.is_first("e0002")


def test_many_events_at_once_are_all_there() -> None:
    """More than the engine handles as one block, with all that they have in common."""
    following = Following()
    assert following.save(*[seen(number, str(number % 7)) for number in range(MANY)]) == MANY
    told = following.tables.execute(
        "SELECT count(*), count(DISTINCT id), count(visit), count(*) FILTER (WHERE is_first_on_page), "
        "count(*) FILTER (WHERE page = '/' || (moment - 1780000000000000) // 1000000 % 7) FROM events"
    ).fetchall()
    assert told == [(MANY, MANY, MANY, 7, MANY)]


def test_an_event_of_two_visits_is_there_once() -> None:
    """A visit grows over another one whose removal comes with the next batch: until then an event may be in both."""
    following = Following()
    hour = 3600
    following.save(seen(0, "a"), seen(hour, "b"), seen(hour + 600, "c"))
    joining = following.changes(*[seen(minute * 60, "d") for minute in (20, 40)], seen(hour + 300, "e", "in both"))
    assert joining.removed, "the visits were not joined: the test tests nothing"
    feed.apply(following.tables, replace(joining, removed=()), assign=True)
    assert following.tables.execute("SELECT count(*), count(DISTINCT id) FROM events").fetchall() == [(6, 6)]
    feed.apply(following.tables, Changes(position="", removed=joining.removed), assign=True)
    assert following.tables.execute("SELECT count(*), count(DISTINCT visit) FROM events").fetchall() == [(6, 1)]


def test_events_that_differ_in_one_thing_are_told_apart() -> None:
    """Whoever sent them, and whatever they say: what is the same for many events is written once for these alone."""
    following, first = Following(), seen(0, "same")
    changed: Sequence[Mapping[str, Any]] = (
        {"distinct_id": "somebody else"},
        {"site_id": "another"},
        {"name": "$pageleave"},
        {"url": "https://e.org/other"},
        {"flags": int(EventFlags.PASSIVE)},
        {"flags": int(EventFlags.BOT)},
        {"properties": {"plan": "paid"}},
        {"properties": {"plan": "free", "$lib": "web"}},
        {"properties": {"plan": None}},
    )
    following.save(
        first, *[msgspec.structs.replace(first, id=str(place), **each) for place, each in enumerate(changed)]
    )
    told = following.tables.execute(
        "SELECT id, site, identity = md5_number('default:somebody'), name, page, is_page_view, is_passive, "
        "is_bot_event, properties::JSON::VARCHAR FROM events ORDER BY id"
    ).fetchall()
    assert {event_id: tuple(rest) for event_id, *rest in told} == {
        "e0000": ("default", True, "$pageview", "/same", True, False, False, "{}"),
        "0": ("default", False, "$pageview", "/same", True, False, False, "{}"),
        "1": ("another", False, "$pageview", "/same", True, False, False, "{}"),
        "2": ("default", True, "$pageleave", "/same", False, False, False, "{}"),
        "3": ("default", True, "$pageview", "/other", True, False, False, "{}"),
        "4": ("default", True, "$pageview", "/same", True, True, False, "{}"),
        "5": ("default", True, "$pageview", "/same", True, False, True, "{}"),
        "6": ("default", True, "$pageview", "/same", True, False, False, '{"plan":"paid"}'),
        "7": ("default", True, "$pageview", "/same", True, False, False, '{"plan":"free"}'),
        "8": ("default", True, "$pageview", "/same", True, False, False, "{}"),
    }
