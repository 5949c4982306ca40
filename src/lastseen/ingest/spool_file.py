"""One file of the spool: a SQLite database that is only added to, and read as a whole.

It is not in WAL mode: SQLite leaves out what stands behind a damaged place of a write-ahead log and tells nobody.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from lastseen.ingest.salvage import CHECKSUM, PAGE, candidates
from lastseen.stores.folders import sync_folder

SUFFIX = ".spool"

CREATE = "CREATE TABLE batches (number INTEGER PRIMARY KEY, checksum BLOB NOT NULL, events BLOB NOT NULL)"
ADD = "INSERT INTO batches (number, checksum, events) VALUES (?, ?, ?)"
READ = "SELECT number, checksum, events FROM batches ORDER BY number"
CHECK = "PRAGMA quick_check(1)"

_SYNCHRONOUS = "FULL"
_BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite may leave beside a file; a wrong bit can tell it to use a log."""
_NOT_THE_FILES_FAULT = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM}


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Payloads in their order, and whether these are all that were added."""

    payloads: list[bytes]
    is_whole: bool


class SpoolWriter:
    """A new file, held by this process alone; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Make the file, and its name durable. Raises `OSError`, and leaves nothing then."""
        self._path = path
        self._count = 0
        try:
            self._connection = _connect(path)
        except sqlite3.Error as error:
            remove(path)
            raise OSError(f"cannot make {path}: {error}") from error
        try:
            self._connection.execute(CREATE)
            sync_folder(path.parent)
        except (sqlite3.Error, OSError) as error:
            self.close()
            remove(path)
            raise OSError(f"cannot make {path}: {error}") from error

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added."""
        return self._count == 0

    def add(self, payloads: Sequence[bytes]) -> int:
        """Add payloads, all or none, and sync; return the size of the file.

        Raises `OSError`; the writer can only be closed then.
        """
        numbered = enumerate(payloads, self._count + 1)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                ADD, ((number, _checksum(number, payload), payload) for number, payload in numbered)
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OSError(f"cannot write {self._path}: {error}") from error
        self._count += len(payloads)
        return self._path.stat().st_size

    def close(self) -> None:
        """Close the file; what was not added as a whole is taken back, now or when the file is read."""
        with suppress(sqlite3.Error):
            self._connection.close()


def read(path: Path) -> Content:
    """Return what is in a file; of a damaged one whatever has a right checksum.

    Raises `OSError` when it cannot be read now.
    """
    found, is_whole = _ask(path)
    if not is_whole:
        data = path.read_bytes()
        is_whole = not data  # its writer died before there was a table
        for row in candidates(data):
            _keep_if_right(found, *row)
    payloads = [found[number] for number in sorted(found)]
    return Content(payloads=payloads, is_whole=is_whole)


def remove(path: Path, *, keep_as: Path | None = None) -> None:
    """Remove a file, or give it another name, and remove what SQLite left beside it."""
    with suppress(OSError):
        if keep_as is None:
            path.unlink()
        else:
            path.rename(keep_as)
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _ask(path: Path) -> tuple[dict[int, bytes], bool]:
    """Return what SQLite reads, by number, and whether it finds that to be everything."""
    found: dict[int, bytes] = {}
    is_whole = False
    try:
        with closing(_connect(path)) as connection:
            is_whole = connection.execute(CHECK).fetchone() == (b"ok",)
            for row in connection.execute(READ):
                is_whole &= _keep_if_right(found, *row)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # `sqlite3` cannot decode a message that tells of a wrong byte
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILES_FAULT:
            raise OSError(f"cannot read {path}: {error}") from error
        is_whole = False
    return found, is_whole and list(found) == list(range(1, len(found) + 1))


def _keep_if_right(found: dict[int, bytes], number: object, checksum: object, payload: object) -> bool:
    is_right = isinstance(number, int) and isinstance(payload, bytes) and checksum == _checksum(number, payload)
    if is_right:
        found[number] = payload  # type: ignore[index,assignment] # just tested
    return is_right


def _checksum(number: int, payload: bytes) -> bytes:
    # The number goes in too: a batch at another place is a wrong one.
    return hashlib.blake2b(payload, digest_size=CHECKSUM, key=b"%d" % number).digest()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = bytes
        # No other process has the file. FULL syncs the end of a truncated journal, too, so that a commit stays one.
        for setting in (
            f"page_size = {PAGE}",
            "locking_mode = EXCLUSIVE",
            "journal_mode = TRUNCATE",
            f"synchronous = {_SYNCHRONOUS}",
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:  # a wrong byte is a `UnicodeDecodeError`, see `_ask`
        connection.close()
        raise
    return connection
