"""Text that a database cannot hold."""

from __future__ import annotations


def can_be_stored(text: str) -> bool:
    """Whether a database can hold this text: no NUL, no half of a character. What it cannot hold, it does not find."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def can_be_asked(*texts: str | None) -> bool:
    """Whether a database can be asked for all of these; None asks for nothing."""
    return all(text is None or can_be_stored(text) for text in texts)
