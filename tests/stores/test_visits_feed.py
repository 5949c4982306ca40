"""The change feed of PostgreSQL: transactions that commit late, and databases that come from elsewhere."""

from __future__ import annotations

import psycopg
import pytest

from lastseen.errors import InvalidCursor
from lastseen.stores import open_store
from lastseen.testing.streams import batches, event, folded, stream
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from tests.servers import ask

LATER = "UPDATE {table} SET tx = (tx::text::bigint + 1000000000)::text::xid8 WHERE tx IS NOT NULL"
TABLES = (
    "lastseen_events",
    "lastseen_identities",
    "lastseen_visits",
    "lastseen_visit_writes",
    "lastseen_visits_removed",
)


def test_a_transaction_that_commits_late_is_not_missed(postgres_url: str) -> None:
    """What it wrote earlier than others comes after them; by the order of writing alone it would have been lost."""
    store = open_store(postgres_url)
    store.migrate()
    replica = Replica()
    save(store.visits, event("e1", "bob"))
    replica.catch_up(store.visits)
    with psycopg.connect(postgres_url) as late:
        late.execute(
            "INSERT INTO lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body) "
            "SELECT 1, site_id, 'late', identity, at, name, received_at, flags, body FROM lastseen_events"
        )
        save(store.visits, event("e2", "alice"))
        assert replica.follow(store.visits).events == ()
        late.commit()
    first_of_others = ask(postgres_url, "SELECT tx::text::bigint FROM lastseen_events WHERE id = 'e2'")[0][0]
    assert ask(
        postgres_url, "SELECT tx::text::bigint < %s FROM lastseen_events WHERE id = 'late'", [first_of_others]
    ) == [(True,)]
    replica.catch_up(store.visits)
    assert {event_id for _, event_id in replica.events} == {"e1", "late", "e2"}
    store.close()


def test_a_database_from_another_server_is_numbered_anew(postgres_url: str) -> None:
    """Its numbers are those of transactions that this server has yet to see; copies begin again and miss nothing."""
    store = open_store(postgres_url)
    store.migrate()
    events = stream(61, 80)
    for batch in batches(61, events, most=10):
        save(store.visits, *batch)
    before = Replica()
    before.catch_up(store.visits)
    for table in TABLES:
        ask(postgres_url, LATER.format(table=table))
    with pytest.raises(InvalidCursor):
        before.follow(store.visits)
    after = Replica()
    after.follow(store.visits, 7)
    save(store.visits, event("new", "somebody"))
    after.catch_up(store.visits, 7)
    assert after.visits_by_visitor() == stored(store.visits) == folded([*events, event("new", "somebody")], RULE)
    assert after.visitors == before.visitors
    store.close()
