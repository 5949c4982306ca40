"""The rows of events as PostgreSQL has them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from lastseen.stores.visit_rows import Identity
from lastseen.stores.visit_saving import Key
from lastseen.visits.event import Event

COPY_EVENTS = """
COPY lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body) FROM STDIN
"""

ROWS_AT_ONCE = 200
# https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS; the driver writes a row value by value.
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def event_row(seq: int, event: Event, identities: Mapping[Key, Identity], body: str) -> tuple[Any, ...]:
    """Return the row of an event, with its number in the transaction; `body` is its other fields as JSON."""
    return (
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


def event_blocks(
    numbered: Mapping[int, Event], identities: Mapping[Key, Identity], bodies: Callable[[Event], str]
) -> Iterator[bytes]:
    """Return the rows of events in the text format of COPY, some at a time."""
    rest = iter(numbered.items())
    while some := list(islice(rest, ROWS_AT_ONCE)):
        yield "".join(_lines(some, identities, bodies)).encode()


def _lines(
    numbered: Iterable[tuple[int, Event]], identities: Mapping[Key, Identity], bodies: Callable[[Event], str]
) -> Iterator[str]:
    for seq, event in numbered:
        site_id, name, body = event.site_id, event.name, bodies(event)
        no = identities[site_id, event.distinct_id].no
        key = f"{site_id}\t{event.id}"
        # Most texts have nothing that is to be escaped; JSON has no control characters.
        if "\\" in key or "\n" in key or "\r" in key or key.count("\t") > 1:
            key = f"{site_id.translate(_ESCAPES)}\t{event.id.translate(_ESCAPES)}"
        if not name.isprintable() or "\\" in name:
            name = name.translate(_ESCAPES)
        if "\\" in body:
            body = body.replace("\\", r"\\")
        yield f"{seq}\t{key}\t{no}\t{event.at}\t{name}\t{event.received_at}\t{event.flags}\t{body}\n"
