"""The API's addresses of what a page shows, for programs and for spreadsheets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from lastseen.activity.store import MAX_PAGE

Link = tuple[str, str]
"""What it is called, and its address."""


def exports(path: str, fields: Iterable[tuple[str, str | None]] = ()) -> Sequence[Link]:
    """Return the addresses of an answer of the API in every form; fields that are empty are left out."""
    query = urlencode([(name, value) for name, value in fields if value])
    address, joint = (f"{path}?{query}", "&") if query else (path, "?")
    return (("JSON", address), ("CSV", f"{address}{joint}format=csv"), ("Parquet", f"{address}{joint}format=parquet"))


def list_exports(path: str, fields: Iterable[tuple[str, str | None]] = ()) -> Sequence[Link]:
    """Return the addresses of a list from its beginning, with as much of it as the API gives at once."""
    return exports(path, [*fields, ("limit", str(MAX_PAGE))])
