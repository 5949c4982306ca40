"""What may be the key of an activity."""

from __future__ import annotations

import re

MAX_KEY_LENGTH = 255

# Control characters (C0, DEL, C1) and lone surrogates: PostgreSQL takes no NUL, and no database takes half a character.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


def key_problem(key: object) -> str | None:
    """Say in words why this cannot be a key, or None when it can: a string of 1 to 255 printable characters."""
    # What is printable for Python has nothing forbidden; the rest, like a no-break space, is looked at in detail.
    if type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable():
        return None
    if not isinstance(key, str):
        return "must be a string"
    if not key:
        return "must not be empty"
    if len(key) > MAX_KEY_LENGTH:
        return f"must have at most {MAX_KEY_LENGTH} characters"
    if _FORBIDDEN(key):
        return "must not contain control characters or lone surrogates"
    return None
