"""How moments leave the database: as microseconds, because what a driver makes of a timestamp depends on settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_microseconds(microseconds: int) -> datetime:
    """Return the moment that lies this long after 1970 began, UTC."""
    return _EPOCH + timedelta(0, 0, microseconds)
