"""What happens in PostgreSQL when the transaction that began first is the second to hold a visitor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from lastseen.stores import Store, open_store
from lastseen.stores.postgres.visit_transaction import PostgresVisitTransaction
from lastseen.stores.visit_saving import save as save_in
from lastseen.testing.streams import SITE, event, folded
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.visits.event import SESSION_END, Event
from tests.servers import ask

MINUTE = 60
TX = "SELECT tx::text::bigint FROM {table} WHERE id = %s"


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    store.migrate()
    yield store
    store.close()


@contextmanager
def _overtaken(url: str, *events: Event) -> Iterator[None]:
    """Begin a transaction, let the block commit others, then save the events in it."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        yield
        save_in(PostgresVisitTransaction(cursor), events, {SITE: RULE})


def _tx(url: str, table: str, row_id: str) -> int:
    ((number,),) = ask(url, TX.format(table=table), [row_id])
    return int(number)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_visit_comes_after_the_events_of_a_transaction_with_a_higher_number(
    store: Store, postgres_url: str, limit: int
) -> None:
    """The visit was written by a lower number than its newest event; a copy gets the event first all the same."""
    replica = Replica()
    save(store.visits, event("e1"))
    replica.catch_up(store.visits, limit)
    with _overtaken(postgres_url, event("e2", at=MINUTE)):
        save(store.visits, event("e3", at=2 * MINUTE))
        assert replica.follow(store.visits, limit).events == ()
    assert _tx(postgres_url, "lastseen_visits", "e1") < _tx(postgres_url, "lastseen_events", "e3")
    replica.catch_up(store.visits, limit)
    assert replica.visits_by_visitor() == stored(store.visits)
    assert {event_id for _, event_id in replica.events} == {"e1", "e2", "e3"}


@pytest.mark.parametrize("limit", [1, 100])
def test_a_visit_that_is_there_again_stays(store: Store, postgres_url: str, limit: int) -> None:
    """Though its removal has the higher number: it is not left behind to take the visit from copies."""
    middle = [event("e0"), event("e1", at=MINUTE, name=SESSION_END), event("e2", at=2 * MINUTE)]
    first, end, last = middle
    replica = Replica()
    save(store.visits, last)
    replica.catch_up(store.visits, limit)
    with _overtaken(postgres_url, end):
        save(store.visits, first)
        assert [visit.id for visit in stored(store.visits)["alice"]] == ["e0"]
        removed = _tx(postgres_url, "lastseen_visits_removed", "e2")
    assert _tx(postgres_url, "lastseen_visits", "e2") < removed
    replica.catch_up(store.visits, limit)
    assert replica.visits_by_visitor() == stored(store.visits) == folded(middle, RULE)
    # What would have happened with the removal in its place.
    ask(
        postgres_url,
        "INSERT INTO lastseen_visits_removed (tx, seq, site_id, id) VALUES (%s::text::xid8, 99, %s, 'e2')",
        [removed, SITE],
    )
    replica.catch_up(store.visits, limit)
    assert replica.visits_by_visitor() != stored(store.visits)
