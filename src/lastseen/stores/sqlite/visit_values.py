"""The values of rows of events and visits, as a SQLite file has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from lastseen.stores.visit_rows import Identity, text_of
from lastseen.stores.visit_saving import Key
from lastseen.visits.event import Event
from lastseen.visits.visit import Visit

SLOT = 600_000_000
"""Microseconds: ten minutes."""


def slot_of(micros: int) -> int:
    """Return which ten minutes a moment is in, by which the index of last activities finds it."""
    return micros // SLOT


def event_rows(
    first: int, events: Iterable[Event], bodies: Iterable[str], identities: Mapping[Key, Identity]
) -> list[tuple[Any, ...]]:
    """Return the rows of events, numbered from `first` on; `bodies` are their other fields as JSON."""
    return [
        (
            seq,
            event.site_id,
            event.id,
            identities[event.site_id, event.distinct_id].no,
            event.at,
            event.name,
            event.received_at,
            event.flags,
            body,
        )
        for seq, event, body in zip(count(first), events, bodies, strict=False)
    ]


def visit_row(no: int, seq: int, item: tuple[int, Visit], texts: Mapping[str, str]) -> tuple[Any, ...]:
    """Return the row of a visitor's visit; flags are integers: the driver takes a microsecond for a bool.

    `texts` are the JSON of some visits, by their ids.
    """
    visitor, visit = item
    at = visit.last_activity
    return (
        no,
        seq,
        at // SLOT,
        visit.site_id,
        visit.id,
        visitor,
        visit.start,
        at,
        1 if visit.end is None else 0,
        1 if visit.is_bot else 0,
        visit.start_reason._value_,
        visit.entry_url,
        texts.get(visit.id) or text_of(visit),
    )
