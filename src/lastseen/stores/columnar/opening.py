"""Where the copy for reports is, and who may have it open."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from lastseen.errors import MissingExtra
from lastseen.reports.copy import CopyInUse, ReportCopy

MEMORY_LIMIT = "2GB"
"""Beyond this the engine sorts and groups on disk."""


def open_copy(folder: Path | None, address: str, truth: str, *, or_a_temporary_one: bool = False) -> ReportCopy:
    """Open the copy of the database at `address`, a file in the folder; without a folder it is in memory.

    `truth` tells one database from another at the same address: the copy of another one is thrown away. Where another
    process has the file open, `or_a_temporary_one` makes a copy of its own that ends with it; else that is `CopyInUse`.
    """
    try:
        from lastseen.stores.columnar.duckdb import DuckDBCopy
    except ImportError as error:
        raise MissingExtra("reports need DuckDB: pip install 'lastseen[server]'") from error
    if folder is None:
        return DuckDBCopy(None, truth=truth, memory=MEMORY_LIMIT)
    name = f"reports-{hashlib.sha256(address.encode()).hexdigest()[:12]}.duckdb"
    try:
        return DuckDBCopy(folder / name, truth=truth, memory=MEMORY_LIMIT)
    except CopyInUse:
        if not or_a_temporary_one:
            raise
    temporary = tempfile.TemporaryDirectory(prefix="lastseen-reports-")
    return DuckDBCopy(Path(temporary.name, name), truth=truth, memory=MEMORY_LIMIT, on_close=temporary.cleanup)
