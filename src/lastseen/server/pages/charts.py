"""What the small charts are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

_HOUR = timedelta(hours=1)
DAY_STRIP = 47 * _HOUR
"""With the hour that runs now, the strip of a client shows 48 hours."""
STRIP_HOURS = 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One client's active hours: an SVG path on a grid of 48 by 1 hours, and the same in words."""

    path: str
    words: str


def active_strip(hours: Iterable[datetime], since: datetime) -> Strip:
    """Return the strip of these hours; neighbours become one bar."""
    slots = sorted({slot for hour in hours if 0 <= (slot := (hour - since) // _HOUR) < STRIP_HOURS})
    bars: list[list[int]] = []
    for slot in slots:
        if bars and bars[-1][1] == slot:
            bars[-1][1] = slot + 1
        else:
            bars.append([slot, slot + 1])
    path = "".join(f"M{start} 0H{end}V1H{start}z" for start, end in bars)
    return Strip(path=path, words=f"active in {len(slots)} of the last {STRIP_HOURS} hours")


def hourly_values(counts: Mapping[datetime, int], since: datetime, now: datetime) -> list[int]:
    """Return one number an hour, from `since` to the hour that runs now; hours without any are 0."""
    return [counts.get(since + index * _HOUR, 0) for index in range((now - since) // _HOUR + 1)]


def busiest_hour(counts: Mapping[datetime, int]) -> tuple[datetime, int] | None:
    """Return the hour with the most clients, the latest of several, or None when there was none."""
    return max(counts.items(), key=lambda item: (item[1], item[0]), default=None)
