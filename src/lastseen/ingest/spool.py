"""Where acknowledged events wait on disk while the database is away.

A folder of append-only files, each a run of records: length, checksum, JSON. What was appended is synced before anybody
hears of it. A file is read up to its first record that is not whole; nothing behind that is believed.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from lastseen.errors import StoreUnavailable
from lastseen.stores.folders import make_folder, sync_folder
from lastseen.visits.event import Event

MAGIC = b"lastseen spool 1\n"
SEGMENT_BYTES = 8 * 1024 * 1024
"""A file is removed when all of it is stored, so this is how closely the size on disk follows what waits."""

_HEAD = struct.Struct("<II")
_MAX_FOLDERS = 16
_logger = logging.getLogger("lastseen.ingest")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Event]).decode


class SpoolFull(StoreUnavailable):
    """The spool has as many bytes as it may have, or the disk has no more: try again when the database is back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """What could not be read: `lost` bytes of a file from `offset` on. The file is kept beside, for whoever looks."""

    file: Path
    offset: int
    lost: int


class Spool:
    """The waiting events of one process; used by one thread. `limit` bounds its bytes on disk.

    Nothing is made on disk before the first append; what an earlier process left is found when it opens. A process that
    dies while it stores what waited stores it again: the ids of the events make that harmless.
    """

    def __init__(self, folder: Path, limit: int, *, on_damage: Callable[[Damage], object] | None = None) -> None:
        self._root = folder
        self._limit = limit
        self._on_damage = on_damage
        self._folder: Path | None = None
        self._lock: BinaryIO | None = None
        self._segments: list[_Segment] = []
        self._writing: FileIO | None = None
        self.size = 0
        """Bytes on disk."""
        self.waiting = 0
        """Events that were appended by this process or found, and are not removed yet."""
        if folder.exists():
            self._own_folder()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments

    def append(self, batches: Sequence[Sequence[Event]]) -> int:
        """Add whole batches, in their order, as many as there is room for, and sync; returns how many were added.

        Raises `SpoolFull` when not even the first one fits or the disk refuses, and then keeps nothing of the call.
        """
        records = [_record(batch) for batch in batches]
        taken, size = 0, self.size
        for record in records:
            size += len(record)
            if size > self._limit:
                break
            taken += 1
        if taken == 0:
            raise SpoolFull(f"the spool has its {self._limit} bytes; it empties when the database is back")
        try:
            self._write(b"".join(records[:taken]))
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
        if segment.damage is None:
            segment.path.unlink(missing_ok=True)
        else:
            with suppress(OSError):
                segment.path.rename(segment.path.with_suffix(".damaged"))

    def close(self) -> None:
        """Close the files; what waits stays on disk."""
        self._stop_writing()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._folder is not None and self.is_empty:
            with suppress(OSError):
                (self._folder / "lock").unlink()
                self._folder.rmdir()
                self._root.rmdir()
        self._folder = None

    def _write(self, data: bytes) -> None:
        file, segment = self._file_for_writing()
        before = segment.size
        try:
            _write_all(file, data)
            os.fsync(file.fileno())
        except OSError:
            # Whatever reached the disk of it must not stand in front of what comes later.
            self._writing = None
            with suppress(OSError):
                file.truncate(before)
            with suppress(OSError):
                file.close()
            raise
        segment.size += len(data)
        self.size += len(data)
        if segment.size >= SEGMENT_BYTES:
            self._stop_writing()

    def _file_for_writing(self) -> tuple[FileIO, _Segment]:
        if self._writing is None:
            folder = self._own_folder()
            number = 1 + max((int(path.stem) for path in folder.glob("[0-9]*.*")), default=0)
            path = folder / f"{number:08}.spool"
            # Unbuffered: a write that failed half leaves nothing in a buffer to be written later.
            file = path.open("xb", buffering=0)
            try:
                _write_all(file, MAGIC)
                os.fsync(file.fileno())
                sync_folder(folder)
            except OSError:
                file.close()
                with suppress(OSError):
                    path.unlink()
                raise
            self._writing = file
            self._segments.append(_Segment(path, len(MAGIC)))
            self.size += len(MAGIC)
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
                self._lock = _lock(folder / "lock")
                if self._lock is not None:
                    self._folder = folder
                    self._find_segments(folder)
                    return folder
            raise SpoolFull(f"{_MAX_FOLDERS} other processes use {self._root}")
        return self._folder

    def _find_segments(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.spool")):
            segment = _Segment(path, path.stat().st_size)
            self._segments.append(segment)
            self.size += segment.size
            self.waiting += sum(len(batch) for batch in segment.read())

    def _report(self, damage: Damage) -> None:
        _logger.error(
            "%s is damaged from byte %d on: the %d bytes behind it cannot be stored; the file is kept",
            damage.file,
            damage.offset,
            damage.lost,
        )
        if self._on_damage is not None:
            self._on_damage(damage)


class _Segment:
    """One file."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.events = 0
        self.damage: Damage | None = None

    def read(self) -> Iterator[list[Event]]:
        """Yield the batches up to the first record that is not whole; `damage` says then what is behind it."""
        self.damage, self.events = None, 0
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                self._damaged(0)
                return
            offset = len(MAGIC)
            while head := file.read(_HEAD.size):
                batch = _batch_of(file, head)
                if batch is None:
                    self._damaged(offset)
                    return
                offset = file.tell()
                self.events += len(batch)
                yield batch

    def _damaged(self, offset: int) -> None:
        self.damage = Damage(file=self.path, offset=offset, lost=self.path.stat().st_size - offset)


def _record(batch: Sequence[Event]) -> bytes:
    payload = _encode(list(batch))
    return _HEAD.pack(len(payload), _checksum(payload)) + payload


def _batch_of(file: BinaryIO, head: bytes) -> list[Event] | None:
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    payload = file.read(length)
    if len(payload) < length or _checksum(payload) != checksum:
        return None
    try:
        return _decode(payload)
    except msgspec.MsgspecError:
        return None


def _checksum(payload: bytes) -> int:
    # The length goes in too: a record that lost its tail is none, whatever the tail was.
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock(path: Path) -> BinaryIO | None:
    """Hold the file as long as it stays open; None while another process holds it."""
    file = path.open("ab")
    try:
        import fcntl
    except ImportError:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
