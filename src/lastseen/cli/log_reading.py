"""From the bytes of an access log to events: in this process, or for long logs in several. Asks no clock."""

from __future__ import annotations

import codecs
import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

import msgspec

from lastseen.cli.lines import MAX_LINE, BadLine, read_block
from lastseen.cli.log_lines import Request, parse_request
from lastseen.cli.log_plain import NOT_PLAIN, Makers, PlainLines, is_plain
from lastseen.visits.cookieless import ImportedVisitors
from lastseen.visits.event import PAGEVIEW, Event, Geo
from lastseen.visits.geography import Geography
from lastseen.visits.making import EventMaker, RawEvent, dated_id, is_prefetch
from lastseen.visits.site import Site

REQUEST = "request"
"""The name of events of requests that are no page views."""

BLOCK = 256 * 1024
ALONE_UP_TO = 4 * 1024 * 1024
"""So many bytes are read in this process: to start another takes half a second of a processor."""
AHEAD = 16 * 1024 * 1024
"""So many bytes are handed to other processes before what they say is waited for: what one transaction saves, so that
the next is read meanwhile."""
MOST_HELPERS = 3
"""One reads faster than most databases save."""


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the lines of one import are read."""

    host: str | None = None
    """Of the pages, where a line names none."""
    all_requests: bool = False
    bots: Literal["known", "declared"] = "known"
    latest: int
    """Microseconds; a line after it was written by a wrong clock."""
    geo_database: Path | None = None
    kept_parameters: frozenset[str] = frozenset()


class ReadChunk(msgspec.Struct, frozen=True, kw_only=True):
    """What whole lines say. The events have the ids of lines that came for the first time."""

    lines: int
    events: list[Event]
    bad_lines: list[tuple[int, str]]
    """Their numbers, and what is wrong with them."""


class LineReader:
    """Makes the events of one site from lines."""

    def __init__(self, site: Site, options: LogOptions) -> None:
        self._site = site
        self._options = options
        self._key = site.import_secret[:64]
        visitors = ImportedVisitors(site.id, self._key)
        places = None if options.geo_database is None else Geography(options.geo_database)
        self._maker = EventMaker(
            site,
            visitors=visitors,
            geography=places,
            kept_parameters=options.kept_parameters,
            late_limit=None,
            declared_bots_only=options.bots == "declared",
        )
        self._host = options.host or next(iter(site.domains), None)
        self._plain = PlainLines(
            Makers(
                event=self._made,
                visitor_id=visitors.visitor_id,
                place=_nowhere if places is None else places.locate,
                event_id=self._line_id,
            ),
            everything=options.all_requests,
            latest=options.latest,
        )

    def read(self, number: int, chunk: bytes) -> ReadChunk:
        """Read lines, the first of which has this number; a last one without a line feed is half of one."""
        events: list[Event] = []
        bad_lines: list[tuple[int, str]] = []
        *lines, unfinished = chunk.split(b"\n")
        plain, all_are_plain = self._plain.event, is_plain(chunk)
        for place, whole in enumerate(lines):
            line = whole.strip()
            event = plain(line) if all_are_plain or is_plain(line) else NOT_PLAIN
            if event is NOT_PLAIN:
                try:
                    event = self._event(line)
                except BadLine as error:
                    bad_lines.append((number + place, str(error)))
                    continue
            if event is not None:
                events.append(event)
        if unfinished:
            lines.append(unfinished)
            try:
                reason = _HALF if self._event(unfinished.strip()) is not None else None
            except BadLine as error:
                reason = str(error)
            if reason is not None:
                bad_lines.append((number + len(lines) - 1, reason))
        return ReadChunk(lines=len(lines), events=events, bad_lines=bad_lines)

    def _event(self, line: bytes) -> Event | None:
        """Return the event of a line, or None for one that is empty or not wanted."""
        if not line:
            return None
        everything = self._options.all_requests
        request = parse_request(line if len(line) <= MAX_LINE else None, page_views_only=not everything)
        if request is None:
            return None
        if not everything and not _is_page_view(request):
            return None
        if request.at > self._options.latest:
            raise BadLine("its time lies in the future")
        return msgspec.structs.replace(self._made(request), id=self._line_id(line, request.at))

    def _line_id(self, line: bytes, at: int) -> str:
        return dated_id(at, line, self._key)

    def _made(self, request: Request) -> Event:
        """Return the event of a request, without its id."""
        is_page_view = _is_page_view(request)
        return self._maker.make(
            RawEvent(
                id="-",
                name=PAGEVIEW if is_page_view else REQUEST,
                at=request.at,
                received_at=request.at,
                url=self._url(request),
                referrer=request.referrer,
                user_agent=request.user_agent,
                address=request.address,
                properties=_NOTHING if is_page_view else {"method": request.method, "status": request.status},
            )
        )

    def _url(self, request: Request) -> str:
        host = request.host or self._host
        return f"https://{host}{request.target}" if host and request.target.startswith("/") else request.target


_NOTHING: dict[str, object] = {}
_HALF = "no line feed ends it, so it may be half a line; when it is whole, import it again"


def _nowhere(_address: str) -> Geo | None:
    return None


def _is_page_view(request: Request) -> bool:
    return request.is_page_view and not is_prefetch(request.purpose)


class Repetitions:
    """Tells apart the lines of one file that have the same text: each is an event of its own, the same every time.

    Takes about 130 bytes of memory for each event of the file, which is the price of finding the same ones again in
    any order.
    """

    def __init__(self, site: Site) -> None:
        self._key = site.import_secret[:64]
        self._seen: set[bytes] = set()
        self._counts: dict[bytes, int] = {}

    def told_apart(self, event: Event) -> Event:
        """Return the event; one whose line came before gets an id made of that and how many times."""
        key = bytes.fromhex(event.id)
        if key not in self._seen:
            self._seen.add(key)
            return event
        count = self._counts[key] = self._counts.get(key, 0) + 1
        another = dated_id(event.at, key + count.to_bytes(8, "big"), self._key)
        return msgspec.structs.replace(event, id=another)


def read_chunks(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines together, with the number of the first; what is too long for a line is cut, and stays too long.

    A last line that no line feed ends gets one where it is whole for certain. Raises `BrokenFile` where gzip data is
    cut short or damaged, after the lines before it.
    """
    number, rest, last = 1, b"", b""
    is_first = True
    while block := read_block(stream, BLOCK):
        found = rest + (block.removeprefix(codecs.BOM_UTF8) if is_first else block)
        is_first = False
        end = found.rfind(b"\n") + 1
        chunk, rest = found[:end], found[end:][: MAX_LINE + 1]
        if chunk:
            yield number, chunk
            number += chunk.count(b"\n")
            last = chunk
    if rest:
        yield number, rest + b"\n" if _is_whole(rest.strip(), last.rstrip().rpartition(b"\n")[2]) else rest


def _is_whole(line: bytes, before: bytes) -> bool:
    """Return whether a line that nothing ends goes on no further, by its form and that of the line before, if any.

    A server may be writing it. JSON says itself where it ends. What ends in a number might go on, and so might what
    ends in a quoted user agent where other lines say more.
    """
    if line[:1] == b"{":
        return line[-1:] == b"}"
    return line[-1:] == b'"' and (not before or (before[-1:] == b'"' and before.count(b'"') == line.count(b'"')))


class LogReading:
    """Reads chunks in order; a context manager. What is long is read ahead by other processes.

    `expected` is how many bytes there will be at least; without that it turns out to be long after a while.
    """

    def __init__(self, site: Site, options: LogOptions, *, expected: int = 0, most_helpers: int | None = None) -> None:
        self._site = site
        self._options = options
        self._most_helpers = min(MOST_HELPERS, (os.cpu_count() or 1) - 1) if most_helpers is None else most_helpers
        self._here = LineReader(site, options)
        self._pool: ProcessPoolExecutor | None = None
        self._bytes = expected

    def __enter__(self) -> LogReading:
        """Return this; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the other processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def helpers(self) -> list[int]:
        """The ids of the other processes."""
        return [process.pid for process in multiprocessing.active_children() if process.pid is not None]

    def read(self, stream: BinaryIO) -> Iterator[ReadChunk]:
        """Yield what the lines of a stream say, in their order; raises `BrokenFile` after what came before."""
        ahead: deque[tuple[int, bytes, Future[bytes]]] = deque()
        bytes_ahead = 0
        chunks = read_chunks(stream)
        broken: Exception | None = None
        while True:
            try:
                number, chunk = next(chunks)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - what came before is handed out first
                broken = error
                break
            self._bytes += len(chunk)
            future = self._read_elsewhere(number, chunk)
            if future is None:
                while ahead:
                    yield self._result(*ahead.popleft())
                bytes_ahead = 0
                yield self._here.read(number, chunk)
                continue
            ahead.append((number, chunk, future))
            bytes_ahead += len(chunk)
            while bytes_ahead > AHEAD:
                bytes_ahead -= len(ahead[0][1])
                yield self._result(*ahead.popleft())
        while ahead:
            yield self._result(*ahead.popleft())
        if broken is not None:
            raise broken

    def _read_elsewhere(self, number: int, chunk: bytes) -> Future[bytes] | None:
        """Hand a chunk to another process; None where this one is to read it."""
        if self._bytes <= ALONE_UP_TO or self._most_helpers < 1:
            return None
        try:
            return self._started().submit(_read_elsewhere, number, chunk)
        except BrokenProcessPool:
            self._most_helpers = 0
            return None

    def _result(self, number: int, chunk: bytes, future: Future[bytes]) -> ReadChunk:
        try:
            return _decode(future.result())
        except BrokenProcessPool:
            # Somebody has killed one of them, short of memory perhaps: go on alone.
            self._most_helpers = 0
            return self._here.read(number, chunk)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._most_helpers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin_elsewhere,
                initargs=(self._site, self._options),
            )
        return self._pool


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


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ReadChunk).decode
_reader: LineReader | None = None


def _begin_elsewhere(site: Site, options: LogOptions) -> None:
    global _reader  # noqa: PLW0603 - what a process of the pool keeps from call to call
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _reader = LineReader(site, options)


def _end_with_parent() -> None:
    """End this process when the first one was killed: nobody else would, it waits for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_elsewhere(number: int, chunk: bytes) -> bytes:
    assert _reader is not None  # noqa: S101 - the pool has begun with it
    return _encode(_reader.read(number, chunk))
