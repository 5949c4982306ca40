"""The schema in PostgreSQL: made once, brought forward with data in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lastseen import LastSeen, SchemaError, StoreUnavailable
from lastseen.errors import ConfigurationError
from lastseen.stores import open_store
from lastseen.stores.absence import may_pass
from lastseen.stores.migrations import load_migrations
from lastseen.testing import moment
from tests.servers import PostgresServer, ask

NAMES = [migration.name for migration in load_migrations("postgres")]


def test_migrating_twice_changes_nothing(postgres_url: str) -> None:
    """The first run applies every migration in order, the second none."""
    store = open_store(postgres_url)
    assert store.pending_migrations() == NAMES
    assert store.migrate() == NAMES
    assert (store.pending_migrations(), store.migrate()) == ([], [])
    store.close()


def test_an_old_schema_keeps_its_data(postgres_url: str) -> None:
    """A database of the first version, with clients in it, is brought to the present one and loses nothing."""
    ask(postgres_url, load_migrations("postgres")[0].sql)
    ask(
        postgres_url,
        "CREATE TABLE lastseen_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    )
    ask(postgres_url, "INSERT INTO lastseen_migrations VALUES (%s)", [NAMES[0]])
    ask(postgres_url, "INSERT INTO client_activity VALUES ('old', %s, %s)", [moment(5), moment(1)])
    with LastSeen.open(postgres_url, migrate=True) as seen:
        client = seen.clients.get("old")
        assert client is not None
        assert (client.last_seen_at, client.created_at) == (moment(5), moment(1))
        seen.clients.record("old", moment(9))
        seen.clients.flush()
        assert seen.clients.active_hours(["old"], moment(hours=-1)) == {"old": [moment()]}


def test_migrators_wait_for_each_other(postgres_url: str) -> None:
    """Four at once: one applies everything, the others find it done."""
    stores = [open_store(postgres_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda store: store.migrate(), stores))
    assert sorted(applied) == [[], [], [], NAMES]
    for store in stores:
        store.close()


def test_a_missing_table_says_what_to_run(postgres_url: str) -> None:
    """Opening without migrating names the missing tables and the command, with an address that has no password."""
    address = postgres_url.replace("postgres@", "postgres:secret@")
    with pytest.raises(SchemaError) as caught:
        LastSeen.open(address)
    assert str(caught.value).endswith(f"run: lastseen migrate --database {postgres_url}")
    assert "client_activity" in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://user:se[cret@127.0.0.1:1/x", "postgresql://user:secr]et@a..b/x"])
def test_a_password_of_any_characters_and_a_host_that_cannot_be(url: str) -> None:
    """Brackets in a password make no IPv6 address of it, and a name that no host has is said, not thrown."""
    with pytest.raises(StoreUnavailable, match=r"connection failed|label empty") as caught:
        LastSeen.open(url)
    assert str(caught.value).startswith("postgresql://user@")
    assert may_pass(caught.value, url) is ("127.0.0.1" in url)


@pytest.mark.parametrize("url", ["postgresql://[host", "postgresql://h\udcff/x", "postgresql://user:%zz@h/x"])
def test_an_address_that_cannot_be_read(url: str) -> None:
    """The message says how to write one, and nothing of what was written: there may be a password in it."""
    with pytest.raises(ConfigurationError, match="write postgresql://user@host:port/name"):
        LastSeen.open(url)


@pytest.mark.parametrize("name", ["nowhere", "nobody's%20database"])
def test_no_message_tells_the_password(postgres: PostgresServer, name: str) -> None:
    """Neither a connection that fails nor an address that cannot be read shows the password."""
    with pytest.raises(StoreUnavailable) as unavailable:
        LastSeen.open(f"postgresql://postgres:se%2Fcret@127.0.0.1:{postgres.port}/{name}")
    with pytest.raises(ConfigurationError) as unreadable:
        LastSeen.open(f"postgresql://postgres:se%2Fcret@127.0.0.1:port/{name}?nonsense=1")
    for error in (unavailable.value, unreadable.value):
        chain: BaseException | None = error
        while chain is not None:
            assert "cret" not in str(chain)
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
