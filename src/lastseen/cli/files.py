"""The files that an import reads: looked at before, opened, named in messages, and how far each is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lastseen.cli.output import console
from lastseen.errors import ConfigurationError

STANDARD_INPUT = Path("-")
_TICKS = 1_000
"""Lines between two looks at how far a file is read."""


def require_files(files: Sequence[Path]) -> None:
    """Look before anything is imported; raises `ConfigurationError`."""
    for path in files:
        if path != STANDARD_INPUT and not path.exists():
            raise ConfigurationError(f"there is no file {path}; nothing was imported")
        if path.is_dir():
            raise ConfigurationError(f"{path} is a folder; nothing was imported")


def name_of(path: Path) -> str:
    """Return what a file is called in messages; bytes that are no UTF-8 are spelled out, JSON has no place for them."""
    return "standard input" if path == STANDARD_INPUT else str(path).encode(errors="backslashreplace").decode()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its bytes; `-` is standard input, which stays open."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
    else:
        with path.open("rb") as stream:
            yield stream


class FileProgress:
    """A bar on standard error while that is a terminal; nothing otherwise."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._sizes = {path: path.stat().st_size for path in files if path.is_file()}
        self._console = console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self._stream: BinaryIO | None = None
        self._size = 0
        self._lines = 0

    def __enter__(self) -> FileProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take it away."""
        self._bar.stop()

    def begin(self, name: str, path: Path, stream: BinaryIO) -> None:
        """Show a file; how far it is read is told from its compressed bytes."""
        size = self._sizes.get(path)
        self._task = self._bar.add_task(name, total=size)
        self._stream, self._size = (None, 0) if size is None else (stream, size)

    def tick(self) -> None:
        """Move on now and then."""
        self._lines += 1
        if self._lines % _TICKS == 0:
            self.update()

    def update(self) -> None:
        """Move on to how far the file is read."""
        if self._task is not None and self._stream is not None:
            self._bar.update(self._task, completed=self._stream.tell())

    def left(self) -> float:
        """Return how many times as much as was read of the file is still unread; infinite where that is not known."""
        if self._stream is None or not (read := self._stream.tell()):
            return inf
        return max(self._size - read, 0) / read

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, soft_wrap=True)
