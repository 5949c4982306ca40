"""Page cursors of devices, groups and keys: opaque to the caller, tied to the listing that made them."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import msgspec

from lastseen.activity.key import key_problem
from lastseen.devices.store import Position
from lastseen.errors import InvalidCursor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_decode = msgspec.json.Decoder(tuple[str, str | int | None, str]).decode


def encode_cursor(listing: str, value: str | datetime | None, last_id: str) -> str:
    """Return the cursor of the page that follows the one with this id, which is sorted by the value."""
    place = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(msgspec.json.encode((listing, place, last_id))).rstrip(b"=").decode()


def decode_cursor(listing: str, cursor: str, *, by_time: bool) -> Position:
    """Return the position that a cursor names; raise `InvalidCursor` for one of another listing, or none at all."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        made_for, place, last_id = _decode(base64.b64decode(padded, b"-_", validate=True))
        value = _EPOCH + place * _MICROSECOND if isinstance(place, int) else place
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidCursor("this cursor is not one that a listing returned; start again without it") from error
    if made_for != listing:
        raise InvalidCursor("this cursor belongs to another listing; start again without it")
    if (
        isinstance(value, str) is by_time
        or key_problem(last_id)
        or (isinstance(value, str) and key_problem(value or "-"))
    ):
        _refuse()
    return value, last_id


def _refuse() -> NoReturn:
    raise InvalidCursor("this cursor is not one that a listing returned; start again without it")
