"""Large arrays as parameters, written at once.

The driver writes a list's items one by one, in Python. For a flush of many rows that is more work than all the rest of
it in this process.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any

from lastseen.stores.postgres.database import Cursor

# Of no text the server makes no element, of an empty one it should make one.
TEXTS = "unnest(coalesce(nullif(string_to_array(%b::text, %b::text), '{}'), '{\"\"}'))"
"""The rows of what `joined` returns, two parameters."""

FLOATS = "unnest(%b::float8[])"
"""The rows of what `floats` returns."""

_FLOAT8, _FLOAT8_ARRAY = 701, 1022
_SEPARATOR = "\x1f"
_WIDTH = 8


def joined(texts: Sequence[str]) -> tuple[str, str]:
    """Return all texts in one, and what stands between them and in none of them."""
    whole = _SEPARATOR.join(texts)
    if whole.count(_SEPARATOR) == len(texts) - 1:
        return whole, _SEPARATOR
    contained = set("".join(texts))
    separator = next(character for character in map(chr, range(1, sys.maxunicode)) if character not in contained)
    return separator.join(texts), separator


def floats(cursor: Cursor | None, numbers: Sequence[float]) -> Any:
    """Return the numbers as a parameter for this cursor, whose driver may know no binary ones; for a `Wire` without."""
    if cursor is None:
        return float8_array(array("d", numbers))
    adapters = getattr(cursor, "adapters", None)
    if adapters is None:
        return list(numbers)
    adapters.register_dumper(array, _array_dumper())
    return array("d", numbers)


@cache
def _array_dumper() -> type[Any]:
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class ArrayDumper(Dumper):
        """Writes an array of doubles in the server's binary form: a head, then each with its length before it."""

        format = Format.BINARY
        oid = _FLOAT8_ARRAY

        def dump(self, obj: array[float]) -> bytes:
            return float8_array(obj)

    return ArrayDumper


def float8_array(numbers: array[float]) -> bytes:
    """Write the numbers as `array_recv` reads them (`src/backend/utils/adt/arrayfuncs.c`), big-endian."""
    count = len(numbers)
    big = numbers[:]
    if sys.byteorder == "little":
        big.byteswap()
    packed = big.tobytes()
    # Dimensions, no NULLs, the type; the length and the lower bound of the one dimension.
    head = struct.pack("!iiIii", 1, 0, _FLOAT8, count, 1)
    items = bytearray((4 + _WIDTH) * count)
    items[3 :: 4 + _WIDTH] = bytes([_WIDTH]) * count
    for position in range(_WIDTH):
        items[4 + position :: 4 + _WIDTH] = packed[position::_WIDTH]
    return head + items
