"""What the PostgreSQL store remembers between transactions is never believed when it is not so any more."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from lastseen.errors import InvalidData, StoreError
from lastseen.stores import Store, open_store
from lastseen.stores.postgres.visit_adding import COPY_FROM
from lastseen.stores.postgres.visit_holding import BeginAgainError
from lastseen.stores.postgres.visit_statements import AlreadyThereError
from lastseen.stores.postgres.visit_transaction import PostgresVisitTransaction
from lastseen.stores.visit_saving import Held
from lastseen.stores.visit_saving import save as save_in
from lastseen.testing.streams import SITE, event, folded, identify
from lastseen.testing.visit_copies import RULE, save, stored
from lastseen.visits.event import Event
from tests.servers import ask, database_of

NUMBERS = "SELECT distinct_id, no FROM lastseen_identities ORDER BY no"
OWNERS = """
SELECT DISTINCT split_part(e.id, '-', 1), i.distinct_id FROM lastseen_events AS e
JOIN lastseen_identities AS i ON i.no = e.identity ORDER BY 1, 2
"""
EMPTY = "TRUNCATE lastseen_identities, lastseen_identity_links, lastseen_events, lastseen_visits, lastseen_visit_writes"
NUMBER_AGAIN = "ALTER SEQUENCE lastseen_identity_numbers RESTART"
HOT = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'lastseen_visits'"
OUR_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastseen' AND datname = current_database()"
)
OUR_PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lastseen' AND datname = current_database()"
SOMEBODY_WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted"
VISITORS = 200


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    store.migrate()
    yield store
    store.close()


def _put_back(url: str, *visitors: str) -> None:
    """Do what restoring a database does under a store that goes on: the visitors begin anew, with these numbers."""
    for statement in (EMPTY, NUMBER_AGAIN):
        ask(url, statement)
    other = open_store(url)
    for visitor in visitors:
        save(other.visits, event(f"again-{visitor}", visitor))
    other.close()


def test_a_number_that_is_somebody_elses_now_is_not_believed(store: Store, postgres_url: str) -> None:
    """After the database was put back, each event is its own visitor's, though the numbers have been dealt anew."""
    for visitor in ("alice", "bob"):
        save(store.visits, event(f"first-{visitor}", visitor))
    assert ask(postgres_url, NUMBERS) == [("alice", 1), ("bob", 2)]
    _put_back(postgres_url, "bob", "alice")
    assert ask(postgres_url, NUMBERS) == [("bob", 1), ("alice", 2)]
    events = [event(f"{which}-{visitor}", visitor) for which in ("again", "later") for visitor in ("bob", "alice")]
    save(store.visits, *events)
    assert stored(store.visits) == folded(events, RULE)


@pytest.mark.parametrize("count", [2, COPY_FROM], ids=["few", "many"])
def test_events_that_were_added_under_such_a_number_are_added_again(
    store: Store, postgres_url: str, count: int
) -> None:
    """They are on their way before it is known whose the numbers are."""
    for visitor in ("alice", "bob"):
        save(store.visits, event(f"first-{visitor}", visitor))
    _put_back(postgres_url, "bob", "alice")
    events = [event(f"{visitor}-{at}", visitor, at=at) for at in range(count) for visitor in ("alice", "bob")]
    assert save(store.visits, *events).new == len(events)
    assert ask(postgres_url, OWNERS) == [("again", "alice"), ("again", "bob"), ("alice", "alice"), ("bob", "bob")]
    again = [event(f"again-{visitor}", visitor) for visitor in ("bob", "alice")]
    assert stored(store.visits) == folded([*again, *events], RULE)


def test_a_number_that_nobody_has_any_more_is_looked_up(store: Store, postgres_url: str) -> None:
    """The visitor is made again."""
    save(store.visits, event("first", "alice"))
    _put_back(postgres_url)
    save(store.visits, event("second", "alice"))
    assert stored(store.visits) == folded([event("second", "alice")], RULE)


def test_a_visitor_whom_another_process_has_joined_is_found(store: Store, postgres_url: str) -> None:
    """This store remembers the id as a visitor of its own; the row that it holds says otherwise."""
    first, joined = event("e1", "anon"), identify("e2", "ann", "anon", 5)
    save(store.visits, first)
    other = open_store(postgres_url)
    save(other.visits, joined)
    other.close()
    later = [event("e3", "anon", 9), event("e4", "ann", 12)]
    save(store.visits, *later)
    assert stored(store.visits) == folded([first, joined, *later], RULE)
    assert list(stored(store.visits)) == ["ann"]


def test_numbers_are_remembered_up_to_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it all are forgotten, and found again when they are needed."""
    monkeypatch.setattr("lastseen.stores.postgres.visit_holding.MOST_KNOWN", 3)
    events = [event(f"{turn}-{visitor}", f"visitor-{visitor}", at=turn) for turn in range(3) for visitor in range(5)]
    for each in events:
        save(store.visits, each)
        assert len(store.visits._known._numbers) <= 4  # type: ignore[attr-defined] # what the bound is about
    assert stored(store.visits) == folded(events, RULE)


class _Disturbed(PostgresVisitTransaction):
    """One during which somebody who holds nothing writes the visits again."""

    url: str

    def insert(self, events: Collection[Event], held: Held) -> Collection[Event]:
        ask(self.url, "UPDATE lastseen_visits SET body = body")
        return super().insert(events, held)


@pytest.mark.parametrize("kind", [PostgresVisitTransaction, _Disturbed], ids=["in peace", "disturbed"])
def test_a_visit_that_is_not_where_it_was_read_is_not_lost(
    store: Store, postgres_url: str, kind: type[PostgresVisitTransaction]
) -> None:
    """The transaction begins again when the row is another one by the time that it is written."""
    save(store.visits, event("e1"))
    _Disturbed.url = postgres_url
    with psycopg.connect(postgres_url) as connection, connection.cursor() as cursor:
        transaction = kind(cursor)
        if kind is _Disturbed:
            with pytest.raises(BeginAgainError):
                save_in(transaction, [event("e2", at=5)], {SITE: RULE})
            connection.rollback()
        else:
            save_in(transaction, [event("e2", at=5)], {SITE: RULE})
    save(store.visits, event("e2", at=5))
    assert stored(store.visits) == folded([event("e1"), event("e2", at=5)], RULE)


def test_the_newest_visit_is_read_when_the_visitor_is_held(store: Store, postgres_url: str) -> None:
    """Whoever waits for a visitor sees what was written meanwhile, although both questions travel together."""
    save(store.visits, event("e1"))
    with psycopg.connect(postgres_url) as writing, ThreadPoolExecutor(1) as threads:
        writing.execute("SELECT no FROM lastseen_identities FOR NO KEY UPDATE")
        second = threads.submit(save, store.visits, event("e2", at=10))
        while not ask(postgres_url, SOMEBODY_WAITS):
            assert not second.done()
        with writing.cursor() as cursor:
            save_in(PostgresVisitTransaction(cursor), [event("e3", at=5)], {SITE: RULE})
        writing.commit()
        second.result()
    assert stored(store.visits) == folded([event("e1"), event("e2", at=10), event("e3", at=5)], RULE)


@pytest.mark.parametrize("is_there", [True, False], ids=["repeated", "new"])
@pytest.mark.parametrize("count", [1, COPY_FROM], ids=["few", "many"])
def test_events_are_added_as_if_all_were_new(store: Store, *, count: int, is_there: bool) -> None:
    """On a connection of our own few travel with the visits and many are copied; one that is there is found by both."""
    save(store.visits, event("e1"))
    others = [event(f"other-{number}", at=5 + number) for number in range(count - 1)]
    batch = [event("e1" if is_there else "e0"), *others]
    ended: list[str] = []
    with (
        suppress(AlreadyThereError),
        store.visits._database.transaction(begins_late=True) as cursor,  # type: ignore[attr-defined] # as `save` does
        PostgresVisitTransaction(cursor, may_copy=True) as transaction,
    ):
        assert save_in(transaction, batch, {SITE: RULE}).new == count
        ended.append("well")
    assert ended == ([] if is_there else ["well"])
    assert sum(map(len, stored(store.visits).values())) == 1
    assert len(list(store.visits.all_events(SITE))) == (1 if is_there else count + 1)
    save(store.visits, *batch, event("e2", at=9_000))
    assert stored(store.visits) == folded([event("e1"), *batch, event("e2", at=9_000)], RULE)


@pytest.mark.parametrize("is_there", [True, False], ids=["repeated", "new"])
def test_events_are_copied_as_if_all_were_new(store: Store, postgres_url: str, *, is_there: bool) -> None:
    """One that is there already is found by the time that the transaction writes; nothing of the batch stays then."""
    save(store.visits, event("e1"))
    batch = [event("e1" if is_there else "e0"), event("e2", at=5)]
    with psycopg.connect(postgres_url) as connection, connection.cursor() as cursor:
        transaction = PostgresVisitTransaction(cursor, may_copy=True)
        if is_there:
            with pytest.raises(AlreadyThereError):
                save_in(transaction, batch, {SITE: RULE})
            connection.rollback()
        else:
            assert save_in(transaction, batch, {SITE: RULE}).new == 2
    result = save(store.visits, *batch)
    assert (result.new, result.duplicates) == ((1, 1) if is_there else (0, 2))
    assert stored(store.visits) == folded([event("e1"), *batch], RULE)


@pytest.mark.parametrize("count", [2, COPY_FROM], ids=["few", "many"])
def test_an_event_that_cannot_be_written_leaves_nothing(store: Store, postgres_url: str, count: int) -> None:
    """It is found while the server looks at the visitors: nothing of the batch stays, and the connection goes on."""
    save(store.visits, event("e1"))
    before = ask(postgres_url, OUR_PIDS)
    bad = event("bad", at=5, properties={"text": "\ud800"})
    batch = [event(f"other-{number}", at=10 + number) for number in range(count)]
    with pytest.raises(InvalidData, match="'bad' cannot be written as JSON"):
        save(store.visits, *batch, bad)
    assert [each.id for each in store.visits.all_events(SITE)] == ["e1"]
    save(store.visits, *batch)
    assert stored(store.visits) == folded([event("e1"), *batch], RULE)
    assert ask(postgres_url, OUR_PIDS) == before


def test_events_wait_until_all_that_hangs_together_is_held(store: Store, postgres_url: str) -> None:
    """A batch that links ids may have to begin again, with more to hold: nothing was written in vain by then."""
    save(store.visits, event("e1", "anon"), identify("e2", "ann", "anon", 5))
    batch = [event("e3", "other", 9), identify("e4", "ann", "other", 12)]
    with (
        store.visits._database.transaction(begins_late=True) as cursor,  # type: ignore[attr-defined] # as `save` does
        PostgresVisitTransaction(cursor, may_copy=True, batch=batch) as transaction,
    ):
        with pytest.raises(BeginAgainError) as error:
            save_in(transaction, batch, {SITE: RULE})
        assert error.value.keys == [(SITE, "anon")]
        cursor.execute("SELECT count(*) FROM lastseen_events")
        assert cursor.fetchall() == [(2,)]
    save(store.visits, *batch)
    assert list(stored(store.visits)) == ["ann"]


@pytest.mark.parametrize("index", [False, True], ids=["as migrated", "last activity indexed"])
def test_visits_that_go_on_write_no_index(store: Store, postgres_url: str, *, index: bool) -> None:
    """Nine of ten updates stay within their page, and none with an index on what each event changes."""
    if index:
        ask(postgres_url, "CREATE INDEX ON lastseen_visits (last_activity_at)")
    # Within ten minutes by the clock, whose index is written when they are over.
    for turn in range(6):
        save(store.visits, *(event(f"{turn}-{number}", f"visitor-{number}", at=turn) for number in range(VISITORS)))
    store.close()
    # A session reports the last when it ends; what took more than a second is reported before, in part.
    while ask(postgres_url, OUR_SESSIONS) != [(0,)]:
        pass
    (rewritten,) = ask(postgres_url, HOT)
    assert rewritten[0] == 5 * VISITORS
    assert (rewritten[1] > 0.9 * rewritten[0]) is not index
    assert (rewritten[1] == 0) is index


def test_an_error_while_events_are_copied_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong between, nothing of the batch is there, and the store goes on."""

    def fail(*_: object) -> None:
        raise OverflowError("a fold that fails")

    with monkeypatch.context() as patched:
        patched.setattr(PostgresVisitTransaction, "write", fail)
        with pytest.raises(StoreError, match="a fold that fails"):
            save(store.visits, *(event(f"e{number}", at=number) for number in range(300)))
    assert list(store.visits.all_events(SITE)) == []
    save(store.visits, event("e1"))
    assert stored(store.visits) == folded([event("e1")], RULE)


@pytest.mark.parametrize("seed", range(3))
def test_two_writers_that_meet_in_the_same_events_do_not_wait_for_each_other_in_a_circle(
    store: Store, postgres_url: str, seed: int
) -> None:
    """Each has the same new events, in an order of its own and under ids of other visitors."""
    ask(postgres_url, f"ALTER DATABASE {database_of(postgres_url)} SET deadlock_timeout = '20ms'")
    other = open_store(postgres_url)
    chance = random.Random(seed)
    both = {
        one: [[event(f"{turn}-{n}", f"{name}-{n}", at=turn) for n in range(60)] for turn in range(8)]
        for one, name in ((store, "a"), (other, "b"))
    }

    def write(one: Store) -> None:
        for batch in both[one]:
            save(one.visits, *chance.sample(batch, len(batch)))

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(write, one) for one in both]:
            done.result()
    other.close()
    events = list(store.visits.all_events(SITE))
    assert len({each.id for each in events}) == len(events) == 480
    assert stored(store.visits) == folded(events, RULE)
