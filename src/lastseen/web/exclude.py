"""Paths that record nothing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

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


class ExcludedPaths:
    """Patterns as in a shell: `*` for anything (also slashes), `?` for one character, `[…]` for one of these.

    The patterns are sorted into exact ones, prefixes and the rest once, because every request is compared.
    """

    __slots__ = ("_exact", "_pattern", "_prefixes")

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._exact = frozenset(pattern for pattern in patterns if not _WILD.search(pattern))
        others = [pattern for pattern in patterns if pattern not in self._exact]
        self._prefixes = tuple(pattern[:-1] for pattern in others if _is_prefix(pattern))
        rest = [fnmatch.translate(pattern) for pattern in others if not _is_prefix(pattern)]
        self._pattern = re.compile("|".join(rest)) if rest else None

    def __contains__(self, path: str) -> bool:
        """Return whether the path is excluded."""
        return (
            path in self._exact
            or path.startswith(self._prefixes)
            or (self._pattern is not None and self._pattern.match(path) is not None)
        )


def _is_prefix(pattern: str) -> bool:
    return pattern.endswith("*") and not _WILD.search(pattern[:-1])
