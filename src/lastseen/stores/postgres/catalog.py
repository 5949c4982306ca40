"""What PostgreSQL's catalog says about a table that activity is written to."""

from __future__ import annotations

from dataclasses import dataclass

from lastseen.errors import SchemaError
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.table import ActivityTable, WriteMode, quote_identifier

COLUMNS = """
SELECT a.attname::text,
       pg_catalog.format_type(a.atttypid, -1),
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       coalesce(nullif(t.typbasetype, 0), t.oid)::regtype::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""

# ON CONFLICT takes no index that is partial, on more than this column, or checked at commit only.
UNIQUE_KEY = """
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass(%s) AND a.attname = %s
      AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL
)
"""

TIME_TYPES = {"timestamp with time zone": "{}", "timestamp without time zone": "({} AT TIME ZONE 'UTC')"}
"""How an expression of type timestamptz becomes one of the column's type, and the other way round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column; names and types are ready to be put into a statement."""

    name: str
    """Quoted."""
    type: str
    """Without its length: a cast to that would cut a value, where an assignment refuses it."""
    exact_type: str
    """With its length or precision."""
    base_type: str
    """What a domain stands for; else the type itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableShape:
    """A table as a recorder needs it."""

    name: str
    """Quoted, with its schema when one was given."""
    key: Column
    time: Column
    created: Column | None


def look_up(database: PostgresDatabase, table: ActivityTable) -> TableShape:
    """Return the shape of a table; raise `SchemaError` that names what is missing or has a type that cannot be used."""
    plain_name = quote_identifier(table.table)
    if table.schema is not None:
        plain_name = f"{quote_identifier(table.schema)}.{plain_name}"
    with database.transaction() as cursor:
        columns = _columns(cursor, plain_name)
        if not columns:
            raise SchemaError(f"there is no table {plain_name} in {database.address}")
        shape = TableShape(
            name=_in_statement(plain_name),
            key=_column(columns, table.key_column, plain_name),
            time=_time_column(columns, table.time_column, plain_name),
            created=None if table.created_column is None else _time_column(columns, table.created_column, plain_name),
        )
        if table.mode is WriteMode.UPSERT:
            cursor.execute(UNIQUE_KEY, (plain_name, table.key_column))
            if not cursor.fetchall()[0][0]:
                raise SchemaError(f"column {table.key_column} of table {plain_name} needs a unique key to upsert by")
    return shape


def _columns(cursor: Cursor, table: str) -> dict[str, Column]:
    cursor.execute(COLUMNS, (table,))
    return {
        name: Column(name=_in_statement(quote_identifier(name)), type=plain, exact_type=exact, base_type=base)
        for name, plain, exact, base in cursor.fetchall()
    }


def _column(columns: dict[str, Column], name: str, table: str) -> Column:
    if name not in columns:
        raise SchemaError(f"table {table} has no column {name}; it has {', '.join(sorted(columns))}")
    return columns[name]


def _time_column(columns: dict[str, Column], name: str, table: str) -> Column:
    column = _column(columns, name, table)
    if column.base_type not in TIME_TYPES:
        raise SchemaError(
            f"column {name} of table {table} is a {column.base_type}; "
            "activity needs timestamp with time zone, or timestamp without time zone (kept in UTC)"
        )
    return column


def _in_statement(name: str) -> str:
    """Double the percent signs, which begin a parameter in a statement."""
    return name.replace("%", "%%")
