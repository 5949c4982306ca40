"""A transaction whose beginning fails saves nothing: what was sent behind it must not stand alone."""

from __future__ import annotations

from typing import Any

import pytest

from lastseen.errors import StoreUnavailable
from lastseen.stores import open_store
from lastseen.stores.postgres.database import BEGIN
from lastseen.stores.postgres.wire import _named
from lastseen.visits.event import PAGEVIEW, Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import EventQuery


def event(number: int) -> Event:
    at = 1_767_312_000_000_000 + number * 1_000_000
    return Event(id=f"e{number}", site_id="default", distinct_id="ann", name=PAGEVIEW, at=at, received_at=at)


def forget_prepared(store: Any, statement: str) -> None:
    """Let the session forget a statement, as it does behind a pooler that gives each transaction another session."""
    with store.visits._database.connections.lend(5) as connection:
        connection.execute(f'DEALLOCATE "{_named(statement)[0].decode()}"')


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_saved_when_the_beginning_is_lost(postgres_url: str, count: int) -> None:
    """The same events again are new, and are counted in the visit."""
    store = open_store(postgres_url, pool_size=1)
    store.migrate()
    for number in range(3):
        store.visits.save([event(number)], lambda _site: VisitRule())
    forget_prepared(store, BEGIN)
    later = [event(number) for number in range(3, 3 + count)]
    with pytest.raises(StoreUnavailable):
        store.visits.save(later, lambda _site: VisitRule())
    assert store.visits.count_events(EventQuery(site_id="default")) == 3
    assert store.visits.save(later, lambda _site: VisitRule()).new == count
    visit = store.visits.get_by_visitor("default", "ann")
    assert visit is not None
    assert visit.event_count == 3 + count
    store.close()
