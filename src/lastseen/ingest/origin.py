"""Where a request came from, and the ids of events that bring none. Pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from lastseen.visits.event import MAX_ID_LENGTH

_ID_BYTES = 16
_MOST_PIXELS = 100_000
_LONGEST_SCREEN = 20
_LONGEST_ADDRESS = 100
_encode = msgspec.json.Encoder(order="deterministic").encode


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a request beside its body."""

    received_at: int
    address: str | None = None
    user_agent: str | None = None


def derived_id(*parts: Any) -> str:
    """Return the id of an event that has none: the same parts, as JSON, give the same id."""
    return blake2b(_encode(parts), digest_size=_ID_BYTES).hexdigest()


def is_browser(user_agent: str | None) -> bool:
    """Return whether a request is a browser's, or of something that says it is one: programs name themselves."""
    return user_agent is not None and user_agent.startswith(("Mozilla/", "Opera/"))


def id_text(value: Any) -> str | None:
    """Return an id as text, a number as it is written; None for what is none or too long to be one."""
    if type(value) is str:
        text = value.strip()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
    else:
        return None
    return text if 0 < len(text) <= MAX_ID_LENGTH else None


def text_or_none(value: Any, longest: int = 2_048) -> str | None:
    """Return non-empty text, cut to a length; None for anything else."""
    return value[:longest] if isinstance(value, str) and value else None


def screen_of(width: Any, height: Any) -> str | None:
    """Return a screen's size in pixels as `1920x1080`; None for numbers that are none of a screen."""
    for side in (width, height):
        if not isinstance(side, int | float) or isinstance(side, bool) or not 0 < side < _MOST_PIXELS:
            return None
    return f"{width:.0f}x{height:.0f}"


def screen_or_none(text: str | None) -> str | None:
    """Return what a client calls its screen, None for what is too long to be one."""
    return text if text and len(text) <= _LONGEST_SCREEN else None


def address_or_none(text: str | None) -> str | None:
    """Return what a client calls an address, None for what is too long to be one: who asks where it is remembers it."""
    return text if text and len(text) <= _LONGEST_ADDRESS else None
