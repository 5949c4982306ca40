"""How long ago, in words."""

from __future__ import annotations

from datetime import datetime

JUST_NOW = 5

_UNITS = (
    ("s", 1, 60),
    ("min", 60, 3_600),
    ("h", 3_600, 86_400),
    ("d", 86_400, 2_592_000),
    ("mo", 2_592_000, 31_536_000),
)


def relative(moment: datetime, now: datetime) -> str:
    """Return how long ago in the words that the script goes on with."""
    seconds = int((now - moment).total_seconds())
    if seconds < JUST_NOW:
        return "just now"
    for unit, size, until in _UNITS:
        if seconds < until:
            return f"{seconds // size} {unit} ago"
    return f"{seconds // 31_536_000} y ago"
