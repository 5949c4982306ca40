"""Where the copies for reports are, and who may have one open."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lastseen.errors import StoreUnavailable, missing_extra
from lastseen.reports.copy import CopyInUse, ReportCopy

MEMORY_LIMIT = "2GB"
"""Beyond this the engine sorts and groups on disk."""
MOST_COPIES = 8
"""So many may be open of the same database in the same folder."""


def open_copy(folder: Path | None, address: str, truth: str, *, or_a_temporary_one: bool = False) -> ReportCopy:
    """Open a copy of the database at `address`, a file in the folder; without a folder it is in memory.

    A file is open once: whoever comes beside, another process mostly, takes the second, the third, and finds it there
    the next time, so that only what is new is copied. One that nobody has open may be deleted. `truth` tells one
    database from another at the same address: the copy of another one is thrown away. Raises `CopyInUse` when as many
    as may are open, `StoreUnavailable` where the folder cannot be written; `or_a_temporary_one` makes a copy then that
    ends with the process.
    """
    try:
        from lastseen.stores.columnar.duckdb import DuckDBCopy
    except ImportError as error:
        raise missing_extra(error, "reports need DuckDB: pip install 'lastseen[server]'", "duckdb") from error
    if folder is None:
        return DuckDBCopy(None, truth=truth, memory=MEMORY_LIMIT)
    paths = [folder / name for name in _names(address)]
    try:
        return _open_first(paths, lambda path: DuckDBCopy(path, truth=truth, memory=MEMORY_LIMIT))
    except (CopyInUse, StoreUnavailable):
        if not or_a_temporary_one:
            raise
    temporary = tempfile.TemporaryDirectory(prefix="lastseen-reports-")
    path = Path(temporary.name, paths[0].name)
    return DuckDBCopy(path, truth=truth, memory=MEMORY_LIMIT, on_close=temporary.cleanup)


def look_at_copies(folder: Path, address: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each copy in the folder and how it is; changes nothing."""
    try:
        import duckdb

        from lastseen.stores.columnar.duckdb import is_locked
    except ImportError as error:
        raise missing_extra(error, "reports need DuckDB: pip install 'lastseen[server]'", "duckdb") from error
    for name in _names(address):
        path = folder / name
        if not path.is_file():
            continue
        try:
            duckdb.connect(str(path), read_only=True).close()
        except duckdb.IOException as error:
            yield name, "in use" if is_locked(error) else "cannot be read; the next report makes it again"
        except duckdb.Error:
            yield name, "cannot be read; the next report makes it again"
        else:
            yield name, f"{path.stat().st_size:,} bytes"


def _open_first(paths: Sequence[Path], open_at: Callable[[Path], ReportCopy]) -> ReportCopy:
    *others, last = paths
    for path in others:
        with suppress(CopyInUse):
            return open_at(path)
    return open_at(last)


def _names(address: str) -> Iterator[str]:
    name = f"reports-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
    yield f"{name}.duckdb"
    for number in range(2, MOST_COPIES + 1):
        yield f"{name}-{number}.duckdb"
