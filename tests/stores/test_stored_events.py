"""Events that are made of their rows when they are looked at, and what is told of them without that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.stores import open_store
from lastseen.stores.stored_events import StoredEvents, facts_of
from lastseen.stores.visit_rows import body_of
from lastseen.testing.streams import stream
from lastseen.testing.visit_copies import RULE
from lastseen.visits.event import Event
from tests.reports.material import histories


def stored(events: Sequence[Event]) -> StoredEvents:
    """Return events as rows, with a number behind the columns that count."""
    numbers = {(each.site_id, each.distinct_id): number for number, each in enumerate(events)}
    return StoredEvents(
        [
            (
                numbers[each.site_id, each.distinct_id],
                each.id,
                each.at,
                each.name,
                each.received_at,
                each.flags,
                body,
                7,
            )
            for each, body in zip(events, map(body_of, events), strict=True)
        ],
        {number: sender for sender, number in numbers.items()},
    )


@given(histories(20), st.integers(0, 20), st.integers(0, 20))
def test_they_are_the_events(history: Sequence[Event], first: int, last: int) -> None:
    """One by one, in a slice, and in what is told of them."""
    events = stored(history)
    assert len(events) == len(history)
    assert list(events) == list(history)
    assert list(events[first:last]) == list(history[first:last])
    assert list(facts_of(events)) == list(facts_of(history))


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_change_feed_tells_the_same_of_them(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What a copy takes over does not depend on whether the events were made."""
    is_file = database == "sqlite"
    store = open_store(f"sqlite:///{tmp_path}/t.db" if is_file else request.getfixturevalue("postgres_url"))
    store.migrate()
    store.visits.save(stream(5, 200), lambda _: RULE)
    events = store.visits.changes("", 1_000).events
    assert isinstance(events, StoredEvents)
    assert sorted(facts_of(events)) == sorted(facts_of(list(events))) == sorted(facts_of(stream(5, 200)))
    store.close()
