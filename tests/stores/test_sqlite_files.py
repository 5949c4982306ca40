"""What may happen to an SQLite file, and what its adopted tables keep."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen import LastSeen, SchemaError, StoreError, StoreUnavailable
from lastseen.errors import ConfigurationError
from lastseen.stores import open_store
from lastseen.testing import moment, updates


def run(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


def write_batches(url: str, process: int) -> None:
    """Open, migrate and write fifty batches to keys that all processes share."""
    store = open_store(url, deadline=timedelta(seconds=60))
    store.migrate()
    for second in range(50):
        store.clients.batch_record_activity(updates(*(f"key-{number}" for number in range(20)), at=moment(second)))
        store.clients.batch_record_activity({f"own-{process}": moment(second)})
    store.close()


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    """Four processes that make, migrate and write the same new file at once all succeed, and the newest time stays."""
    url, spawn = f"sqlite:///{tmp_path}/shared.db", multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_batches, args=(url, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    store = open_store(url)
    assert store.pending_migrations() == []
    stored = {number: store.clients.get_client(f"own-{number}") for number in range(4)}
    assert {client and client.last_seen_at for client in stored.values()} == {moment(49)}
    store.close()


def test_a_forked_child_has_its_own_connection(tmp_path: Path) -> None:
    """A child of a process that already used the file writes on its own, and the parent goes on."""
    store = open_store(f"sqlite:///{tmp_path}/forked.db")
    store.migrate()
    store.clients.batch_record_activity(updates("parent"))
    child = os.fork()
    if child == 0:
        os._exit(0 if store.clients.batch_record_activity(updates("child")) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.clients.batch_record_activity(updates("child", "parent", at=moment(1))) == 2
    store.close()


def test_another_process_holds_the_lock(tmp_path: Path) -> None:
    """A write waits for its deadline, then says that the file is busy; reading goes on meanwhile."""
    path = tmp_path / "locked.db"
    store = open_store(f"sqlite:///{path}", deadline=timedelta(milliseconds=50))
    store.migrate()
    store.clients.batch_record_activity(updates("a"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.clients.batch_record_activity(updates("b"))
    assert store.clients.get_client("a") is not None
    other.execute("ROLLBACK")
    other.close()
    assert store.clients.batch_record_activity(updates("b")) == 1
    store.close()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    """A file that is not a database is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    with pytest.raises(StoreError, match=r"notes\.txt is not an SQLite database"):
        LastSeen.open(f"sqlite:///{path}", migrate=True)
    assert path.read_text() == "These are my notes. " * 100


def test_a_missing_folder(tmp_path: Path) -> None:
    """Migrating makes it; everything else says that the file cannot be opened."""
    url = f"sqlite:///{tmp_path}/new/folder/clients.db"
    with pytest.raises(StoreUnavailable, match="unable to open"):
        LastSeen.open(url)
    with LastSeen.open(url, migrate=True) as seen:
        assert seen.clients.count() == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        LastSeen.open(f"sqlite:///{tmp_path}/file/clients.db", migrate=True)


def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    """A read-only database refuses writes as unavailable: it may become writable again."""
    path = tmp_path / "clients.db"
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    store.close()
    # Read-only by its address: permissions would not keep the superuser out.
    read_only = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    store._activity_database._connections["write"] = read_only  # type: ignore[attr-defined] # its own would be writable
    with pytest.raises(StoreUnavailable, match="readonly"):
        store.clients.batch_record_activity(updates("a"))
    store.close()
    assert store.clients.batch_record_activity(updates("a")) == 1
    store.close()


def test_stale_rows_do_not_count(tmp_path: Path) -> None:
    """In a mixed batch only inserted rows and rows that moved forward count."""
    store = open_store(f"sqlite:///{tmp_path}/clients.db")
    store.migrate()
    assert store.clients.batch_record_activity({"a": moment(1), "b": moment(5)}) == 2
    batch = {"a": moment(1), "b": moment(4), "c": moment(0), "d": moment(0)}
    assert store.clients.batch_record_activity(batch) == 2
    assert store.clients.batch_record_activity({"a": moment(0), "b": moment(6)}) == 1
    assert store.clients.batch_record_activity(batch) == 0
    store.close()


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("TIMESTAMP", "2026-01-01 12:00:05.000000"),
        ("DATETIME", "2026-01-01 12:00:05.000000"),
        ("INTEGER", 1767268805),
        ("REAL", 1767268805.0),
    ],
)
def test_an_existing_table_is_adopted(tmp_path: Path, declared: str, stored: object) -> None:
    """Clients of a table that was there before keep their rows, and their times keep the column's own format."""
    path = tmp_path / "app.db"
    run(
        path,
        f"CREATE TABLE client_activity (client_id VARCHAR(64) UNIQUE, last_seen {declared}, created_at {declared})",
    )
    run(path, f"INSERT INTO client_activity VALUES ('old', {stored!r}, {stored!r})")
    with LastSeen.open(f"sqlite:///{path}", migrate=True) as seen:
        client = seen.clients.get("old")
        assert client is not None
        assert (client.last_seen_at, client.created_at) == (moment(5), moment(5))
        seen.clients.record("old", moment(9))
        seen.clients.record("new", moment(5))
        assert seen.clients.flush().updated_count == 2
        assert [client.last_seen_at for client in seen.clients.list()] == [moment(9), moment(5)]
    assert run(path, "SELECT last_seen FROM client_activity WHERE client_id = 'new'") == [(stored,)]


def test_a_table_without_a_unique_key(tmp_path: Path) -> None:
    """It cannot be upserted into, and the message says what it needs."""
    path = tmp_path / "app.db"
    run(path, "CREATE TABLE client_activity (client_id TEXT, last_seen TIMESTAMP, created_at TIMESTAMP)")
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    with pytest.raises(SchemaError, match="needs a unique key"):
        store.clients.batch_record_activity(updates("a"))
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/file.db",
        "sqlite://[host/file.db",
        "sqlite:///%00.db",
    ],
)
def test_an_address_without_a_file(url: str) -> None:
    """What names no file is refused with the ways to write it."""
    with pytest.raises(ConfigurationError, match="names no file"):
        open_store(url)


def test_what_cannot_be_stored_is_not_found(tmp_path: Path) -> None:
    """NUL and half characters in a question find nothing, and fail nothing."""
    with LastSeen.open(f"sqlite:///{tmp_path}/clients.db", migrate=True) as seen:
        seen.clients.record("a")
        for text in ("a\0", "\ud800"):
            assert list(seen.clients.list(search=text)) == []
            assert seen.clients.count(search=text) == 0
            assert seen.clients.get(text) is None
            assert seen.clients.active_hours([text], moment()) == {}
