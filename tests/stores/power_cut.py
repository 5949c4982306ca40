"""A disk that forgets at a power cut what was not synced, and what records the writes of SQLite for it.

`record_sqlite` puts itself between the SQLite library that `sqlite3` uses and the system: a virtual file system
(https://www.sqlite.org/vfs.html) that forwards every call to the default one and notes what changes a file. `Disk` goes
through such notes, and can be cut at each of them.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
"""What a disk writes whole or not at all; https://www.sqlite.org/atomiccommit.html#_hardware_assumptions."""

Step = tuple[Any, ...]
"""One thing that changes a file or a folder, by name: see the methods of `Disk`. `note` is for the test itself."""

# Disk


@dataclass(slots=True)
class File:
    """What is on the disk for good, and what may be, in the order in which it was done."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Bytes at an offset; or None: cut at that size."""

    def content(self, keep: Callable[[], bool] = lambda: True) -> bytes:
        """Return what is read after a cut that left of the pending what `keep` says, sector by sector."""
        found = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if keep():
                    del found[offset:]
                    found.extend(bytes(offset - len(found)))
                continue
            for start, piece in _sectors(offset, data):
                if keep():
                    found.extend(bytes(max(start - len(found), 0)))
                    found[start : start + len(piece)] = piece
        return bytes(found)

    def sync(self) -> None:
        """Bring everything to the disk."""
        self.durable, self.pending = self.content(), []


@dataclass(slots=True)
class Folder:
    """Names that are on the disk for good, and those that programs see."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    current: dict[str, File | Folder] = field(default_factory=dict)

    def sync(self) -> None:
        """Bring the names to the disk; what they stand for is not, by that."""
        self.durable = dict(self.current)


class Disk:
    """A folder on a disk with a cache that is written back in any order; paths are relative to the folder.

    Stricter than file systems are: they keep names in the order in which they were made, and sizes with contents.
    """

    def __init__(self, folder: Path) -> None:
        self._top = _read(folder)

    def take(self, step: Step) -> None:
        """Do what was recorded."""
        kind, path, *rest = step
        if kind != "note":
            getattr(self, f"_{kind}")(path, *rest)

    def cut(self, target: Path, dice: random.Random) -> None:
        """Make a new folder of what a power cut at this moment may leave."""
        _write(self._top, target, dice)

    def _create(self, path: str) -> None:
        folder, name = self._place(path)
        folder.current.setdefault(name, File())

    def _create_folder(self, path: str) -> None:
        folder, name = self._place(path)
        folder.current[name] = Folder()

    def _write(self, path: str, offset: int, data: bytes) -> None:
        self._file(path).pending.append((offset, data))

    def _truncate(self, path: str, size: int) -> None:
        self._file(path).pending.append((size, None))

    def _sync(self, path: str) -> None:
        node: File | Folder = self._top
        for name in Path(path).parts:
            assert isinstance(node, Folder)
            node = node.current[name]
        node.sync()

    def _delete(self, path: str) -> None:
        folder, name = self._place(path)
        del folder.current[name]

    def _file(self, path: str) -> File:
        folder, name = self._place(path)
        found = folder.current[name]
        assert isinstance(found, File)
        return found

    def _place(self, path: str) -> tuple[Folder, str]:
        *folders, name = Path(path).parts
        folder = self._top
        for each in folders:
            found = folder.current[each]
            assert isinstance(found, Folder)
            folder = found
        return folder, name


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        size = SECTOR - (offset + start) % SECTOR
        yield offset + start, data[start : start + size]
        start += size


def _read(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        if not path.name.endswith("-shm"):
            found.current[path.name] = _read(path) if path.is_dir() else File(path.read_bytes())
    found.sync()
    return found


def _write(folder: Folder, target: Path, dice: random.Random) -> None:
    target.mkdir()
    for name in sorted(folder.durable.keys() | folder.current.keys()):
        node = dice.choice((folder.durable, folder.current)).get(name)
        if isinstance(node, Folder):
            _write(node, target / name, dice)
        elif node is not None:
            # All or nothing of a file is as likely as a part: what the others have must then be enough.
            share = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            (target / name).write_bytes(node.content(lambda share=share: dice.random() < share))  # type: ignore[misc]


# SQLite

_VERSION_3 = 3
_IO_ERROR = 10
_OPEN_CREATE = 0x4
_OPEN_MAIN_DB = 0x100
_OPEN_MAIN_JOURNAL = 0x800
_OPEN_SUPER_JOURNAL = 0x4000
_OPEN_WAL = 0x80000
_KEPT = _OPEN_MAIN_DB | _OPEN_MAIN_JOURNAL | _OPEN_SUPER_JOURNAL | _OPEN_WAL
_SYNCS_ITS_NAME = _OPEN_MAIN_JOURNAL | _OPEN_SUPER_JOURNAL | _OPEN_WAL
"""The first sync of such a file, if its opener was ready to make it, syncs the folder too (`unixSync`)."""

_Write = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Close = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_Open = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names]


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, https://www.sqlite.org/c3ref/io_methods.html."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        *_pointers("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock"),
        *_pointers("xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics"),
        *_pointers("xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch"),
    ]


class _FileHead(ctypes.Structure):
    """`sqlite3_file`: what follows belongs to the file system that opened it."""

    _fields_ = [("pMethods", ctypes.POINTER(_Methods))]


class _System(ctypes.Structure):
    """`sqlite3_vfs`, https://www.sqlite.org/c3ref/vfs.html."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        *_pointers("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose"),
        *_pointers("xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64"),
        *_pointers("xSetSystemCall", "xGetSystemCall", "xNextSystemCall"),
    ]


class CannotHook(RuntimeError):
    """Python's SQLite library cannot be reached from here, so nothing could be said about power cuts."""


def record_sqlite(folder: Path, steps: list[Step]) -> None:
    """From now on add to the steps what all SQLite connections of this process do to files below a folder.

    And which folders Python makes and syncs there.

    For a process of its own: it cannot be taken back. Raises `CannotHook`.
    """
    try:
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        recorder = _Recorder(library, str(folder.resolve()), steps)
    except (OSError, AttributeError) as error:
        raise CannotHook(f"the SQLite library of {_sqlite3} cannot be found: {error}") from error
    _recorders.append(recorder)
    prove(folder, steps)
    _record_folders(folder.resolve(), steps)


_recorders: list[_Recorder] = []
"""SQLite calls them as long as the process lives."""


def prove(folder: Path, steps: list[Step]) -> None:
    """Raise `CannotHook` unless a commit of `sqlite3` adds to the steps, and empty them."""
    with tempfile.TemporaryDirectory(dir=folder) as proof:
        connection = sqlite3.connect(Path(proof) / "proof.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE proof (x)")
        connection.close()
        seen = {step[0] for step in steps}
    if not {"create", "write", "sync", "delete"} <= seen:
        raise CannotHook(f"sqlite3 does not use the library that was found with {_sqlite3}: only {seen} was seen")
    steps.clear()


def _record_folders(folder: Path, steps: list[Step]) -> None:
    make, fsync = os.mkdir, os.fsync

    def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
        make(path, *arguments, **options)
        if Path(path).is_relative_to(folder):
            steps.append(("create_folder", str(Path(path).relative_to(folder))))

    def sync(fd: Any) -> None:
        fsync(fd)
        synced = os.fstat(fd)
        folders = (path for path in (folder, *folder.rglob("*")) if path.is_dir())
        steps.extend(
            ("sync", str(path.relative_to(folder))) for path in folders if os.path.samestat(path.stat(), synced)
        )

    os.mkdir, os.fsync = mkdir, sync


class _Recorder:
    """The functions that stand in front of those of the default file system, which do the work."""

    def __init__(self, library: ctypes.CDLL, folder: str, steps: list[Step]) -> None:
        self._folder = folder
        self._steps = steps
        self._open_files: dict[int, tuple[str, int]] = {}
        """By address: the path, and whether its first sync will sync the name, as flags."""
        self._methods: dict[int, _Methods] = {}
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_System)
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        self._default = library.sqlite3_vfs_find(None)
        if not self._default or self._default.contents.iVersion < 1:
            raise CannotHook("the SQLite library has no file system that could be recorded")
        self._callbacks: list[Any] = []
        self._system = _System.from_buffer_copy(self._default.contents)
        self._system.iVersion = min(self._system.iVersion, _VERSION_3)
        self._system.zName = b"recorded"
        self._system.pNext = None
        self._original_open = _Open(self._system.xOpen)
        self._original_delete = _Delete(self._system.xDelete)
        self._system.xOpen = self._called(_Open, self._open)
        self._system.xDelete = self._called(_Delete, self._delete)
        if library.sqlite3_vfs_register(ctypes.byref(self._system), 1):
            raise CannotHook("the SQLite library takes no other file system")

    def _called(self, kind: Any, function: Callable[..., int]) -> int | None:
        """Return the address of a function that C can call; what goes wrong in it is an I/O error, never unseen."""

        def safely(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except BaseException as error:
                self._steps.append(("broken", "", repr(error)))
                return _IO_ERROR

        self._callbacks.append(kind(safely))
        return ctypes.cast(self._callbacks[-1], ctypes.c_void_p).value

    def _open(self, _system: int, name: int | None, file: int, flags: int, out: Any) -> int:
        path = None if name is None else self._below(name)
        is_new = path is not None and not Path(self._folder, path).exists()
        # The name goes on as a pointer: the file system keeps it as long as the file is open.
        result: int = self._original_open(ctypes.addressof(self._default.contents), name, file, flags, out)
        if result == 0 and path is not None and flags & _KEPT:
            head = _FileHead.from_address(file)
            head.pMethods = ctypes.pointer(self._recording(head.pMethods))
            names_itself = flags & _SYNCS_ITS_NAME if flags & _OPEN_CREATE else 0
            self._open_files[file] = (path, names_itself)
            if is_new:
                self._steps.append(("create", path))
        return result

    def _delete(self, _system: int, name: int, syncs_folder: int) -> int:
        path = self._below(name)
        existed = path is not None and Path(self._folder, path).exists()
        result: int = self._original_delete(ctypes.addressof(self._default.contents), name, syncs_folder)
        if path is not None and existed and result == 0:
            self._steps.append(("delete", path))
            if syncs_folder:
                self._steps.append(("sync", os.path.dirname(path)))  # noqa: PTH120 - "" for the folder itself
        return result

    def _recording(self, methods: Any) -> _Methods:
        """Return a copy of a table of methods that records; locks and shared memory stay in C."""
        address = ctypes.addressof(methods.contents)
        if address not in self._methods:
            copy: Any = _Methods.from_buffer_copy(methods.contents)
            copy.xWrite = self._called(_Write, self._writer(_Write(copy.xWrite)))
            copy.xTruncate = self._called(_Truncate, self._truncater(_Truncate(copy.xTruncate)))
            copy.xSync = self._called(_Sync, self._syncer(_Sync(copy.xSync)))
            copy.xClose = self._called(_Close, self._closer(_Close(copy.xClose)))
            self._methods[address] = copy
        return self._methods[address]

    def _writer(self, original: Any) -> Callable[..., int]:
        def write(file: int, data: int, size: int, offset: int) -> int:
            result: int = original(file, data, size, offset)
            self._steps.append(("write", self._open_files[file][0], offset, ctypes.string_at(data, size)))
            return result

        return write

    def _truncater(self, original: Any) -> Callable[..., int]:
        def truncate(file: int, size: int) -> int:
            result: int = original(file, size)
            self._steps.append(("truncate", self._open_files[file][0], size))
            return result

        return truncate

    def _syncer(self, original: Any) -> Callable[..., int]:
        def sync(file: int, flags: int) -> int:
            result: int = original(file, flags)
            path, names_itself = self._open_files[file]
            self._steps.append(("sync", path))
            if names_itself:
                self._steps.append(("sync", os.path.dirname(path)))  # noqa: PTH120 - "" for the folder itself
                self._open_files[file] = (path, 0)
            return result

        return sync

    def _closer(self, original: Any) -> Callable[..., int]:
        def close(file: int) -> int:
            del self._open_files[file]
            result: int = original(file)
            return result

        return close

    def _below(self, name: int) -> str | None:
        """Return the path below the folder that stands at an address, or None for what is elsewhere."""
        path = os.path.realpath(os.fsdecode(ctypes.string_at(name)))
        return os.path.relpath(path, self._folder) if path.startswith(self._folder + os.sep) else None
