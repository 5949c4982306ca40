"""Stores that the tests of this folder share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lastseen.stores import Store, open_store
from tests.servers import ask


@pytest.fixture(params=["sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Make an empty store with its tables, on either database."""
    url = f"sqlite:///{tmp_path}/sessions.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    store = open_store(url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def run(any_store: Store) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Run a statement of the test's own on the store's database."""
    address = any_store.address
    if not address.startswith("sqlite"):
        yield partial(ask, address)
        return
    connection = sqlite3.connect(address.removeprefix("sqlite:///"), isolation_level=None)
    yield lambda statement: connection.execute(statement).fetchall()
    connection.close()
