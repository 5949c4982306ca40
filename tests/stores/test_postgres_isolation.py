"""Transactions behave alike, whatever a database or an application made the default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
import sqlalchemy

from lastseen.stores import open_store
from lastseen.visits.rule import VisitRule
from tests.server.running import eventually
from tests.servers import ask, database_of
from tests.stores.test_columnar import simple

STRICT = "repeatable read"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def engine_of(url: str, driver: str, stack: ExitStack) -> sqlalchemy.Engine:
    """Return an engine of an application that wants another level."""
    address = url.replace("postgresql:", f"postgresql+{driver}:")
    engine = sqlalchemy.create_engine(address, isolation_level=STRICT.upper())
    stack.callback(engine.dispose)
    return engine


@pytest.mark.parametrize("kind", ["url", "psycopg", "psycopg2"])
def test_who_waited_for_a_visitor_goes_on_with_what_was_written(postgres_url: str, kind: str) -> None:
    """A database whose transactions see only what was there at their beginning refuses whoever had to wait."""
    ask(postgres_url, f"ALTER DATABASE {database_of(postgres_url)} SET default_transaction_isolation TO '{STRICT}'")
    with ExitStack() as stack:
        source: Any = postgres_url if kind == "url" else engine_of(postgres_url, kind, stack)
        store = open_store(source)
        stack.callback(store.close)
        store.migrate()
        first, _, _, _, _, second = simple(6)
        store.visits.save([first], lambda _site: VisitRule())
        other = stack.enter_context(psycopg.connect(postgres_url, autocommit=True))
        saving = stack.enter_context(ThreadPoolExecutor(1))
        with other.transaction():
            other.execute("UPDATE lastseen_identities SET newest_at = newest_at")
            saved = saving.submit(store.visits.save, [second], lambda _site: VisitRule())
            eventually(lambda: ask(postgres_url, WAITING) == [(1,)], "it waits for the visitor")
        assert saved.result().new == 1


def test_the_level_is_what_refuses(postgres_url: str) -> None:
    """The negative control: in a transaction of that level, who waited for a row that changed is refused it."""
    ask(postgres_url, "CREATE TABLE things (one int)")
    ask(postgres_url, "INSERT INTO things VALUES (1)")
    with psycopg.connect(postgres_url) as strict:
        strict.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        strict.execute("SELECT 1 FROM things")
        ask(postgres_url, "UPDATE things SET one = 2")
        with pytest.raises(psycopg.errors.SerializationFailure):
            strict.execute("SELECT 1 FROM things FOR NO KEY UPDATE")
