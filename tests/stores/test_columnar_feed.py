"""What a batch of changes has the copy in DuckDB look at again."""

from __future__ import annotations

import duckdb

from lastseen.stores.columnar import duckdb_feed as feed
from lastseen.stores.columnar import duckdb_settling as settling
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule

SECOND = 1_000_000
LONG = 500
"""Events of a visit."""


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
        self._store.save(events, lambda _: VisitRule())
        changes = self._store.changes(self._position, 100_000)
        self._position = changes.position
        feed.apply(self.tables, changes, assign=True)
        return int(self.tables.execute("SELECT count(*) FROM found").fetchall()[0][0])

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
