"""Parts of an access log, each read and saved by one process; long logs by several at once.

A part is read while the part before it is saved. One process, the first, hands out the parts, and tells apart lines
that repeat themselves, which takes knowing all that came before; it gives leave to save to one at a time, in order.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from operator import attrgetter
from typing import NamedTuple

from lastseen.cli.log_reading import LineReader, LogOptions, keys_of, repeated
from lastseen.errors import LastSeenError
from lastseen.stores import Store, TakesBulk, open_store
from lastseen.stores.visit_batch import prepare
from lastseen.visits.addresses import registrable_domain
from lastseen.visits.event import Event
from lastseen.visits.site import Site
from lastseen.visits.user_agents import read_user_agent

STORE_DEADLINE = timedelta(minutes=1)
"""Other imports and a server may be writing: a batch waits for its turn."""

Chunks = Sequence[tuple[int, bytes]]
"""Whole lines together, with the number of the first."""
LEAVE = None
"""To save."""
_by_id = attrgetter("id")


class PartReport(NamedTuple):
    """What the lines of a part say."""

    lines: int
    events: int
    bad_lines: Sequence[tuple[int, str]]
    """Their numbers, and what is wrong with them."""
    has_host: bool
    """Whether any event says on which host its page is."""
    keys: bytes
    """See `keys_of`."""


class Beginning(NamedTuple):
    """What a process must know before its first part."""

    database_url: str
    site: Site
    options: LogOptions
    batch: int


class PartSaver:
    """Reads one part after the other, and saves each: about `batch` events in one transaction."""

    def __init__(self, store: Store, site: Site, options: LogOptions, batch: int) -> None:
        self._store = store
        self._site = site
        self._reader = LineReader(site, options)
        self._batch = batch
        self._events: list[Event] = []
        self._batches: list[Sequence[Event]] = []

    def read(self, chunks: Chunks) -> PartReport:
        """Read a part, and keep its events until they are saved or the next part is read."""
        self._batches = []
        lines, has_host = 0, False
        events: list[Event] = []
        bad_lines: list[tuple[int, str]] = []
        for number, chunk in chunks:
            found = self._reader.read(number, chunk)
            lines += found.lines
            events += found.events
            bad_lines += found.bad_lines
            has_host = has_host or any(event.url is not None and event.url[:1] != "/" for event in found.events)
        self._events = events
        return PartReport(lines, len(events), bad_lines, has_host, keys_of(events))

    def prepare(self, repetitions: Mapping[int, int]) -> None:
        """Make of the events what can be made of them while others save, given which repeat earlier lines."""
        events = self._events
        for place, count in repetitions.items():
            events[place] = repeated(events[place], count, self._site)
        # Their ids begin with their moments: rows are appended to most indexes then, instead of put between others.
        events.sort(key=_by_id)
        rule, size = self._site.rule, size_of_batches(len(events), self._batch)
        self._batches = [prepare(events[start : start + size], rule) for start in range(0, len(events), size)]
        self._events = []

    def save(self) -> int:
        """Save what was prepared; return how many events were not there yet."""
        # They are forgotten with the next part: to free so much takes time in which the next one waits for this answer.
        new = 0
        for batch in self._batches:
            new += self._store.visits.save(batch, lambda _site: self._site.rule).new
        return new

    def write_back(self) -> None:
        """Let the store tidy up after transactions, this one's and others', where it does that beside them."""
        if isinstance(self._store, TakesBulk):
            self._store.write_back()


def size_of_batches(events: int, wanted: int) -> int:
    """Return how many events of a part go into one batch: about so many; a small rest would wait for a commit, too."""
    return -(-events // max(round(events / wanted), 1)) or wanted


class Worker:
    """Another process that reads and saves parts, as this one sees it; starts at once.

    `others` are those that were started before. With `may_fork` it is a fork of this process, which is there a sixth of
    a second sooner than one that begins anew, and has what was loaded here; only where `can_fork` says so.
    """

    def __init__(self, others: Iterable[Worker] = (), *, may_fork: bool = False) -> None:
        self.connection, its_end = multiprocessing.Pipe()
        if may_fork:
            # A fork has this process's ends too: as long as they were open, no worker would find them closed.
            ends = [self.connection, *(other.connection for other in others)]
            self._process: BaseProcess = multiprocessing.get_context("fork").Process(
                target=_work, args=(its_end, ends), daemon=True
            )
        else:
            self._process = multiprocessing.get_context("spawn").Process(target=_work, args=(its_end,), daemon=True)
        self._process.start()
        its_end.close()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid

    def send(self, what: object) -> None:
        """Hand over what it waits for: its `Beginning`, then in turn a part, which lines repeat others, and `LEAVE`."""
        try:
            self.connection.send(what)
        except OSError:
            # It was killed: that is found out where its answer is missing.
            return

    def send_part(self, chunks: Chunks) -> None:
        """Hand over a part, chunk by chunk: millions of bytes at once take the other end several times as long."""
        self.send(len(chunks))
        for chunk in chunks:
            self.send(chunk)

    def receive(self) -> PartReport | int | LastSeenError:
        """Return its answer to a part, how many events were new, or why they could not be saved.

        Raises `EOFError` or `OSError` when there is no such process any more.
        """
        answer: PartReport | int | LastSeenError = self.connection.recv()
        return answer

    def close(self) -> None:
        """Let it end when it has saved what it is saving."""
        self.connection.close()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()


@contextmanager
def uncollected() -> Iterator[None]:
    """Do without looking for cycles of garbage: events make none, and walking over a batch of them takes a tenth."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def prepare_for_bulk(store: Store) -> None:
    """Tell a store that large batches follow, where that makes a difference."""
    if isinstance(store, TakesBulk):
        store.expect_bulk()


def can_fork() -> bool:
    """Return whether a fork of this process can do anything: locks of other threads would stay locked in it.

    macOS's own libraries have such threads: https://docs.python.org/3/library/multiprocessing.html.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def load_rules() -> None:
    """Load what user agents and host names are told by, which takes a fifth of a second; again, nothing."""
    read_user_agent("Mozilla/5.0")
    registrable_domain("example.org")


def _work(connection: Connection, inherited: Iterable[Connection] = ()) -> None:
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in inherited:
        each.close()
    gc.disable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # When the first process has closed its end.
    with suppress(EOFError, OSError):
        try:
            _save_parts(connection)
        except LastSeenError as error:
            connection.send(error)


def _save_parts(connection: Connection) -> None:
    # The first process opens the database meanwhile.
    load_rules()
    beginning: Beginning = connection.recv()
    store = open_store(beginning.database_url, pool_size=1, deadline=STORE_DEADLINE)
    try:
        prepare_for_bulk(store)
        saver = PartSaver(store, beginning.site, beginning.options, beginning.batch)
        while True:
            connection.send(saver.read([connection.recv() for _ in range(connection.recv())]))
            saver.prepare(connection.recv())
            connection.recv()
            connection.send(saver.save())
    finally:
        store.close()


def _end_with_parent() -> None:
    """End this process when the first one was killed, whatever it is doing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
