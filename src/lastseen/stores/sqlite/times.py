"""How a SQLite column keeps moments: SQLite has no type for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import modf
from typing import Any

from lastseen.clock import utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeFormat:
    """Both directions of one way to keep a moment. All of them sort like the moments they stand for."""

    name: str
    encode: Callable[[datetime], str | int | float]
    encode_seconds: Callable[[float], str | int | float]
    """The same of seconds since 1970, for which no datetime need be made."""
    decode: Callable[[Any], datetime]


def _to_text(moment: datetime) -> str:
    # A batch is full of moments of the same few seconds: only their microseconds are formatted each time.
    since = moment - _EPOCH
    return _second_to_text(since.days * 86_400 + since.seconds) + "%06d" % since.microseconds  # noqa: UP031 - a third faster


def _seconds_to_text(at: float) -> str:
    # Rounded as `datetime.fromtimestamp` does.
    fraction, second = modf(at)
    micros = round(fraction * 1e6)
    if micros == 1_000_000:  # noqa: PLR2004 - a second
        second, micros = second + 1, 0
    return _second_to_text(second) + "%06d" % micros  # noqa: UP031 - as above


@lru_cache(maxsize=4096)
def _second_to_text(second: float) -> str:
    # isoformat, not strftime: that does not pad years before 1000.
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat(" ") + "."


def _from_text(value: str | datetime) -> datetime:
    # Django's connections convert what is declared as a time by themselves.
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


TEXT = TimeFormat(name="text", encode=_to_text, encode_seconds=_seconds_to_text, decode=_from_text)
"""`2026-01-31 12:00:00.000000`, UTC: what Django and SQLAlchemy write, and what SQLite's own date functions read."""


def encoded(moment: object) -> str | int | float | None:
    """Return a moment as `TEXT` keeps it, and None for anything else."""
    return TEXT.encode(moment) if isinstance(moment, datetime) else None


SECONDS = TimeFormat(
    name="seconds",
    encode=lambda moment: int(moment.timestamp()),
    encode_seconds=lambda at: int(utc(at).timestamp()),
    decode=lambda value: datetime.fromtimestamp(value, UTC),
)
"""Whole seconds since 1970, as `unixepoch()` gives them."""

REAL_SECONDS = TimeFormat(
    name="real_seconds",
    encode=datetime.timestamp,
    encode_seconds=lambda at: utc(at).timestamp(),
    decode=lambda value: datetime.fromtimestamp(value, UTC),
)
"""Seconds since 1970 with a fraction, as `time.time()` gives them."""


def time_format_of(declared_type: str) -> TimeFormat:
    """Return the format that a column of this declared type keeps (https://www.sqlite.org/datatype3.html#determination_of_column_affinity)."""
    declared = declared_type.upper()
    if "INT" in declared:
        return SECONDS
    if any(word in declared for word in ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL")):
        return REAL_SECONDS
    return TEXT
