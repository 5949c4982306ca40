"""The parts of access logs, handed out to be read and saved, and what became of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from math import inf
from multiprocessing.connection import wait
from types import TracebackType
from typing import BinaryIO

from lastseen.cli.files import FileProgress
from lastseen.cli.lines import BrokenFile
from lastseen.cli.log_reading import Repetitions, read_chunks
from lastseen.cli.log_saving import LEAVE, Beginning, Chunks, PartReport, PartSaver, Worker, can_fork, load_rules
from lastseen.cli.unread import Unread
from lastseen.errors import LastSeenError

ALONE_UP_TO = 4 * 1024 * 1024
"""So many bytes are read in this process: to start another takes a third of a second of a processor."""
MOST_WORKERS = 3
"""One saves at a time, which takes half as long as reading does."""


def parts_of(stream: BinaryIO, size: int, left: Callable[[], float] = lambda: inf) -> Iterator[Chunks]:
    """Yield the lines of a stream in parts of about so many bytes; the first are smaller, see `sizes_of_parts`.

    `left` says how many times as much as was read is still to come: the last parts are smaller too, so that the
    processes that save them end at about the same time. Raises `BrokenFile` or `OSError` after the part that came
    before.
    """
    chunks: list[tuple[int, bytes]] = []
    found, whole, sizes = 0, 0, sizes_of_parts(size)
    enough = next(sizes)
    try:
        for number, chunk in read_chunks(stream):
            chunks.append((number, chunk))
            found += len(chunk)
            if found >= enough:
                yield chunks
                whole += found
                chunks, found = [], 0
                enough = int(min(next(sizes), max(whole * left() / 2, size // 8)))
    except (BrokenFile, OSError):
        if chunks:
            yield chunks
        raise
    if chunks:
        yield chunks


def sizes_of_parts(size: int) -> Iterator[int]:
    """Yield how large each part is to be, so that saving begins soon and then waits for nobody.

    The first two are read at once; a part that were much larger than the one before would be read long after that is
    saved.
    """
    yield size // 8
    growing = size // 4
    while growing < size:
        yield growing
        growing += growing // 4 + 1
    yield from repeat(size)


@dataclass(slots=True)
class Summary(Unread):
    """What an import did so far."""

    lines: int = 0
    events: int = 0
    saved: int = 0
    """How many of the events are in the database for certain."""
    new: int = 0
    """How many were not there before; without what a process had saved when it was killed and could not say so."""
    visits: int | None = None
    """Of the site, at the end."""
    has_host: bool = False
    """Whether any event says on which host its page is."""

    @property
    def good_lines(self) -> int:
        """Lines that say what was requested, page view or not."""
        return self.lines - self.bad_lines


@dataclass(slots=True, eq=False)
class _Part:
    """A part that is on its way."""

    file: str
    chunks: Chunks
    repetitions: Repetitions
    report: PartReport | None = None
    repeated: dict[int, int] = field(default_factory=dict)
    """Which of its events repeat earlier lines, once that is told apart."""


class Importer:
    """Hands parts to processes, takes them up in their order, and lets one save at a time; a context manager.

    `expected` is how many bytes there will be at least: from `ALONE_UP_TO` on other processes read and save, and start
    at once. Without that it turns out to be long after a while. Raises the error of a save that fails. A part whose
    process was killed is saved by this one.
    """

    def __init__(self, summary: Summary, *, expected: int = 0, most_workers: int | None = None) -> None:
        self._summary = summary
        self._most_workers = min(MOST_WORKERS, os.cpu_count() or 1) if most_workers is None else most_workers
        self._bytes = expected
        self._workers: dict[Worker, _Part | None] = {}
        self._unread: deque[_Part] = deque()
        """In their order; what came before them is not known yet."""
        self._waiting: deque[_Part] = deque()
        """In their order; for leave to be saved."""
        self._saving: Worker | None = None
        self._read: _Part | None = None
        """What was read last in this process, and is not saved."""
        self._is_written_back = True
        self._beginning: Beginning | None = None
        if expected > ALONE_UP_TO:
            self._start()

    def __enter__(self) -> Importer:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """End the other processes, each when it has saved what it is saving; again, nothing."""
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    @property
    def helpers(self) -> list[int]:
        """The ids of the other processes."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def begin(self, beginning: Beginning, here: PartSaver, progress: FileProgress) -> None:
        """Say what to do with parts, before the first of them; `here` is for those that no other process takes."""
        self._beginning, self._here, self._progress = beginning, here, progress
        for worker in self._workers:
            worker.send(beginning)

    def take(self, file: str, chunks: Chunks, repetitions: Repetitions) -> None:
        """Import a part, or hand it to a process; parts come in the order of their lines."""
        part = _Part(file, chunks, repetitions)
        self._bytes += sum(len(chunk) for _, chunk in chunks)
        if not self._workers and self._bytes > ALONE_UP_TO:
            self._start()
        self._unread.append(part)
        while self._workers and self._idle() is None:
            self._hear()
        worker = self._idle()
        if worker is None:
            self._read_here(part)
            self._give_leave()
        else:
            self._workers[worker] = part
            worker.send_part(chunks)
            self._write_back()
        self._progress.update()

    def finish(self) -> None:
        """Wait until everything is saved."""
        while any(self._workers.values()):
            self._hear()

    def _start(self) -> None:
        number, self._most_workers = self._most_workers, 0
        if number <= 1:
            return
        # Nothing is open yet that a fork must not have, when this is the beginning.
        may_fork = self._beginning is None and can_fork()
        if may_fork:
            load_rules()
        # Where no more processes are to be had, fewer do the same, or this one alone.
        with suppress(OSError):
            for _ in range(number):
                self._workers[Worker(self._workers, may_fork=may_fork)] = None
        if self._beginning is not None:
            for worker in self._workers:
                worker.send(self._beginning)

    def _write_back(self) -> None:
        """Do what makes nobody wait but the disk while the others read and save."""
        if not self._is_written_back:
            self._here.write_back()
            self._is_written_back = True

    def _idle(self) -> Worker | None:
        return next((worker for worker, part in self._workers.items() if part is None), None)

    def _hear(self) -> None:
        """Wait for answers, and go on with what they allow."""
        busy = [(worker, part) for worker, part in self._workers.items() if part is not None]
        answering = wait([worker.connection for worker, _ in busy])
        for worker, part in busy:
            if worker.connection not in answering:
                continue
            try:
                answer = worker.receive()
            except (EOFError, OSError):
                self._lose(worker, part)
            else:
                self._take_up(worker, part, answer)
        self._give_leave()

    def _take_up(self, worker: Worker, part: _Part, answer: PartReport | int | LastSeenError) -> None:
        if isinstance(answer, LastSeenError):
            raise answer
        if isinstance(answer, PartReport):
            part.report = answer
            self._tell_apart()
        else:
            self._workers[worker] = self._saving = None
            self._is_written_back = False
            self._note_saved(part, answer)

    def _lose(self, worker: Worker, part: _Part) -> None:
        """Take over from a process that was killed, short of memory perhaps."""
        del self._workers[worker]
        worker.close()
        worker.join()
        if self._saving is worker:
            self._saving = None
            self._waiting.appendleft(part)
        elif part.report is None:
            self._read_here(part)

    def _read_here(self, part: _Part) -> None:
        part.report, self._read = self._here.read(part.chunks), part
        self._tell_apart()

    def _tell_apart(self) -> None:
        """Take up the parts that were read, as far as nothing before them is missing."""
        while self._unread and (report := self._unread[0].report) is not None:
            part = self._unread.popleft()
            self._note(part.file, report)
            part.repeated = part.repetitions.among(report.keys)
            self._waiting.append(part)
            owner = self._owner(part)
            if owner is not None:
                owner.send(part.repeated)

    def _give_leave(self) -> None:
        """Let the next part be saved as soon as none is; here, where no other process has it."""
        while self._waiting and self._saving is None:
            part = self._waiting.popleft()
            self._saving = self._owner(part)
            if self._saving is None:
                self._save_here(part)
            else:
                self._saving.send(LEAVE)

    def _owner(self, part: _Part) -> Worker | None:
        return next((worker for worker, its_part in self._workers.items() if its_part is part), None)

    def _save_here(self, part: _Part) -> None:
        if self._read is not part:
            self._here.read(part.chunks)
        self._read = None
        self._here.prepare(part.repeated)
        self._note_saved(part, self._here.save())

    def _note(self, file: str, report: PartReport) -> None:
        summary = self._summary
        summary.lines += report.lines
        summary.events += report.events
        summary.has_host = summary.has_host or report.has_host
        for number, reason in report.bad_lines:
            summary.note_bad_line(file, number, reason, self._progress)

    def _note_saved(self, part: _Part, new: int) -> None:
        assert part.report is not None  # noqa: S101 - it was read before
        self._summary.new += new
        self._summary.saved += part.report.events
