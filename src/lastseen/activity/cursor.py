"""Page cursors: opaque to the caller, tied to the order that made them."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

from lastseen.activity.key import key_problem
from lastseen.activity.store import Client, ClientOrder
from lastseen.errors import InvalidCursor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode_cursor(order: ClientOrder, last: Client) -> str:
    """Return the cursor of the page that follows this client."""
    position = f"{order}:{(last.last_seen_at - _EPOCH) // _MICROSECOND}:{last.client_id}"
    return base64.urlsafe_b64encode(position.encode()).rstrip(b"=").decode()


def decode_cursor(order: ClientOrder, cursor: str) -> tuple[datetime, str]:
    """Return the position that a cursor names; raise `InvalidCursor` for one of another order, or none at all."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        made_for, microseconds, client_id = base64.b64decode(padded, b"-_", validate=True).decode().split(":", 2)
        moment = _EPOCH + int(microseconds) * _MICROSECOND
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidCursor("this cursor is not one that a listing returned; start again without it") from error
    if key_problem(client_id):
        raise InvalidCursor("this cursor is not one that a listing returned; start again without it")
    if made_for != order:
        raise InvalidCursor(f"this cursor belongs to a listing by {made_for}, not by {order}; start again without it")
    return moment, client_id
