"""Which copies this process has open, by their files, and what a forked child does with those of its parent.

The engine keeps other processes from a file that is open. Who opens it twice in one process gets the same tables twice,
each with a position of its own, and every change would be applied two times.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from pathlib import Path

from lastseen.reports.copy import CopyInUse

_open: weakref.WeakValueDictionary[Path, object] = weakref.WeakValueDictionary()
_claiming = threading.Lock()


def claim(file: Path, copy: object) -> None:
    """Note that a copy has the file open, until it is released or gone. Raises `CopyInUse` where another one has."""
    with _claiming:
        if _open.setdefault(file.resolve(), copy) is not copy:
            raise CopyInUse(f"this process has the copy for reports open already: {file}; one at a time may")


def release(file: Path, copy: object) -> None:
    """Let the next one have the file; nothing happens the second time."""
    with _claiming:
        if _open.get(file.resolve()) is copy:
            del _open[file.resolve()]


def leave_to_the_parent(copy: object) -> None:
    """Never let go of a copy, in a forked child, and let nobody have its file.

    Whoever closes it, if only at the end of the process, writes the parent's file anew under the parent's hands, and
    waits for threads that a child does not have: it crashed.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(copy))
