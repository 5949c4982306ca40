"""Writes batches of activity into any table of a SQLite file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

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

# A batch is one statement over one JSON object. Row by row, the driver would let go of the interpreter lock at every
# row, and a busy server would lose more time to that than to the writing. `WHERE true` keeps ON CONFLICT from being
# read as a join (https://www.sqlite.org/lang_upsert.html, 2.2).
UPSERT = """
INSERT INTO {table} ({key}, {time}) SELECT key, value FROM json_each(?1) WHERE true
ON CONFLICT ({key}) DO UPDATE SET {time} = excluded.{time}
WHERE {table}.{time} < excluded.{time} OR {table}.{time} IS NULL
"""

UPSERT_CREATED = """
INSERT INTO {table} ({key}, {time}, {created}) SELECT key, value, value FROM json_each(?1) WHERE true
ON CONFLICT ({key}) DO UPDATE SET {time} = excluded.{time}
WHERE {table}.{time} < excluded.{time} OR {table}.{time} IS NULL
"""

UPDATE = """
UPDATE {table} SET {time} = new.value FROM json_each(?1) AS new
WHERE {table}.{key} = new.key AND ({table}.{time} < new.value OR {table}.{time} IS NULL)
"""


class SQLiteTableRecorder:
    """An `ActivityRecorder` for one table; made for a table that is not there, it raises `SchemaError`.

    How moments are kept follows the time column's declared type: text unless it is a number, see `times.py`.
    """

    def __init__(self, database: Database, table: ActivityTable) -> None:
        self._database = database
        self._table = table
        self.time_format = self._check()
        self._statement = self._build_statement()

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        if not updates:
            return 0
        encode = self.time_format.encode
        batch = msgspec.json.encode({key: encode(at) for key, at in updates.items()}).decode()
        with self._database.write() as connection:
            return connection.execute(self._statement, (batch,)).rowcount

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

    def _build_statement(self) -> str:
        table = self._table
        if table.mode is WriteMode.UPDATE_ONLY:
            statement = UPDATE
        else:
            statement = UPSERT if table.created_column is None else UPSERT_CREATED
        return statement.format(
            table=quote_identifier(table.table),
            key=quote_identifier(table.key_column),
            time=quote_identifier(table.time_column),
            created=quote_identifier(table.created_column or ""),
        )
