"""Tables as Parquet files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import duckdb
import msgspec

from lastseen.errors import StoreError
from lastseen.reports.export import Table

_KINDS: Mapping[type, str] = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}


def to_parquet(table: Table) -> bytes:
    """Return a table as a Parquet file; it needs no copy for reports. Raises `StoreError` when the engine fails."""
    kinds = {f"c{place}": _KINDS[kind] for place, kind in enumerate(table.columns.values())}
    text = msgspec.json.encode([dict(zip(kinds, row, strict=True)) for row in table.rows]).decode()
    columns = ", ".join(f"row.c{place} AS {_quoted(name)}" for place, name in enumerate(table.columns))
    select = f"SELECT {columns} FROM (SELECT unnest(from_json($rows::JSON, $shape)) AS row)"  # noqa: S608 - quoted
    values = {"rows": text, "shape": msgspec.json.encode([kinds]).decode()}
    try:
        with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 1}) as connection:
            file = Path(folder, "table.parquet")
            connection.sql(select, params=values).write_parquet(str(file))
            return file.read_bytes()
    except duckdb.Error as error:
        raise StoreError(f"the Parquet file cannot be written: {error}") from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
