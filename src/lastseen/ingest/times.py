"""When an event happened: moments as clients write them, corrected for their wrong clocks. Pure.

Moments are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

MICROS = 1_000_000
TOLERATED_SKEW = 30 * MICROS
"""A clock that is off by less is taken for the way through the network, which looks the same."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_read = datetime.fromisoformat
MILLISECONDS_FROM = 100_000_000_000
"""Numbers from here on are milliseconds: as seconds they would be after the year 5138, as milliseconds from 1973."""
_LAST = 253_402_300_799 * MICROS  # 9999-12-31T23:59:59Z, the last second that a datetime holds


def micros_of_text(text: str) -> int | None:
    """Return the moment that ISO 8601 text names, UTC where it names no offset; None for what is no moment."""
    try:
        moment = _read(text)
        since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    # Exact, and half the cost of dividing one span by another.
    micros = (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
    return micros if micros >= 0 else None


def micros_of_number(number: float) -> int | None:
    """Return the moment of seconds since 1970, or of milliseconds, as JavaScript counts; None for no moment."""
    if not 0 <= number <= _LAST // 1_000:
        return None
    micros = round(number * (1_000 if number >= MILLISECONDS_FROM else MICROS))
    return micros if micros <= _LAST else None


def micros_of(value: Any) -> int | None:
    """Return the moment that a JSON value names, or None."""
    if type(value) is str:
        return micros_of_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return micros_of_number(value)
    return None


def skew(sent_at: int | None, received_at: int) -> int:
    """Return what must be added to a client's moments, given what its clock said when it sent them."""
    if sent_at is None:
        return 0
    difference = received_at - sent_at
    return difference if abs(difference) > TOLERATED_SKEW else 0


def not_after(at: int, received_at: int) -> int:
    """Return the moment, or that of its arrival when it would lie after it: nothing happens before it is told."""
    return min(max(at, 0), received_at)
