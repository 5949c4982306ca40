"""The rows of events as PostgreSQL has them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from lastseen.stores.postgres.visit_statements import integers
from lastseen.stores.visit_saving import Key
from lastseen.visits.event import Event

SEPARATOR = "\x1f"
"""Between bodies: JSON has no control characters."""

NEW_EVENTS = """
INSERT INTO lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body)
SELECT * FROM unnest(
    %s::integer[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::integer[],
    string_to_array(%s::text, chr(31))
)
"""

COPY_EVENTS = """
COPY lastseen_events (seq, site_id, id, identity, at, name, received_at, flags, body) FROM STDIN
"""

ROWS_AT_ONCE = 100
# https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS; the driver writes a row value by value.
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def event_columns(
    numbered: Mapping[int, Event], numbers: Mapping[Key, tuple[int, int]], bodies: Callable[[Event], str]
) -> tuple[Any, ...]:
    """Return the columns of events, with their numbers in the transaction, for `NEW_EVENTS`."""
    events = numbered.values()
    return (
        integers(numbered),
        [event.site_id for event in events],
        [event.id for event in events],
        integers(numbers[event.site_id, event.distinct_id][0] for event in events),
        integers(event.at for event in events),
        [event.name for event in events],
        integers(event.received_at for event in events),
        integers(event.flags for event in events),
        SEPARATOR.join(map(bodies, events)),
    )


def event_blocks(
    numbered: Mapping[int, Event], numbers: Mapping[Key, tuple[int, int]], bodies: Callable[[Event], str]
) -> Iterator[bytes]:
    """Return the rows of events in the text format of COPY, some at a time."""
    rest = iter(numbered.items())
    while some := list(islice(rest, ROWS_AT_ONCE)):
        yield "".join(_lines(some, numbers, bodies)).encode()


def _lines(
    numbered: Iterable[tuple[int, Event]], numbers: Mapping[Key, tuple[int, int]], bodies: Callable[[Event], str]
) -> Iterator[str]:
    for seq, event in numbered:
        site_id, name, body = event.site_id, event.name, bodies(event)
        no, _ = numbers[site_id, event.distinct_id]
        key = f"{site_id}\t{event.id}"
        # Most texts have nothing that is to be escaped; JSON has no control characters.
        if "\\" in key or "\n" in key or "\r" in key or key.count("\t") > 1:
            key = f"{site_id.translate(_ESCAPES)}\t{event.id.translate(_ESCAPES)}"
        if not name.isprintable() or "\\" in name:
            name = name.translate(_ESCAPES)
        if "\\" in body:
            body = body.replace("\\", r"\\")
        yield f"{seq}\t{key}\t{no}\t{event.at}\t{name}\t{event.received_at}\t{event.flags}\t{body}\n"
