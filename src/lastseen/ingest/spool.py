"""Where acknowledged events wait on disk while the database is away.

A folder of small SQLite files, each a run of batches. What was appended is synced before anybody hears of it; what is
read has a right checksum, also out of a damaged file, and nothing else is believed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from lastseen.errors import StoreUnavailable
from lastseen.ingest.salvage import PAGE
from lastseen.ingest.spool_file import SUFFIX, SpoolWriter, read, remove
from lastseen.stores.folders import make_folder
from lastseen.visits.event import Event

SEGMENT_BYTES = 4 * 1024 * 1024
"""A file is removed when all of it is stored, so this is how closely the size on disk follows what waits."""

_SPARE = 8 * PAGE
"""What a new file and the pages above those of the rows need."""
_MAX_FOLDERS = 16
_LOCK = "lock"
_logger = logging.getLogger("lastseen.ingest")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Event]).decode


class SpoolFull(StoreUnavailable):
    """The spool has as many bytes as it may have, or the disk has no more: try again when the database is back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A file that is not whole. It is kept beside, for whoever looks.

    `found` batches of it could be read; the other `lost` bytes hold what could not be, and what SQLite itself needs.
    """

    file: Path
    found: int
    lost: int


class Spool:
    """The waiting events of one process; used by one thread. `limit` bounds its bytes on disk.

    Nothing is made on disk before the first append. What earlier processes left is found when it opens and with
    `adopt`, also in the folders of those that ran beside. A process that dies while it stores what waited stores it
    again: the ids of the events make that harmless.
    """

    def __init__(self, folder: Path, limit: int, *, on_damage: Callable[[Damage], object] | None = None) -> None:
        self._root = folder
        self._limit = limit
        self._on_damage = on_damage
        self._folder: Path | None = None
        """Where this process writes; it may have others, of which it only reads."""
        self._locks: dict[Path, BinaryIO] = {}
        self._segments: list[_Segment] = []
        self._writing: SpoolWriter | None = None
        self.size = 0
        """Bytes on disk."""
        self.waiting = 0
        """Events that were appended by this process or found, and are not removed yet."""
        if folder.exists():
            self._own_folder()
            self.adopt()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments

    def append(self, batches: Sequence[Sequence[Event]]) -> int:
        """Add whole batches, in their order, as many as there is room for, and sync; returns how many were added.

        Raises `SpoolFull` when not even the first one fits or the disk refuses, and then keeps nothing of the call.
        """
        payloads = [_encode(list(batch)) for batch in batches]
        taken, size = 0, self.size + _SPARE
        for payload in payloads:
            size += _most_bytes(payload)
            if size > self._limit:
                break
            taken += 1
        if taken == 0:
            raise SpoolFull(f"the spool has its {self._limit} bytes; it empties when the database is back")
        try:
            self._write(payloads[:taken])
        except OSError as error:
            raise SpoolFull(f"the spool cannot be written: {error}") from error
        self.waiting += sum(len(batch) for batch in batches[:taken])
        return taken

    def oldest(self) -> Iterator[list[Event]]:
        """Go through the batches of the oldest file; afterwards `remove_oldest` forgets that file.

        What is appended meanwhile goes to another file.
        """
        self._stop_writing()
        segment = self._segments[0]
        yield from segment.read()
        if segment.damage is not None:
            self._report(segment.damage)

    def remove_oldest(self) -> None:
        """Forget the oldest file; all that could be read of it is stored elsewhere by now."""
        segment = self._segments.pop(0)
        self.size -= segment.size
        self.waiting = max(self.waiting - segment.events, 0) if self._segments else 0
        remove(segment.path, keep_as=segment.path.with_suffix(".damaged") if segment.damage else None)

    def adopt(self) -> None:
        """Take over what waits in folders whose processes are gone."""
        for folder in sorted(self._root.glob("[0-9]*")):
            if folder in self._locks or not any(folder.glob(f"*{SUFFIX}")):
                continue
            if self._take(folder):
                _logger.info("%s was left by another process; its events are stored from here", folder)

    def close(self) -> None:
        """Close the files; what waits stays on disk."""
        self._stop_writing()
        left = {segment.path.parent for segment in self._segments}
        for folder, lock in self._locks.items():
            if folder not in left:
                with suppress(OSError):
                    (folder / _LOCK).unlink()
                    folder.rmdir()
            # Only now: until then nobody takes what is about to go.
            lock.close()
        if self._locks:
            with suppress(OSError):
                self._root.rmdir()
        self._locks = {}
        self._folder = None

    def _write(self, payloads: Sequence[bytes]) -> None:
        writer, segment = self._file_for_writing()
        try:
            size = writer.add(payloads)
        except OSError:
            # Whatever reached the disk of it must not stand in front of what comes later.
            self._stop_writing()
            if writer.is_empty:
                # Clients come again and again while a disk is full: each would leave a file.
                self._forget(segment)
            raise
        self._grow(segment, size)
        if size >= SEGMENT_BYTES:
            self._stop_writing()

    def _forget(self, segment: _Segment) -> None:
        with suppress(OSError):
            remove(segment.path)
            self._segments.remove(segment)
            self.size -= segment.size

    def _grow(self, segment: _Segment, size: int) -> None:
        self.size += size - segment.size
        segment.size = size

    def _file_for_writing(self) -> tuple[SpoolWriter, _Segment]:
        if self._writing is None:
            folder = self._own_folder()
            # Whoever looked at a damaged file may have left a copy with a name of their own.
            names = (path.name.partition(".")[0] for path in folder.glob("[0-9]*.*"))
            number = 1 + max((int(name) for name in names if name.isdecimal()), default=0)
            path = folder / f"{number:08}{SUFFIX}"
            self._writing = SpoolWriter(path)
            self._segments.append(_Segment(path))
            self._grow(self._segments[-1], path.stat().st_size)
        return self._writing, self._segments[-1]

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _own_folder(self) -> Path:
        """Take the first folder that no other process has; another server may share the place."""
        if self._folder is None:
            for number in range(1, _MAX_FOLDERS + 1):
                folder = self._root / str(number)
                make_folder(folder)
                if self._take(folder):
                    self._folder = folder
                    return folder
            raise SpoolFull(f"{_MAX_FOLDERS} other processes use {self._root}")
        return self._folder

    def _take(self, folder: Path) -> bool:
        """Make a folder this process's own, with what waits there; False while another process has it."""
        lock = _lock(folder / _LOCK)
        if lock is None:
            return False
        self._locks[folder] = lock
        self._find_segments(folder)
        return True

    def _find_segments(self, folder: Path) -> None:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            segment = _Segment(path)
            self._segments.append(segment)
            self.waiting += sum(len(batch) for batch in segment.read())
            self._grow(segment, path.stat().st_size)

    def _report(self, damage: Damage) -> None:
        _logger.error(
            "%s is damaged: %d batches of it are stored, the other %d bytes cannot be; the file is kept",
            damage.file,
            damage.found,
            damage.lost,
        )
        if self._on_damage is not None:
            self._on_damage(damage)


class _Segment:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.events = 0
        self.damage: Damage | None = None

    def read(self) -> Iterator[list[Event]]:
        """Yield the batches that can be read; `damage` says then whether these are not all."""
        content = read(self.path)
        batches = [batch for payload in content.payloads if (batch := _batch(payload)) is not None]
        self.events = sum(map(len, batches))
        if not content.is_whole or len(batches) < len(content.payloads):
            lost = self.path.stat().st_size - sum(map(len, content.payloads))
            self.damage = Damage(file=self.path, found=len(batches), lost=max(lost, 0))
        yield from batches


def _most_bytes(payload: bytes) -> int:
    """Return what a payload may take on disk: its last page may hold nothing else, and the page before it a gap."""
    return len(payload) + min(len(payload) + 128, 2 * PAGE)


def _batch(payload: bytes) -> list[Event] | None:
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _lock(path: Path) -> BinaryIO | None:
    """Hold the file as long as it stays open; None while another process holds it, or has just removed it."""
    try:
        file = path.open("ab")
    except FileNotFoundError:
        return None
    try:
        import fcntl
    except ImportError:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except OSError:
        pass
    file.close()
    return None
