"""The short way on a connection of our own: several statements in one round trip, and rows copied."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from lastseen.errors import InvalidData, StoreUnavailable
from lastseen.stores import open_store
from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.postgres.pool import OwnPool
from lastseen.stores.postgres.wire import Wire
from lastseen.testing.streams import event, folded
from lastseen.testing.visit_copies import RULE, save, stored
from tests.servers import ask

TABLE = "CREATE TABLE texts (id integer PRIMARY KEY, text text)"
ADD = "INSERT INTO texts SELECT * FROM unnest(%b::integer[], %b::text[])"
ALL = "SELECT id, text FROM texts ORDER BY id"
DIVIDE = "SELECT 1 / %s::integer"
COPY = "COPY texts (id, text) FROM STDIN"
ECHO = "SELECT %b::bytea"
BIG = 300_000
ODD = ["", "NULL", "a,b", '"', "\\", "{}", " x ", "\n\t\r", "ü€🙂", "\\N", None]


@pytest.fixture
def pool(postgres_url: str) -> Iterator[OwnPool]:
    ask(postgres_url, TABLE)
    pool = OwnPool(postgres_url, size=1, deadline=timedelta(seconds=20))
    yield pool
    pool.close()


@pytest.fixture
def wire(pool: OwnPool) -> Iterator[Wire]:
    with pool.lend(5) as connection:
        yield connection.wire


def test_statements_travel_together_and_answer_one_by_one(wire: Wire) -> None:
    """Each tells its rows and how many it touched, the same statement twice too, and again when it is prepared."""
    for turn in range(2):
        added, found, again = wire.run([(ADD, ([turn], ["a"])), (ALL, None), (ALL, ())])
        assert (added.touched, found.touched) == (1, turn + 1)
        assert found.rows == again.rows == [(number, "a") for number in range(turn + 1)]


def test_texts_arrive_as_they_are(wire: Wire) -> None:
    """Whatever is in them, quoted as arrays of PostgreSQL want it."""
    wire.run([(ADD, (list(range(len(ODD))), ODD))])
    assert [text for _, text in wire.run([(ALL, None)])[0].rows] == ODD


def test_more_than_the_socket_holds_goes_both_ways(wire: Wire) -> None:
    """Neither side waits for the other for ever: the server sends before it has read everything."""
    big = "x" * BIG
    answers = wire.run([("SELECT %s::text", (big,))] * 30)
    assert [answer.rows for answer in answers] == [[(big,)]] * 30


@pytest.mark.parametrize(("texts", "error"), [(["\0"], psycopg.DataError), (["\ud800"], UnicodeEncodeError)])
def test_what_no_text_can_hold_is_refused_before_anything_is_sent(
    wire: Wire, texts: list[str], error: type[Exception]
) -> None:
    """The connection is as it was."""
    with pytest.raises(error):
        wire.run([(ALL, None), (ADD, ([1], texts))])
    assert wire.run([(ALL, None)])[0].rows == []


def test_behind_a_statement_that_fails_none_runs(wire: Wire) -> None:
    """The server's error is raised; what was prepared on the way is known, and the connection goes on."""
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            wire.run([(DIVIDE, (0,)), (ADD, ([1], ["a"]))])
    assert wire.run([(DIVIDE, (1,)), (ALL, None)])[1].rows == []


def test_what_begins_a_transaction_travels_with_its_first_statement(wire: Wire, postgres_url: str) -> None:
    """Once, and before it; its answer is not among those that were asked for."""
    wire.begin([("BEGIN", None), ("SELECT set_config('application_name', %s, true)", ("late",))])
    assert ask(postgres_url, "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'") == []
    assert [answer.rows for answer in wire.run([("SHOW application_name", None)])] == [[("late",)]]
    assert wire.run([("SHOW application_name", None), ("ROLLBACK", None)])[0].rows == [("late",)]
    assert wire.run([("SHOW application_name", None)])[0].rows == [("lastseen",)]


def test_answers_come_in_the_order_in_which_was_asked(wire: Wire) -> None:
    """Also to what was sent before anything was answered, with what is prepared by the first of them."""
    for number in range(3):
        assert wire.send([(ADD, ([number], ["a"])), (ALL, None)])
    assert not wire.send([])
    for number in range(3):
        added, found = wire.receive()
        assert (added.touched, found.touched) == (1, number + 1)
    assert wire.run([(ALL, None)])[0].touched == 3


def test_something_else_goes_on_until_the_answer_is_there(wire: Wire) -> None:
    """A step at a time; what ends before is no reason not to wait, and what fails leaves the answer to be read."""
    steps = iter(range(10**9))
    wire.send([("SELECT pg_sleep(0.05)", None)])
    assert wire.receive(steps)[0].touched == 1
    assert next(steps) > 1
    wire.send([("SELECT pg_sleep(0.05)", None)])
    assert wire.receive(iter([None]))[0].touched == 1
    wire.send([("SELECT pg_sleep(0.05)", None)])
    with pytest.raises(ZeroDivisionError):
        wire.receive(1 // (1 - number) for number in range(3))
    assert wire.receive()[0].touched == 1
    assert wire.run([(ALL, None)])[0].rows == []


def test_nothing_is_run_while_other_answers_are_still_to_come(wire: Wire) -> None:
    """Else it would take theirs for its own. Who gives them up can go on, whatever they are."""
    wire.send([(DIVIDE, (0,))])
    wire.send([(ALL, None)])
    with pytest.raises(psycopg.OperationalError, match="still to come"):
        wire.run([("SELECT 7", None)])
    wire.give_up()
    assert wire.run([("SELECT 7", None)])[0].rows == [(7,)]


def test_copied_rows_are_there_when_the_copy_is_finished(wire: Wire) -> None:
    """Also more of them than the socket holds; what is asked next waits for them."""
    text = "x" * BIG
    wire.copy(COPY, (f"{number}\t{text}\n".encode() for number in range(20)))
    assert wire.run([(ALL, None)])[0].rows == [(number, text) for number in range(20)]


def test_a_row_that_is_there_fails_the_copy_at_its_end(wire: Wire) -> None:
    """And the connection goes on."""
    wire.copy(COPY, [b"1\ta\n", b"1\tb\n"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        wire.finish_copy()
    assert wire.run([(ALL, None)])[0].rows == []


def test_a_copy_that_breaks_off_leaves_nothing(wire: Wire) -> None:
    """What broke it off is raised, and the connection goes on."""

    def blocks() -> Iterator[bytes]:
        yield b"1\ta\n"
        raise LookupError

    with pytest.raises(LookupError):
        wire.copy(COPY, blocks())
    assert wire.run([(ALL, None)])[0].rows == []


@pytest.mark.parametrize("disturb", ["failure", "change"])
def test_what_is_prepared_outlives_what_the_driver_forgets(pool: OwnPool, disturb: str) -> None:
    """The driver throws everything away that is prepared after a rollback or a change of tables; not so here.

    Else the next question would find its statement gone, and the pool prepare none any more.
    """
    database = PostgresDatabase(pool, deadline=timedelta(seconds=20))
    for _ in range(7):
        with database.read() as cursor:
            cursor.execute("SELECT 1")
    assert database.find(ECHO, b"a") == [(b"a",)]
    if disturb == "failure":
        with pytest.raises(InvalidData), database.transaction() as cursor:
            cursor.execute(DIVIDE, (0,))
    else:
        with database.change_schema() as cursor:
            cursor.execute("ALTER TABLE texts ADD COLUMN more text")
    for _ in range(2):
        assert database.find(ECHO, b"b") == [(b"b",)]
        with database.transaction() as cursor:
            cursor.execute("SELECT 1")
    with pool.lend(5) as connection:
        assert connection.prepare_threshold is not None


def test_a_transaction_of_a_connection_that_is_gone_fails_in_our_words(pool: OwnPool, postgres_url: str) -> None:
    """It notices when it commits; the next one has another connection."""
    database = PostgresDatabase(pool, deadline=timedelta(seconds=20))

    def find_and_end(cursor: Any) -> int:
        cursor.execute("SELECT pg_backend_pid()")
        pid = int(cursor.fetchall()[0][0])
        ask(postgres_url, f"SELECT pg_terminate_backend({pid})")
        return pid

    pids = []
    with pytest.raises(StoreUnavailable), database.transaction() as cursor:
        pids.append(find_and_end(cursor))
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchall() != [(pids[0],)]


def test_statements_that_a_pooler_lost_are_not_prepared_again(postgres_url: str) -> None:
    """One transaction fails as when the server is away; the next ones take the longer way, and save the same."""
    store = open_store(postgres_url)
    store.migrate()
    first = [event("e1"), event("e2", at=5)]
    for each in first:
        save(store.visits, each)
    with store.visits._database.connections.lend(5) as connection:  # type: ignore[attr-defined] # what a pooler does
        connection.execute("DEALLOCATE ALL")
        assert connection.prepare_threshold is not None
    with pytest.raises(StoreUnavailable):
        save(store.visits, event("e3", at=9))
    assert stored(store.visits) == folded(first, RULE)
    later = [event("e3", at=9), event("e4", at=12)]
    save(store.visits, *later)
    assert stored(store.visits) == folded([*first, *later], RULE)
    with store.visits._database.connections.lend(5) as connection:  # type: ignore[attr-defined] # the same one
        assert connection.prepare_threshold is None
    store.close()
