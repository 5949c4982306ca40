"""A library that is not installed is named with what to install; one that is there but broken says itself why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.accounts.passwords import Argon2Hasher
from lastseen.client import Client
from lastseen.errors import MissingExtra
from lastseen.server.http_servers import run_granian
from lastseen.stores import open_store
from lastseen.stores.columnar.opening import look_at_copies, open_copy
from lastseen.visits import addresses
from lastseen.visits.geography import Geography
from lastseen.visits.user_agents import read_user_agent
from lastseen.web.page_views import PageViews

POSTGRES = "postgresql://somebody@127.0.0.1:1/nothing"
NOTHING: Any = None


def open_page_views() -> None:
    with LastSeen.open("memory:") as seen:
        PageViews(seen)


WAYS: dict[str, tuple[str, Callable[[], object]]] = {
    "psycopg": ("psycopg", lambda: open_store(POSTGRES)),
    "psycopg_pool": ("psycopg_pool", lambda: open_store(POSTGRES)),
    "duckdb": ("duckdb", lambda: open_copy(None, "a", "b")),
    "duckdb-look": ("duckdb", lambda: list(look_at_copies(Path(), "a"))),
    "httpx": ("httpx", lambda: Client("http://127.0.0.1:1")),
    "argon2": ("argon2", Argon2Hasher),
    "maxminddb": ("maxminddb", lambda: Geography("none.mmdb")),
    "ua_parser": ("ua_parser", lambda: read_user_agent("one that nobody has read before")),
    "publicsuffixlist": ("publicsuffixlist", lambda: addresses.registrable_domain("nobody.has.asked.before.test")),
    "ua_parser-page-views": ("ua_parser", open_page_views),
    "publicsuffixlist-page-views": ("publicsuffixlist", open_page_views),
    "granian": ("granian", lambda: run_granian(NOTHING, NOTHING, NOTHING, NOTHING)),
}


class Absent:
    """Finds nothing under one name, as Python does where nothing is."""

    def __init__(self, library: str) -> None:
        self._library = library

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Callable[[], object]]:
    """Return a library as if it was not imported yet, and what imports it."""
    library, call = WAYS[request.param]
    users = ("lastseen.stores.postgres.pool", "lastseen.stores.columnar.duckdb")
    for name in list(sys.modules):
        if name.partition(".")[0] == library or name in users:
            monkeypatch.delitem(sys.modules, name)
    addresses._private_suffix.cache_clear()
    return library, call


def test_a_library_that_is_not_there_is_named_with_what_to_install(
    way: tuple[str, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python says that it found no module of this name."""
    library, call = way
    monkeypatch.setattr(sys, "meta_path", [Absent(library), *sys.meta_path])
    with pytest.raises(MissingExtra, match="pip install"):
        call()


@pytest.mark.parametrize(
    "reason",
    ["raise ImportError('libpq.so.5 is too old')", "import something_that_it_needs"],
    ids=["cannot-be-loaded", "lacks-another"],
)
def test_a_library_that_is_broken_says_why(
    way: tuple[str, Callable[[], object]], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To install it again would be no help."""
    library, call = way
    (tmp_path / f"{library}.py").write_text(reason)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"libpq.so.5 is too old|something_that_it_needs") as raised:
        call()
    assert not isinstance(raised.value, MissingExtra)
