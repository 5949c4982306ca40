"""From the bytes of an access log to events. Asks no clock."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal
from zlib import crc32

import msgspec

from lastseen.cli.lines import MAX_LINE, BadLine, read_block
from lastseen.cli.log_lines import Request, parse_request
from lastseen.cli.log_plain import Makers, PlainLines, pieces
from lastseen.visits.cookieless import ImportedVisitors
from lastseen.visits.event import PAGEVIEW, Event, Geo
from lastseen.visits.geography import Geography
from lastseen.visits.making import EventMaker, RawEvent, dated_id, is_prefetch
from lastseen.visits.site import Site

REQUEST = "request"
"""The name of events of requests that are no page views."""

BLOCK = 256 * 1024
_KEY = 16
_24_BITS = (1 << 24) - 1
_PLACE = slice(12, 18)
"""Where the place of an event within its millisecond stands in its id."""


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


class ReadChunk(msgspec.Struct, kw_only=True):
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
                event_id=self._id,
            ),
            everything=options.all_requests,
            latest=options.latest,
        )

    def read(self, number: int, chunk: bytes) -> ReadChunk:
        """Read lines, the first of which has this number; a last one without a line feed is half of one."""
        first, found = number, ReadChunk(lines=0, events=[], bad_lines=[])
        whole, feed, unfinished = chunk.rpartition(b"\n")
        for piece in pieces(whole) if feed else ():
            events = self._plain.events(piece)
            if events is None:
                self._read_each(piece.split(b"\n"), number, found)
            else:
                found.events += events
            number += piece.count(b"\n") + 1
        if unfinished:
            try:
                reason = _HALF if self._event(unfinished.strip()) is not None else None
            except BadLine as error:
                reason = str(error)
            if reason is not None:
                found.bad_lines.append((number, reason))
            number += 1
        found.lines = number - first
        return found

    def _read_each(self, lines: Sequence[bytes], number: int, found: ReadChunk) -> None:
        """Read lines of which one is unusual, or more; the first has this number."""
        for place, whole in enumerate(lines):
            line = whole.strip()
            events = self._plain.events(line)
            if events is None:
                try:
                    event = self._event(line)
                except BadLine as error:
                    found.bad_lines.append((number + place, str(error)))
                    continue
                events = [] if event is None else [event]
            found.events += events

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
        if request.at < 0:
            raise BadLine("its time lies before 1970")
        made = self._made(request)
        return msgspec.structs.replace(made, id=self._id(request.at, line, made.id))

    def _id(self, at: int, line: bytes, place: str) -> str:
        return dated_id(at, line, self._key, place)

    def _made(self, request: Request) -> Event:
        """Return the event of a request, with its place within a millisecond for an id."""
        is_page_view = _is_page_view(request)
        return self._maker.make(
            RawEvent(
                id=_place_of(request),
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


def _place_of(request: Request) -> str:
    """Return six hexadecimal digits, the same for the same page, referrer and answer, in every database.

    Of events in one second the order decides which visits there are where changes of the referrer begin one: it must
    not hang on a site's secret.
    """
    asked = f"{request.method} {request.target} {request.status} {request.referrer}"
    return f"{crc32(asked.encode(errors='surrogatepass')) & _24_BITS:06x}"


def _is_page_view(request: Request) -> bool:
    return request.is_page_view and not is_prefetch(request.purpose)


class Repetitions:
    """Tells apart the lines of one file that have the same text: each is an event of its own, the same every time.

    Takes about 130 bytes of memory for each event of the file, which is the price of finding the same ones again in
    any order.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._counts: dict[bytes, int] = {}

    def among(self, keys: bytes) -> dict[int, int]:
        """Return which of some events, by their place in `keys_of`, are of lines that came before, and how many times.

        All of them have come then.
        """
        found: dict[int, int] = {}
        seen, counts = self._seen, self._counts
        for place, start in enumerate(range(0, len(keys), _KEY)):
            key = keys[start : start + _KEY]
            if key in seen:
                found[place] = counts[key] = counts.get(key, 0) + 1
            else:
                seen.add(key)
        return found


def keys_of(events: Sequence[Event]) -> bytes:
    """Return what tells the lines of events apart: the bytes of their ids, one behind the other."""
    return bytes.fromhex("".join([event.id for event in events]))


def repeated(event: Event, count: int, site: Site) -> Event:
    """Return the event of a line that came before, so many times: its id is made of that of the first."""
    content = bytes.fromhex(event.id) + count.to_bytes(8, "big")
    return msgspec.structs.replace(event, id=dated_id(event.at, content, site.import_secret[:64], event.id[_PLACE]))


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
