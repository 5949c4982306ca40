"""Folders that a power cut does not take with the files in them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder with its parents when it is missing, and make their names durable.

    A synced file is lost with the name of any folder above it, says POSIX
    (https://man7.org/linux/man-pages/man2/fsync.2.html). The two folders above are synced even when nothing was
    missing: the process that made it may have died before it could.
    """
    missing = sum(not each.exists() for each in (folder, *folder.parents))
    folder.mkdir(parents=True, exist_ok=True)
    for parent in folder.parents[: max(missing, 2)]:
        # Some file systems sync no folders, and whoever may not read one cannot; SQLite goes on then, too.
        with suppress(OSError):
            sync_folder(parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable; where folders cannot be synced (Windows) a file's own sync has to do."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
