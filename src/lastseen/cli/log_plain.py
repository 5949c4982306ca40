"""The lines that most logs are made of, read without a regular expression: combined, with nothing escaped. Pure.

Pages and user agents repeat themselves, so what is made of each is made once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from lastseen.cli.lines import MAX_LINE
from lastseen.cli.log_lines import Request, combined, is_page_request, minute_of
from lastseen.visits.event import Event, Geo

_REMEMBERED = 1 << 14
# A line without these holds no other blank than the space, and nothing that is escaped.
_UNUSUAL = (b"\\", b"\t", b"\r", b"\v", b"\f")
_SECONDS = {b":%02d" % second: second * 1_000_000 for second in range(60)}
_PARTS = 7
_BEFORE = 6
_MIDDLE = 4
_STATUS = 3


class NotPlain(Enum):
    """Stands for a line that is to be read in the other way, whatever is in it."""

    NOT_PLAIN = 1


NOT_PLAIN: Final = NotPlain.NOT_PLAIN


def is_plain(text: bytes) -> bool:
    """Return whether the text, one line or many, holds ASCII alone, and nothing that is escaped."""
    return text.isascii() and not any(each in text for each in _UNUSUAL)


class Makers(NamedTuple):
    """What makes the parts of an event."""

    event: Callable[[Request], Event]
    """Name, address, referrer, campaign and properties of what it makes depend on what was asked for, from where and
    with which answer, device and flags on the user agent."""
    visitor_id: Callable[[str, str, int], str]
    """Of address, user agent, and moment."""
    place: Callable[[str], Geo | None]
    """Of an address."""
    event_id: Callable[[bytes, int], str]
    """Of a line, and its moment."""


class PlainLines:
    """Makes the events of plain lines up to a moment; without `everything`, of page views alone."""

    def __init__(self, make: Makers, *, everything: bool, latest: int) -> None:
        self._make = make
        self._everything = everything
        self._latest = latest
        self._minute = (b"", b"")
        self._minute_at = 0
        self._page = lru_cache(maxsize=_REMEMBERED)(self._make_page)
        self._agent = lru_cache(maxsize=_REMEMBERED)(self._make_agent)

    def event(self, line: bytes) -> Event | NotPlain | None:
        """Return what a line says that `is_plain` and has no blanks around it; None: nothing that is wanted.

        `NOT_PLAIN`: something in it is unusual.
        """
        parts = line.split(b'"')
        if len(parts) != _PARTS or len(line) > MAX_LINE:
            return NOT_PLAIN
        before, request, middle, referrer, between, agent, after = parts
        names = before.split(b" ")
        if len(names) != _BEFORE or between != b" " or after:
            return NOT_PLAIN
        address, identity, user, moment, zone, end = names
        status, second, minute = _status(middle), _SECONDS.get(moment[18:]), (moment[:18], zone)
        if not (status and second is not None and address and identity and user and not end):
            return NOT_PLAIN
        if minute != self._minute and not self._turn(minute):
            return NOT_PLAIN
        if not self._everything and not _is_page(request, status):
            return None
        at = self._minute_at + second
        return NOT_PLAIN if at > self._latest else self._made(line, at, address, (request, status, referrer), agent)

    def _made(self, line: bytes, at: int, address: bytes, asked: tuple[bytes, int, bytes], agent: bytes) -> Event:
        make, text = self._make, address.decode()
        page, (user_agent, device) = self._page(*asked), self._agent(agent)
        return Event(
            make.event_id(line, at),
            page.site_id,
            make.visitor_id(text, user_agent, at),
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
            make.place(text),
            page.properties,
        )

    def _turn(self, minute: tuple[bytes, bytes]) -> bool:
        """Remember when a minute began, `[17/May/2015:10:05` and `+0000]`; return whether that is one."""
        moment, zone = minute
        if moment[:1] != b"[" or zone[-1:] != b"]":
            return False
        try:
            self._minute_at = minute_of(moment[1:].decode(), zone[:-1].decode())
        except (KeyError, ValueError):
            return False
        self._minute = minute
        return True

    def _make_page(self, request: bytes, status: int, referrer: bytes) -> Event:
        return self._make.event(combined("-", 0, request.decode(), str(status), referrer=referrer.decode(), agent=""))

    def _make_agent(self, agent: bytes) -> tuple[str, Event]:
        request = combined("-", 0, "GET / HTTP/1.1", "200", referrer="", agent=agent.decode())
        return request.user_agent or "", self._make.event(request)


@lru_cache(maxsize=_REMEMBERED)
def _status(middle: bytes) -> int | None:
    """Read ` 200 3437 `."""
    parts = middle.split(b" ")
    if len(parts) != _MIDDLE or parts[0] or parts[3]:
        return None
    status, size = parts[1:3]
    is_status = len(status) == _STATUS and status.isdigit() and status[:1] != b"0"
    return int(status) if is_status and (size == b"-" or size.isdigit()) else None


@lru_cache(maxsize=_REMEMBERED)
def _is_page(request: bytes, status: int) -> bool:
    return is_page_request(request.decode(), str(status))
