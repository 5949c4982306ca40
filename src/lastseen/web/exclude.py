"""Paths that record nothing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable

DEFAULT_EXCLUDED = (
    "/health*",
    "/livez",
    "/readyz",
    "/metrics",
    "/metrics/*",
    "/static/*",
    "/favicon.ico",
    "/robots.txt",
)
"""Probes, scrapers and static files: they say nothing about a client."""

_WILD = re.compile(r"[*?\[]")


def excluded_paths(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a path is excluded.

    Patterns are those of a shell: `*` for anything (also slashes), `?` for one character, `[…]` for one of these. They
    are sorted into exact ones, prefixes and the rest once, because every request is compared.
    """
    patterns = tuple(patterns)
    exact = frozenset(pattern for pattern in patterns if not _WILD.search(pattern))
    prefixes = tuple(pattern[:-1] for pattern in patterns if _is_prefix(pattern))
    rest = [fnmatch.translate(pattern) for pattern in patterns if pattern not in exact and not _is_prefix(pattern)]
    matches = re.compile("|".join(rest)).match if rest else None

    def excludes(path: str) -> bool:
        return path in exact or path.startswith(prefixes)

    def excludes_or_matches(path: str) -> bool:
        return path in exact or path.startswith(prefixes) or (matches is not None and matches(path) is not None)

    return excludes if matches is None else excludes_or_matches


def first_excluded(patterns: Iterable[str]) -> str:
    """Return a text before which, in the order of texts, no path is excluded: to compare two is cheaper than to ask."""
    return min((_WILD.split(pattern)[0] for pattern in patterns), default="")


def _is_prefix(pattern: str) -> bool:
    return pattern.endswith("*") and not _WILD.search(pattern[:-1])
