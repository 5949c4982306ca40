"""What may be in a device, a group or a key. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.activity.key import key_problem
from lastseen.errors import InvalidValue

JSON = Any
"""What JSON can hold: None, booleans, numbers, texts, and lists and objects of these. mypy knows no such type that
`json` and msgspec would agree with."""

MAX_NAME_LENGTH = 200
MAX_PLATFORM_LENGTH = 100
MAX_PROPERTIES_SIZE = 16_384
"""Bytes, as JSON."""
MAX_PROPERTIES_DEPTH = 8

# The whole numbers that every reader of JSON gives back as they were written (RFC 7493, 2.2).
_LARGEST_NUMBER = 2**53 - 1

ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""For `str.translate`: the case of ASCII letters, and of no others, is ignored by every store alike."""


def check_id(field: str, value: object) -> None:
    """Raise `InvalidValue` unless this is a string of 1 to 255 printable characters, as every id is."""
    problem = key_problem(value)
    if problem is not None:
        raise InvalidValue(f"{field} {problem}")


def check_text(field: str, value: object, longest: int, *, required: bool = False) -> None:
    """Raise `InvalidValue` unless this is a text that can be stored and shown on one line; it may be empty."""
    if isinstance(value, str) and len(value) > longest:
        raise InvalidValue(f"{field} must have at most {longest} characters")
    problem = None if value == "" and not required else key_problem(value)
    if problem is not None:
        raise InvalidValue(f"{field} {problem}")


def check_properties(properties: JSON) -> None:
    """Raise `InvalidValue` unless every store gives these back as they are."""
    problem = "must be an object" if not isinstance(properties, Mapping) else _problem(properties, 0)
    if problem is not None:
        raise InvalidValue(f"properties {problem}")
    if len(msgspec.json.encode(properties)) > MAX_PROPERTIES_SIZE:
        raise InvalidValue(f"properties must have at most {MAX_PROPERTIES_SIZE} bytes as JSON")


def _problem(value: JSON, depth: int) -> str | None:
    if depth > MAX_PROPERTIES_DEPTH:
        return f"must be nested at most {MAX_PROPERTIES_DEPTH} deep"
    if isinstance(value, Mapping):
        for key in value:
            problem = key_problem(key)
            if problem is not None:
                return f"a name {problem}"
        return _first_problem(list(value.values()), depth)
    if isinstance(value, list | tuple):
        return _first_problem(list(value), depth)
    return _problem_of_scalar(value)


def _first_problem(values: list[JSON], depth: int) -> str | None:
    return next((problem for value in values if (problem := _problem(value, depth + 1)) is not None), None)


def _problem_of_scalar(value: JSON) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        halved = any("\ud800" <= character <= "\udfff" for character in value)
        return "must not contain lone surrogates or NUL" if halved or "\0" in value else None
    if isinstance(value, int):
        return None if abs(value) <= _LARGEST_NUMBER else f"whole numbers must be within ±{_LARGEST_NUMBER}"
    if isinstance(value, float):
        return None if math.isfinite(value) else "numbers must be finite"
    return f"must be JSON, not a {type(value).__name__}"
