"""How the stores on a database write events and visits: a few columns to look for, the rest as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lastseen.errors import InvalidData
from lastseen.visits.event import Device, Event, Geo
from lastseen.visits.identity import Link
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import Visit

Place = tuple[int, str]
"""The moment and the id of an event."""


class _Body(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What of an event no statement looks for."""

    url: str | None = None
    referrer: str | None = None
    referrer_domain: str | None = None
    utm: UtmParams | None = None
    user_id: str | None = None
    session_id: str | None = None
    window_id: str | None = None
    engaged_ms: int = 0
    device: Device | None = None
    geo: Geo | None = None
    properties: Mapping[str, Any] = {}


_encode = msgspec.json.Encoder().encode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_visit = msgspec.json.Decoder(Visit).decode
_decode_marks = msgspec.json.Decoder(list[Visit]).decode
_decode_link = msgspec.json.Decoder(Link).decode


class Identity(msgspec.Struct, gc=False):
    """The row of a distinct id; `visitor` is the number of the identity that stands for the visitor.

    What follows is kept at that identity: the place of the visitor's newest event where that is in no visit, which may
    be that of an older one otherwise, and `marks`, the JSON of earlier states of the newest visit, the oldest first.
    Give the fields by place, in the order of the row's columns; those from `visit` on are not among them.
    """

    no: int
    site_id: str
    distinct_id: str
    visitor: int
    newest_at: int | None = None
    newest_id: str | None = None
    marks: str | None = None
    visit: Visit | None = None
    """The visitor's newest visit, if it has one and `is_loaded`."""
    visit_no: int = 0
    """The number of that visit's row, where rows have one."""
    size: int = 0
    """So many characters of JSON the visit is, where a store remembers that."""
    is_loaded: bool = False

    def newest(self, visit: Visit | None) -> Place | None:
        """Return the place of the visitor's newest event, given its newest visit: where that ends, or what is noted."""
        noted = None if self.newest_at is None or self.newest_id is None else (self.newest_at, self.newest_id)
        if visit is None or (noted is not None and noted > visit.last_event):
            return noted
        return visit.last_event


def body_of(event: Event) -> str:
    """Return the JSON of an event's other fields; raises `InvalidData` when that cannot be written as JSON."""
    body = _Body(
        event.url,
        event.referrer,
        event.referrer_domain,
        event.utm,
        event.user_id,
        event.session_id,
        event.window_id,
        event.engaged_ms,
        event.device,
        event.geo,
        event.properties,
    )
    try:
        return _encode(body).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidData(f"the event {event.id!r} cannot be written as JSON: {error}") from error


def event_of(row: Sequence[Any]) -> Event:
    """Read an event from its site, id, distinct id, moment, name, moment of arrival, flags and body."""
    site_id, event_id, distinct_id, at, name, received_at, flags, text = row
    body = _decode_body(text)
    # In the order of the fields: by name it takes three times as long.
    return Event(
        event_id,
        site_id,
        distinct_id,
        name,
        at,
        received_at,
        body.url,
        body.referrer,
        body.referrer_domain,
        body.utm,
        body.user_id,
        body.session_id,
        body.window_id,
        flags,
        body.engaged_ms,
        body.device,
        body.geo,
        body.properties,
    )


def text_of(visit: Visit) -> str:
    """Return the JSON of a visit."""
    return _encode(visit).decode()


def visit_of(text: str) -> Visit:
    """Read a visit from its JSON."""
    return _decode_visit(text)


def columns_of(visitor: int, visit: Visit, text: str | None = None) -> tuple[Any, ...]:
    """Return what is written of a visit: its columns, in the order in which both databases have them, and its JSON.

    Give the `text` where that JSON was made before.
    """
    return (
        visit.site_id,
        visit.id,
        visitor,
        visit.start,
        visit.last_activity,
        visit.end is None,
        visit.is_bot,
        visit.start_reason.value,
        visit.entry_url,
        text or text_of(visit),
    )


def text_of_link(link: Link) -> str:
    """Return the JSON of a link."""
    return _encode(link).decode()


def link_of_text(text: str) -> Link:
    """Read a link from its JSON."""
    return _decode_link(text)


def identity_of(row: Sequence[Any]) -> Identity:
    """Read an identity from its number, site, distinct id, visitor, the place of its newest event, and its marks."""
    return Identity(*row)


def text_of_marks(marks: Sequence[Visit]) -> str | None:
    """Return the JSON of earlier states of a visit; None for none."""
    return _encode(marks).decode() if marks else None


def marks_of(text: str | None) -> list[Visit]:
    """Read earlier states of a visit from their JSON."""
    return _decode_marks(text) if text else []
