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
_MICROSECONDS_FROM = MILLISECONDS_FROM * 1_000
_NANOSECONDS_FROM = _MICROSECONDS_FROM * 1_000
_NONE_FROM = _NANOSECONDS_FROM * 1_000


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
    """Return the moment of seconds since 1970, or of milli-, micro- or nanoseconds; None for no moment.

    Which of them it is, the size of the number tells: each begins where the unit before would be after the year 5138.
    """
    if not 0 <= number < _NONE_FROM:
        return None
    if number < _MICROSECONDS_FROM:
        return round(number * (1_000 if number >= MILLISECONDS_FROM else MICROS))
    return round(number if number < _NANOSECONDS_FROM else number / 1_000)


def seconds_of_number(number: float) -> float | None:
    """Return the moment of such a number in seconds since 1970; None for no moment."""
    if 0 <= number < MILLISECONDS_FROM:
        return float(number)
    micros = micros_of_number(number)
    return None if micros is None else micros / MICROS


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
