"""Insertion of many rows by few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

SIZES = (64, 16, 4, 1)
"""Rows a statement, each a text of its own that stays prepared; larger ones are no faster."""


class Insertion:
    """Inserts rows into a table, inside a transaction that any error rolls back.

    Against one row a statement it takes two thirds of the time, and lets other threads run for whole statements where
    Python's driver hands its lock over for each. `OR FAIL` makes the difference: any other statement of many rows first
    keeps what is on each page it touches, to be undone alone (https://www.sqlite.org/tempfiles.html, 2.5).
    """

    def __init__(self, table: str, columns: int, on_conflict: str = "") -> None:
        row = f"({', '.join('?' * columns)})"
        self._statements = [
            (size, f"INSERT OR FAIL INTO {table} VALUES {', '.join([row] * size)} {on_conflict}")  # noqa: S608 - constants
            for size in SIZES
        ]

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert the rows in their order; return how many were not there yet."""
        added = place = 0
        for size, statement in self._statements:
            while len(rows) - place >= size:
                values = list(chain.from_iterable(rows[place : place + size]))
                added += connection.execute(statement, values).rowcount
                place += size
        return added
