"""Writes batches of activity into any table of a SQLite file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from lastseen.activity.updates import Updates
from lastseen.errors import SchemaError
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.times import TimeFormat, time_format_of
from lastseen.stores.table import ActivityTable, WriteMode, quote_identifier

COLUMNS = "SELECT name, type FROM pragma_table_info(?)"

UNIQUE_KEYS = """
SELECT EXISTS (SELECT 1 FROM pragma_table_info(:table) WHERE name = :key AND pk = 1)
       AND (SELECT count(*) FROM pragma_table_info(:table) WHERE pk > 0) = 1
    OR EXISTS (
        SELECT 1 FROM pragma_index_list(:table) AS i
        WHERE i."unique" AND NOT i.partial
          AND (SELECT group_concat(name, char(0)) FROM pragma_index_info(i.name)) = :key
    )
"""

UPSERT = """
INSERT INTO {table} ({key}, {time}) VALUES {rows}
ON CONFLICT ({key}) DO UPDATE SET {time} = excluded.{time}
WHERE {table}.{time} < excluded.{time} OR {table}.{time} IS NULL
"""

UPSERT_CREATED = """
INSERT INTO {table} ({key}, {time}, {created}) VALUES {rows}
ON CONFLICT ({key}) DO UPDATE SET {time} = excluded.{time}
WHERE {table}.{time} < excluded.{time} OR {table}.{time} IS NULL
"""

UPDATE = """
UPDATE {table} SET {time} = ?2 WHERE {key} = ?1 AND ({time} < ?2 OR {time} IS NULL)
"""

# The driver lets go of the interpreter lock at every statement: row by row, a busy server would lose more time to that
# than to the writing. A statement of several rows keeps the pages that it changes until it ends, and beyond 16 pages it
# keeps them in a file (https://www.sqlite.org/compile.html#stmtjrnl_spill), which costs a fifth.
BLOCK = 8


class SQLiteTableRecorder:
    """An `ActivityRecorder` for one table; made for a table that is not there, it raises `SchemaError`.

    How moments are kept follows the time column's declared type: text unless it is a number, see `times.py`.
    """

    def __init__(self, database: Database, table: ActivityTable) -> None:
        self._database = database
        self._table = table
        self.time_format = self._check()
        self._one = self._statement(1)
        self._block = self._statement(BLOCK)

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        if not updates:
            return 0
        keys, moments = self._encoded(updates)
        flat: list[Any] = [None] * (2 * len(keys))
        flat[::2], flat[1::2] = keys, moments
        width = 2 * BLOCK if self._table.mode is WriteMode.UPSERT else 2
        whole = len(flat) - len(flat) % width
        with self._database.write() as connection:
            blocks = (flat[first : first + width] for first in range(0, whole, width))
            moved = connection.executemany(self._block, blocks).rowcount if whole else 0
            rest = [flat[first : first + 2] for first in range(whole, len(flat), 2)]
            return moved + (connection.executemany(self._one, rest).rowcount if rest else 0)

    def _encoded(self, updates: Mapping[str, datetime]) -> tuple[Collection[str], Iterable[str | int | float]]:
        if isinstance(updates, Updates):
            return updates.keys_sorted, map(self.time_format.encode_seconds, updates.seconds)
        return updates.keys(), map(self.time_format.encode, updates.values())

    def _check(self) -> TimeFormat:
        table = self._table
        with self._database.read() as connection:
            types: dict[str, str] = dict(connection.execute(COLUMNS, (table.table,)).fetchall())
            if not types:
                raise SchemaError(f"there is no table {table.table} in {self._database.address}")
            for column in (table.key_column, table.time_column, table.created_column):
                if column is not None and column not in types:
                    raise SchemaError(f"table {table.table} has no column {column}; it has {', '.join(sorted(types))}")
            if table.mode is WriteMode.UPSERT:
                names = {"table": table.table, "key": table.key_column}
                if not connection.execute(UNIQUE_KEYS, names).fetchone()[0]:
                    raise SchemaError(
                        f"column {table.key_column} of table {table.table} needs a unique key to upsert by"
                    )
        return time_format_of(types[table.time_column])

    def _statement(self, rows: int) -> str:
        table = self._table
        if table.mode is WriteMode.UPDATE_ONLY:
            statement, row = UPDATE, ""
        elif table.created_column is None:
            statement, row = UPSERT, "(?{key}, ?{time})"
        else:
            statement, row = UPSERT_CREATED, "(?{key}, ?{time}, ?{time})"
        return statement.format(
            table=quote_identifier(table.table),
            key=quote_identifier(table.key_column),
            time=quote_identifier(table.time_column),
            created=quote_identifier(table.created_column or ""),
            rows=", ".join(row.format(key=2 * number + 1, time=2 * number + 2) for number in range(rows)),
        )
