"""The product's own JSON: one event, an array, `{"events": […]}`, or one a line. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from lastseen.ingest.origin import Origin, address_or_none, derived_id, id_text, is_browser, screen_or_none
from lastseen.ingest.outcome import Dropped, Unacceptable
from lastseen.ingest.times import micros_of, skew
from lastseen.ingest.unpack import clean, form_fields, is_deep, is_json, parse, refuse_crowded
from lastseen.visits.making import RawEvent, dated_id

MAX_EVENTS = 10_000
"""A request."""
MAX_NAME_LENGTH = 200
MOST_ENGAGED_MS = 86_400_000
"""A day; what says more, or is no number, is no measured time."""
NO_PROPERTIES: dict[str, Any] = {}
_INDENTED = {b"{", b"["}
"""The first line of JSON that is written with an indentation; no line that is an event."""


class WireEvent(msgspec.Struct, gc=False):
    """One event as it is sent; fields that are not named here are ignored."""

    name: str = ""
    id: str | int | None = None
    distinct_id: str | int | None = None
    at: str | int | float | None = None
    url: str | None = None
    referrer: str | None = None
    user_id: str | int | None = None
    session_id: str | int | None = None
    window_id: str | int | None = None
    engaged_ms: int | float | None = 0
    screen: str | None = None
    passive: bool = False
    server: bool = False
    user_agent: str | None = None
    ip: str | None = None
    properties: dict[str, Any] | None = None
    write_key: str | None = None


class Document(WireEvent, gc=False):
    """A body that is an object: one event, or many in `events`."""

    sent_at: str | int | float | None = None
    events: list[WireEvent] | None = None


class Received(msgspec.Struct, kw_only=True):
    """What one request brought."""

    write_key: str | None = None
    other_key: bool = False
    """Whether a second write key is named too, so that nobody can say whose the events without a key are."""
    events: list[RawEvent] = []
    dropped: list[Dropped] = []
    size: int = 0
    """Bytes that all of it was read from, where somebody says so."""

    def name_site(self, key: Any) -> None:
        """Note the write key that an event, or what is around the events, names, if any."""
        if not key or not isinstance(key, str) or key == self.write_key:
            return
        if self.write_key:
            self.other_key = True
        else:
            self.write_key = key


_decode_document = msgspec.json.Decoder(Document).decode
_decode_event = msgspec.json.Decoder(WireEvent).decode
_decode_list = msgspec.json.Decoder(list[WireEvent]).decode


def decode_events(body: bytes, origin: Origin) -> Received:
    """Return what a body of JSON holds; raises `Unacceptable` for what is no JSON, or neither object nor array.

    One bad event never spoils the others. Any event may name the write key, and the object around them.
    """
    refuse_crowded(body)
    array = body.lstrip()[:1] == b"["
    try:
        # Most have no escape at all, which takes a tenth of the time to see.
        if b"\\" in body and b"\\u0000" in body:
            return _decode_each(body, origin)
        if array:
            return _collected(_decode_list(body), origin)
        document = _decode_document(body)
    except (ValueError, RecursionError):
        return _decode_each(body, origin)
    events = [document] if document.events is None else document.events
    return _collected(events, origin, document.write_key, document.sent_at)


def decode_lines(body: bytes, origin: Origin) -> Received:
    """Return what a body holds that is one event a line; or any body that `decode_events` takes, also indented.

    Keys are named as in `decode_events`.
    """
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    if len(lines) == 1 or (lines and lines[0].strip() in _INDENTED):
        return decode_events(body, origin)
    _refuse_too_many(len(lines))
    collector = _Collector(origin, None)
    for index, line in enumerate(lines):
        try:
            collector.add(index, _decode_event(line) if b"\\u0000" not in line else _lenient_event(parse(line)))
        except (ValueError, RecursionError):
            collector.add_unreadable(index, line)
    return collector.finish()


def decode_form(body: bytes, origin: Origin) -> Received:
    """Return what a form holds: JSON as `data` or `payload`, with its write key in it or beside it.

    Raises `Unacceptable`, as `decode_events` does. A body of JSON is taken as such: curl calls everything a form.
    """
    if is_json(body):
        return decode_lines(body, origin)
    fields = form_fields(body)
    data = fields.get("data") or fields.get("payload")
    if not data:
        raise Unacceptable(400, "the form has neither data nor payload: put the JSON of the events there")
    collected = decode_lines(data.encode(), origin)
    collected.name_site(fields.get("write_key"))
    return collected


def _collected(
    events: Iterable[WireEvent], origin: Origin, write_key: str | None = None, sent_at: Any = None
) -> Received:
    collector = _Collector(origin, sent_at)
    collector.received.write_key = write_key
    for index, event in enumerate(events):
        if index == MAX_EVENTS:
            _refuse_too_many(index + 1)
        collector.add(index, event)
    return collector.finish()


def _decode_each(body: bytes, origin: Origin) -> Received:
    """Take a body apart of which something does not fit: every event by itself."""
    value = parse(body)
    if isinstance(value, dict):
        events = value["events"] if isinstance(value.get("events"), list) else [value]
        write_key, sent_at = value.get("write_key"), value.get("sent_at")
    elif isinstance(value, list):
        events, write_key, sent_at = value, None, None
    else:
        raise Unacceptable(400, 'the body must be an object such as {"name": "signed up"}, or an array of them')
    _refuse_too_many(len(events))
    collector = _Collector(origin, sent_at)
    collector.received.write_key = write_key if isinstance(write_key, str) else None
    for index, event in enumerate(events):
        try:
            collector.add(index, _lenient_event(event))
        except msgspec.ValidationError as error:
            collector.drop(index, "malformed", str(error))
            collector.received.name_site(event.get("write_key") if isinstance(event, dict) else None)
    return collector.finish()


def _lenient_event(value: Any) -> WireEvent:
    return msgspec.convert(clean(value), WireEvent)


def _refuse_too_many(count: int) -> None:
    if count > MAX_EVENTS:
        raise Unacceptable(413, f"a request may bring {MAX_EVENTS} events; send it in parts")


class _Collector:
    """Turns the events of one request into raw ones, in their order."""

    __slots__ = ("_identical", "_is_browser", "_origin", "_skew", "_untimed", "received")

    def __init__(self, origin: Origin, sent_at: Any) -> None:
        self.received = Received()
        self._origin = origin
        self._is_browser = is_browser(origin.user_agent)
        self._skew = 0 if sent_at is None else skew(micros_of(sent_at), origin.received_at)
        self._identical: Counter[str] | None = None
        self._untimed: list[int] = []
        """Places of events without a moment."""

    def finish(self) -> Received:
        """Return all; without moments, events happened in their order, a microsecond apart, the last on arrival."""
        if len(self._untimed) > 1:
            events = self.received.events
            for before, place in enumerate(reversed(self._untimed[:-1]), 1):
                events[place] = msgspec.structs.replace(events[place], at=events[place].at - before)
        return self.received

    def drop(self, index: int, cause: str, reason: str) -> None:
        self.received.dropped.append(Dropped(index=index, cause=cause, reason=reason[:200]))

    def add_unreadable(self, index: int, line: bytes) -> None:
        try:
            event = _lenient_event(parse(line))
        except (Unacceptable, msgspec.ValidationError) as error:
            self.drop(index, "malformed", str(error))
        else:
            self.add(index, event)

    def add(self, index: int, event: WireEvent) -> None:
        if event.write_key:
            self.received.name_site(event.write_key)
        name = event.name.strip()
        if not name:
            return self.drop(index, "no name", "name is missing")
        received_at = told = self._origin.received_at
        if event.at is not None:
            moment = micros_of(event.at)
            if moment is None:
                reason = "at must be ISO 8601 such as 2026-01-31T12:00:00Z, or seconds or parts of them since 1970"
                return self.drop(index, "no moment", reason)
            told = moment
        if event.properties and is_deep(event.properties):
            return self.drop(index, "nested too deep", "properties are nested too deep")
        distinct_id = None
        if event.distinct_id is not None and event.distinct_id != "":
            distinct_id = id_text(event.distinct_id)
            if distinct_id is None:
                return self.drop(index, "bad id", "distinct_id must be text of at most 200 characters")
        event_id = (event.id and id_text(event.id)) or self._id_of(event, told)
        at = received_at
        if event.at is None:
            self._untimed.append(len(self.received.events))
        elif told + self._skew < received_at:
            at = told + self._skew
        self.received.events.append(self._raw(event, name[:MAX_NAME_LENGTH], event_id, at, distinct_id))
        return None

    def _raw(self, event: WireEvent, name: str, event_id: str, at: int, distinct_id: str | None) -> RawEvent:
        # A program that names the visitor sends for somebody else: its own agent and address say nothing of them.
        is_sender = event.server or (distinct_id is not None and not self._is_browser)
        origin = self._origin
        engaged_ms = event.engaged_ms
        # In the order of the fields: by name it takes twice as long.
        return RawEvent(
            name,
            at if at > 0 else 0,
            origin.received_at,
            event_id,
            distinct_id,
            event.url or None,
            event.referrer or None,
            event.user_agent or (None if is_sender else origin.user_agent),
            address_or_none(event.ip) or (None if is_sender else origin.address),
            None if event.user_id is None else id_text(event.user_id),
            None if event.session_id is None else id_text(event.session_id),
            None if event.window_id is None else id_text(event.window_id),
            event.server,
            event.passive,
            int(engaged_ms) if engaged_ms and 0 < engaged_ms < MOST_ENGAGED_MS else 0,
            event.screen and screen_or_none(event.screen),
            None,  # device
            None,  # geo
            None,  # utm
            NO_PROPERTIES if event.properties is None else event.properties,
        )

    def _id_of(self, event: WireEvent, at: int) -> str:
        """Derive an id from what was sent, and from how many events of the same text stood before it in the request.

        From an id that is too long alone, which is the same again when the event is.
        The moment is that of the client's clock, which is the same when it tries again; without one it is that of the
        arrival, and a repetition is another event.
        """
        if isinstance(event.id, str) and event.id and not event.id.isspace():
            return derived_id(event.id)
        content = derived_id(
            [event.name, event.distinct_id, at, event.url, event.referrer, event.user_id],
            [event.session_id, event.window_id, event.engaged_ms, event.ip, event.properties],
            [] if event.distinct_id is not None else [self._origin.address, self._origin.user_agent],
        )
        if self._identical is None:
            self._identical = Counter()
        before = self._identical[content]
        self._identical[content] += 1
        return dated_id(at, f"{content} {before}".encode(), b"")
