"""Small values for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def moment(seconds: float = 0, **span: float) -> datetime:
    """Return a moment of the past that is the same in every run: noon of 2026-01-01, UTC, plus what is given."""
    return START + timedelta(seconds=seconds, **span)


def updates(*keys: str, at: datetime = START) -> dict[str, datetime]:
    """Return a batch with one time for all keys, in the order in which a tracker hands it over."""
    return dict.fromkeys(sorted(keys), at)
