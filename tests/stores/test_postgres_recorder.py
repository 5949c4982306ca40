"""What one batch does to a PostgreSQL table."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from lastseen import ActivityTracker, InvalidData, LastSeen
from lastseen.stores import Store, open_store
from lastseen.testing import moment, updates
from tests.servers import ask

STATISTICS = """
SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'client_activity'
"""

OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    store.migrate()
    yield store
    store.close()


def statistics(store: Store) -> tuple[int, int, int]:
    """Return PostgreSQL's own counts of inserted, updated and HOT-updated rows; a session reports when it ends."""
    store.close()
    with psycopg.connect(store.address, autocommit=True) as connection:
        while connection.execute(OTHER_SESSIONS).fetchone() != (0,):
            pass
        row = connection.execute(STATISTICS).fetchone()
    assert row is not None
    return (int(row[0]), int(row[1]), int(row[2]))


def test_a_stale_row_is_not_rewritten(store: Store) -> None:
    """The same and an older batch leave PostgreSQL's own count of updated rows as it was."""
    keys = [f"key-{number}" for number in range(100)]
    store.clients.batch_record_activity(updates(*keys, at=moment(0)))
    assert store.clients.batch_record_activity(updates(*keys, at=moment(1))) == 100
    assert statistics(store)[:2] == (100, 100)
    assert store.clients.batch_record_activity(updates(*keys, at=moment(1))) == 0
    assert store.clients.batch_record_activity(updates(*keys, at=moment(-1))) == 0
    assert statistics(store)[:2] == (100, 100)


def test_created_at_never_changes(store: Store) -> None:
    """A new client is created at its own time, and stays so."""
    store.clients.batch_record_activity({"a": moment(5), "b": moment(7)})
    store.clients.batch_record_activity({"a": moment(9), "b": moment(9)})
    assert ask(store.address, "SELECT client_id, last_seen, created_at FROM client_activity ORDER BY 1") == [
        ("a", moment(9), moment(5)),
        ("b", moment(9), moment(7)),
    ]


def test_the_databases_clock_clamps_the_future(store: Store) -> None:
    """A host whose clock is a day ahead cannot keep a client fresh: five seconds ahead of the database is the most."""
    ahead = datetime.now(UTC) + timedelta(days=1)
    store.clients.batch_record_activity({"new": ahead})
    store.clients.batch_record_activity({"known": moment()})
    assert store.clients.batch_record_activity({"known": ahead}) == 1
    clamped = "SELECT bool_and(last_seen <= now() + interval '5 s' AND created_at <= now() + interval '5 s')"
    assert ask(store.address, clamped + " FROM client_activity") == [(True,)]


def test_only_the_activity_commits_without_waiting_for_the_disk(store: Store) -> None:
    """At the commit of a batch synchronous_commit is off; the session of the pool is left as it was."""
    ask(store.address, "CREATE TABLE seen_settings (at_commit text, statement_timeout text, lock_timeout text)")
    ask(
        store.address,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen_settings VALUES ("
        "current_setting('synchronous_commit'), current_setting('statement_timeout'), current_setting('lock_timeout'));"
        " RETURN NULL; END $$",
    )
    ask(
        store.address,
        "CREATE CONSTRAINT TRIGGER noted AFTER INSERT ON client_activity DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION note()",
    )
    store.clients.batch_record_activity(updates("a"))
    assert ask(store.address, "SELECT * FROM seen_settings") == [("off", "5s", "1s")]
    with store._database.connections.lend(1) as connection:  # type: ignore[attr-defined] # the session behind the pool
        rows = connection.execute("SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')")
        assert rows.fetchall() == [("on", "0")]


def test_what_a_driver_cannot_encode_is_invalid(store: Store) -> None:
    """NUL, which PostgreSQL has no place for, and half a character are refused as data, and never stored."""
    for key in ("a\0b", "\ud800"):
        with pytest.raises(InvalidData):
            store.clients.batch_record_activity({key: moment()})
        assert store.clients.get_client(key) is None
    assert ask(store.address, "SELECT count(*) FROM client_activity") == [(0,)]


def test_a_short_adopted_column_isolates_long_keys(postgres_url: str) -> None:
    """A table with ten characters an id is adopted; the one id that is too long is dropped, 99 are written."""
    ask(
        postgres_url,
        "CREATE TABLE client_activity (client_id varchar(10) PRIMARY KEY, last_seen timestamp, created_at timestamp)",
    )
    with LastSeen.open(postgres_url, migrate=True) as seen:
        for number in range(99):
            seen.clients.record(f"key-{number:02}", moment(number))
        seen.clients.record("much-too-long-a-key", moment())
        result = seen.clients.flush()
        assert (result.updated_count, result.poison) == (99, ("much-too-long-a-key",))
        assert seen.clients.health().poison == 1
        client = seen.clients.get("key-07")
        assert client is not None
        assert (client.last_seen_at, client.created_at) == (moment(7), moment(7))
    assert ask(postgres_url, "SELECT last_seen FROM client_activity WHERE client_id = 'key-07'") == [
        (moment(7).replace(tzinfo=None),)
    ]


def test_no_index_holds_the_last_seen_time(store: Store) -> None:
    """The migrated schema indexes client ids and hours only: an index on last_seen ends HOT updates."""
    assert ask(store.address, INDEXED_COLUMNS) == [
        ("client_active_hours", "client_id"),
        ("client_active_hours", "hour"),
        ("client_activity", "client_id"),
    ]


INDEXED_COLUMNS = """
SELECT i.indrelid::regclass::text, a.attname::text
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid::regclass::text LIKE 'client%' ORDER BY 1, 2
"""


@pytest.mark.parametrize("index", [False, True], ids=["as migrated", "control with an index on last_seen"])
def test_updates_stay_in_their_page(store: Store, *, index: bool) -> None:
    """Over 95 % of 40,000 updates are HOT, and hardly one with an index on the time column."""
    if index:
        ask(store.address, "CREATE INDEX ON client_activity (last_seen)")
    keys = [f"key-{number:04}" for number in range(1_000)]
    dice = random.Random(5)
    store.clients.batch_record_activity(updates(*keys))
    for second in range(1, 201):
        store.clients.batch_record_activity(updates(*dice.sample(keys, 200), at=moment(second)))
    _, rewritten, hot = statistics(store)
    assert rewritten == 40_000
    assert (hot / rewritten > 0.95) is not index
    assert (hot / rewritten < 0.05) is index


def test_a_tracker_and_its_store_agree(store: Store) -> None:
    """Ten thousand keys in chunks arrive whole."""
    tracker = ActivityTracker(store.clients)
    for number in range(10_000):
        tracker.record(f"key-{number}", moment(number))
    tracker.flush()
    tracker.close()
    assert ask(store.address, "SELECT count(*), max(last_seen) FROM client_activity") == [(10_000, moment(9_999))]
