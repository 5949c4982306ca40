"""Writes batches of activity into any table of a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from lastseen.activity.updates import sorted_seconds
from lastseen.stores.postgres.arrays import FLOATS, TEXTS, floats, joined
from lastseen.stores.postgres.catalog import TIME_TYPES, Column, TableShape, look_up
from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.table import ActivityTable, WriteMode

# Rows are locked in the order in which they come, the same in every process, so two writers never deadlock: texts come
# sorted, anything else is sorted here. In the list of columns `unnest` hands its rows on one by one; in FROM, all of
# them are put aside first.
RECORDED = f"SELECT {TEXTS} AS key, to_timestamp({FLOATS}) AS at"

UPSERT = """
INSERT INTO {table} AS stored ({columns})
SELECT {values}
FROM (
    SELECT key::{key_type} AS key, {moment}::{time_type} AS at FROM ({recorded}) AS recorded{group_by}
) AS new{order_by}
ON CONFLICT ({key}) DO UPDATE SET {time} = EXCLUDED.{time}
WHERE stored.{time} < EXCLUDED.{time} OR stored.{time} IS NULL
"""

UPDATE = """
WITH new AS MATERIALIZED (
    SELECT key::{key_type} AS key, {moment}::{time_type} AS at FROM ({recorded}) AS recorded{group_by}
), locked AS MATERIALIZED (
    SELECT stored.{key} AS key, new.at
    FROM {table} AS stored JOIN new ON stored.{key} = new.key
    WHERE stored.{time} < new.at OR stored.{time} IS NULL
    ORDER BY stored.{key}::text COLLATE "C"
    FOR NO KEY UPDATE OF stored
)
UPDATE {table} AS stored SET {time} = locked.at
FROM locked WHERE stored.{key} = locked.key AND (stored.{time} < locked.at OR stored.{time} IS NULL)
"""

# A time in the future of the database's clock is clamped: one wrong clock must not keep a client fresh for ever. The
# latest moment is asked for once a statement; once a row it was a fifth of the whole cost.
MOMENT = "least(at, (SELECT now() + interval '5 s'))"

# Two spellings may be one key (1 and 01, an upper case and a lower case UUID), but a row is moved only once.
LATEST_MOMENT = "least(max(at), (SELECT now() + interval '5 s'))"

SPELLED_ONE_WAY = {"text", "character varying"}


class PostgresTableRecorder:
    """An `ActivityRecorder` for one table; made for a table that is not there, it raises `SchemaError`.

    Keys of any type are cast from text. Columns without a time zone hold UTC.
    """

    def __init__(self, database: PostgresDatabase, table: ActivityTable) -> None:
        self._database = database
        self.shape = look_up(database, table)
        self._statement = _upsert(self.shape) if table.mode is WriteMode.UPSERT else _update(self.shape)

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        if not updates:
            return 0
        keys, seconds = sorted_seconds(updates)
        return self._database.record(self._statement, lambda cursor: (*joined(keys), floats(cursor, seconds)))


def _upsert(shape: TableShape) -> str:
    columns, values = [shape.key.name, shape.time.name], ["key", "at"]
    if shape.created is not None:
        columns.append(shape.created.name)
        values.append(_converted("at", shape.time, shape.created))
    return _statement(UPSERT, shape, columns=", ".join(columns), values=", ".join(values))


def _update(shape: TableShape) -> str:
    return _statement(UPDATE, shape)


def _statement(template: str, shape: TableShape, **parts: str) -> str:
    grouped = shape.key.type not in SPELLED_ONE_WAY
    return template.format(
        table=shape.name,
        key=shape.key.name,
        key_type=shape.key.type.replace("%", "%%"),
        time=shape.time.name,
        recorded=RECORDED,
        time_type=shape.time.exact_type.replace("%", "%%"),
        moment=TIME_TYPES[shape.time.base_type].format(LATEST_MOMENT if grouped else MOMENT),
        group_by=" GROUP BY 1" if grouped else "",
        order_by=' ORDER BY key::text COLLATE "C"' if grouped else "",
        **parts,
    )


def _converted(expression: str, source: Column, target: Column) -> str:
    if source.base_type == target.base_type:
        return expression
    return f"({expression} AT TIME ZONE 'UTC')"
