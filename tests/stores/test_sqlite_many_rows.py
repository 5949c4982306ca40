"""Rows that SQLite inserts by the statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from lastseen.stores.sqlite.many_rows import SIZES, Insertion

MOST = max(SIZES)
INSERTION = Insertion("rows", 2, "ON CONFLICT (name) DO NOTHING")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Begin a transaction beside an empty table."""
    with sqlite3.connect(":memory:", isolation_level=None) as opened:
        opened.execute("CREATE TABLE rows (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        opened.execute("BEGIN")
        yield opened
    opened.close()


def rows_of(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    return connection.execute("SELECT no, name FROM rows ORDER BY no").fetchall()


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, MOST - 1, MOST, MOST + 1, 2 * MOST + 21])
def test_every_row_is_inserted_once(connection: sqlite3.Connection, number: int) -> None:
    """Whatever their number is."""
    rows = [(no, f"row {no}") for no in range(number)]
    assert INSERTION.run(connection, rows) == number
    assert rows_of(connection) == rows


def test_rows_that_are_there_already_are_left_and_not_counted(connection: sqlite3.Connection) -> None:
    """Those of the same call too, of which the first counts."""
    INSERTION.run(connection, [(no, f"row {no}") for no in range(0, 2 * MOST, 2)])
    rows = [(1_000 + no, f"row {no // 2}") for no in range(4 * MOST)]
    assert INSERTION.run(connection, rows) == MOST
    added = [(1_000 + 4 * place + 2, f"row {2 * place + 1}") for place in range(MOST)]
    assert rows_of(connection)[MOST:] == added


@pytest.mark.parametrize("bad", [(7, "another"), (None, None)], ids=["number", "nothing"])
def test_a_row_that_is_refused_is_an_error(connection: sqlite3.Connection, bad: tuple[int | None, str | None]) -> None:
    """It is not passed over, and nothing is left of the others after the rollback."""
    rows: list[tuple[object, ...]] = [(no, f"row {no}") for no in range(MOST - 1)]
    with pytest.raises(sqlite3.IntegrityError):
        INSERTION.run(connection, [*rows, bad])
    connection.execute("ROLLBACK")
    assert rows_of(connection) == []
