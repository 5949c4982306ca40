"""Events as a database has them, for a copy that needs a few facts of many. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, overload

import msgspec

from lastseen.stores.visit_rows import event_of
from lastseen.visits.event import Event

Sender = tuple[str, str]
"""A site, and the distinct id in it."""
Facts = tuple[Sender, str, int, str, int, str | None, bytes]
"""Sender, id, moment, name, flags and address of an event, and the JSON of its properties."""


class _Body(msgspec.Struct, gc=False):
    """What of an event's JSON the facts are taken from."""

    url: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode
_BODY = 6
_told = itemgetter(0, 1, 2, 3, 5, _BODY)


class StoredEvents(Sequence[Event]):
    """Events of which each is made when it is looked at: that costs four times as much as the facts.

    A row begins with the number of who sent it, and its id, moment, name, moment of arrival, flags and body; what is
    behind these does not matter.
    """

    def __init__(self, rows: Sequence[Sequence[Any]], senders: Mapping[int, Sender]) -> None:
        self._rows = rows
        self._senders = senders

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Event: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Event]: ...
    def __getitem__(self, place: int | slice) -> Event | Sequence[Event]:
        if isinstance(place, slice):
            return StoredEvents(self._rows[place], self._senders)
        sender, event_id, at, name, received_at, flags, text, *_ = self._rows[place]
        site_id, distinct_id = self._senders[sender]
        return event_of((site_id, event_id, distinct_id, at, name, received_at, flags, text))

    def facts(self) -> Iterator[Facts]:
        """Yield the facts of each event in turn."""
        for sender, event_id, at, name, flags, text in map(_told, self._rows):
            body = _decode(text)
            yield self._senders[sender], event_id, at, name, flags, body.url, bytes(body.properties)


def characters_of(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many characters the bodies of such rows have together."""
    return sum([len(row[_BODY]) for row in rows])


def facts_of(events: Sequence[Event]) -> Iterator[Facts]:
    """Yield the facts of each event in turn; of stored ones without making them."""
    return events.facts() if isinstance(events, StoredEvents) else map(_facts, events)


def _facts(event: Event) -> Facts:
    sender, properties = (event.site_id, event.distinct_id), _encode(event.properties)
    return sender, event.id, event.at, event.name, event.flags, event.url, properties
