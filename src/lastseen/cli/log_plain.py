"""The lines that most logs are made of, read without a regular expression: combined, with nothing escaped. Pure.

Many lines are taken apart at once. Pages, user agents and moments repeat themselves, so what is made of each is made
once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from lastseen.cli.lines import MAX_LINE
from lastseen.cli.log_lines import SECOND, Request, combined, is_page_request, minute_of, offset_of
from lastseen.visits.event import Event, Geo

K = TypeVar("K")
V = TypeVar("V")

PIECE = 16 * 1024
"""So many bytes are taken apart at once, about seventy lines: they stay in the processor's cache meanwhile."""
_REMEMBERED = 1 << 14
# A line without these holds no other blank than the space, and nothing that is escaped.
_UNUSUAL = (b"\\", b"\t", b"\r", b"\v", b"\f")
_QUOTES = 6
_NAMES = 3
_MINUTE = len("[17/May/2015:10:05")
_MIDDLE = 4
_STATUS = 3


class _NotPlain(ValueError):
    """A line is to be read in the other way, whatever is in it."""


def is_plain(text: bytes) -> bool:
    """Return whether the text, one line or many, holds ASCII alone, and nothing that is escaped."""
    return text.isascii() and not any(each in text for each in _UNUSUAL)


def pieces(lines: bytes) -> Iterator[bytes]:
    """Yield whole lines in pieces, each without its last line feed, as the lines are given."""
    start = 0
    while (end := lines.find(b"\n", start + PIECE)) >= 0:
        yield lines[start:end]
        start = end + 1
    yield lines[start:]


class _Known(dict[K, V], Generic[K, V]):
    """What was made of keys, by them; made when it is asked for, and all forgotten when it is too much."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[key] = self._make(key)
        return value


class Makers(NamedTuple):
    """What makes the parts of an event."""

    event: Callable[[Request], Event]
    """Name, address, referrer, campaign and properties of what it makes depend on what was asked for, from where and
    with which answer, device and flags on the user agent."""
    visitor_id: Callable[[str, str, int], str]
    """Of address, user agent, and moment."""
    place: Callable[[str], Geo | None]
    """Of an address."""
    event_id: Callable[[int, bytes, str], str]
    """Of the moment of a line, its text, and the id that the event has which `event` makes."""


class PlainLines:
    """Makes the events of plain lines up to a moment; without `everything`, of page views alone."""

    def __init__(self, make: Makers, *, everything: bool, latest: int) -> None:
        self._make = make
        self._everything = everything
        self._latest = latest
        self._pages = _Known(self._make_page)
        self._agents = _Known(self._make_agent)

    def events(self, text: bytes) -> list[Event] | None:
        """Return what lines say, given without the last line feed; None when anything in them is unusual."""
        lines, parts = text.split(b"\n"), (b"\n" + text).split(b'"')
        if len(parts) != _QUOTES * len(lines) + 1 or parts[-1] or len(text) > MAX_LINE or not is_plain(text):
            return None
        before, between = parts[::_QUOTES], parts[4::_QUOTES]
        if between.count(b" ") != len(lines):
            return None
        others = (parts[place::_QUOTES] for place in (1, 2, 3, 5))
        try:
            return self._made(zip(lines, before, *others, strict=False))
        except _NotPlain:
            return None

    def _made(self, lines: Iterator[tuple[bytes, bytes, bytes, bytes, bytes, bytes]]) -> list[Event]:
        """Return the events of lines, each whole and with what is before, in and behind its quotation marks."""
        make, pages, agents, latest, everything = self._make, self._pages, self._agents, self._latest, self._everything
        events = []
        for line, before, request, middle, referrer, agent in lines:
            name, _, rest = before.partition(b" ")
            # Each line feed is before a line: there are as many.
            if name[:1] != b"\n" or name == b"\n":
                raise _NotPlain
            at, status = _MINUTES[rest[:-11]] + _SECONDS[rest[-11:]], _STATUSES[middle]
            if not everything and not _IS_PAGE[request, status]:
                continue
            if not 0 <= at <= latest:
                raise _NotPlain
            address, page, (user_agent, device) = name[1:].decode(), pages[request, status, referrer], agents[agent]
            events.append(
                Event(
                    make.event_id(at, line, page.id),
                    page.site_id,
                    make.visitor_id(address, user_agent, at),
                    page.name,
                    at,
                    at,
                    page.url,
                    page.referrer,
                    page.referrer_domain,
                    page.utm,
                    None,
                    None,
                    None,
                    device.flags,
                    0,
                    device.device,
                    make.place(address),
                    page.properties,
                )
            )
        return events

    def _make_page(self, asked: tuple[bytes, int, bytes]) -> Event:
        request, status, referrer = asked
        return self._make.event(combined("-", 0, request.decode(), str(status), referrer=referrer.decode(), agent=""))

    def _make_agent(self, agent: bytes) -> tuple[str, Event]:
        request = combined("-", 0, "GET / HTTP/1.1", "200", referrer="", agent=agent.decode())
        return request.user_agent or "", self._make.event(request)


def _minute(text: bytes) -> int:
    """Read `- - [17/May/2015:10:05`, as if it were UTC."""
    names = text.split(b" ")
    minute = names[-1]
    if len(names) != _NAMES or not all(names) or minute[:1] != b"[" or len(minute) != _MINUTE:
        raise _NotPlain
    try:
        return minute_of(minute[1:].decode(), "+0000")
    except (KeyError, ValueError) as error:
        raise _NotPlain from error


def _second(text: bytes) -> int:
    """Read `:03 +0000] `; the second 60 is a leap second, which is unusual."""
    second, zone = text[1:3], text[4:9]
    if text != b":%b %b] " % (second, zone) or not second.isdigit() or second >= b"60":
        raise _NotPlain
    try:
        return int(second) * SECOND - offset_of(zone.decode())
    except ValueError as error:
        raise _NotPlain from error


def _status(middle: bytes) -> int:
    """Read ` 200 3437 `."""
    parts = middle.split(b" ")
    if len(parts) != _MIDDLE or parts[0] or parts[3]:
        raise _NotPlain
    status, size = parts[1:3]
    if len(status) != _STATUS or not status.isdigit() or status[:1] == b"0" or not (size == b"-" or size.isdigit()):
        raise _NotPlain
    return int(status)


def _is_page(asked: tuple[bytes, int]) -> bool:
    request, status = asked
    return is_page_request(request.decode(), str(status))


_MINUTES = _Known(_minute)
_SECONDS = _Known(_second)
_STATUSES = _Known(_status)
_IS_PAGE = _Known(_is_page)
