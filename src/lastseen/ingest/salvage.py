"""Rows out of a SQLite file that SQLite itself cannot read any more, page by page.

For tables of three columns: an INTEGER PRIMARY KEY, a checksum of a fixed size and a payload, both BLOB. The format is
https://www.sqlite.org/fileformat2.html; nothing in the file is believed, so whoever asks must test each checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PAGE = 4096
"""Bytes of a page, none of them reserved: the file must have been made with that."""
CHECKSUM = 8
"""Bytes of a checksum."""

_POINTERS = 8
"""Where the pointers to the cells of a leaf begin."""
_POINTER = struct.Struct(">H")
_MOST_LOCAL = PAGE - 35
_LEAST_LOCAL = (PAGE - 12) * 32 // 255 - 23
_ON_NEXT_PAGE = PAGE - 4
_NULL = 0
_LONGEST_NUMBER = 9
_MORE = 0x80
"""The bit of a number's byte that says that another follows."""


class Row(NamedTuple):
    """What looks like a row."""

    number: int
    checksum: bytes
    payload: bytes


def candidates(data: bytes) -> Iterator[Row]:
    """Yield all that looks like a row on any page, in no order, and some of it perhaps more than once.

    Neither kind nor length of a page is looked at, as both may be wrong. Of a last page that was cut, what is left is.
    """
    for start in range(PAGE, len(data), PAGE):  # the first page has the schema
        page = data[start : start + PAGE].ljust(PAGE, b"\0")
        for cell in _cells(page):
            row = _row(data, page, cell)
            if row is not None:
                yield row


def _cells(page: bytes) -> Iterator[int]:
    """Yield where a cell may begin: each pointer stands in front of what it points to, and JSON looks like none."""
    for place, (cell,) in enumerate(_POINTER.iter_unpack(page[_POINTERS:])):
        if _POINTERS + place * _POINTER.size < cell < PAGE:
            yield cell


def _row(data: bytes, page: bytes, cell: int) -> Row | None:
    length, cell = _number(page, cell)
    number, cell = _number(page, cell)
    if not CHECKSUM < length <= len(data):
        return None
    record = page[cell : cell + _local(length)]
    if (begin := _payload_begin(record, length)) is None:
        return None
    if length > len(record):
        first = int.from_bytes(page[cell + len(record) : cell + len(record) + 4])
        record += _overflow(data, first, length - len(record))
    return Row(number, record[begin - CHECKSUM : begin], record[begin:])


def _local(length: int) -> int:
    """Return how many bytes of a record stand in its cell."""
    if length <= _MOST_LOCAL:
        return length
    some = _LEAST_LOCAL + (length - _LEAST_LOCAL) % _ON_NEXT_PAGE
    return some if some <= _MOST_LOCAL else _LEAST_LOCAL


def _payload_begin(record: bytes, length: int) -> int | None:
    """Return where the payload begins in a record of some length; None if its header is not that of such a row."""
    size, at = _number(record, 0)
    key, at = _number(record, at)
    checksum, at = _number(record, at)
    payload, at = _number(record, at)
    begin = at + CHECKSUM
    if (size, key, checksum, payload) == (at, _NULL, _blob(CHECKSUM), _blob(length - begin)):
        return begin
    return None


def _blob(size: int) -> int:
    """Return how a record's header says that a column has so many bytes."""
    return 12 + 2 * size


def _overflow(data: bytes, page: int, missing: int) -> bytes:
    """Return what a chain of pages holds; less than is missing if it ends early."""
    pieces = []
    while missing > 0 and 0 < page <= len(data) // PAGE + 1:
        start = (page - 1) * PAGE
        pieces.append(data[start + 4 : start + 4 + min(missing, _ON_NEXT_PAGE)])
        missing -= _ON_NEXT_PAGE
        page = int.from_bytes(data[start : start + 4])
    return b"".join(pieces)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + _LONGEST_NUMBER], 1):
        if place == _LONGEST_NUMBER:
            return value << 8 | byte, at + place
        value = value << 7 | byte % _MORE
        if byte < _MORE:
            return value, at + place
    return 0, len(data)
