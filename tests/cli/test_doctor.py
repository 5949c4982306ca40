"""`lastseen migrate` and `lastseen doctor`."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from lastseen import LastSeen
from lastseen.stores.memory import MemoryClients
from tests.cli.conftest import Command, lines, write
from tests.servers import PostgresServer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHECKS = ["connection", "schema", "insert", "update", "batch of five", "shown", "taken back", "visits"]


def test_migrating_twice_changes_nothing(call: Command, database: str) -> None:
    """The first run names what it applied, the second says that there was nothing to do."""
    first = call("migrate", "--database", database, "--json")
    assert (first.code, first.err) == (0, "")
    assert first.document["applied"][0] == "0001_client_activity"
    second = call("migrate", "--database", database)
    assert second.out.endswith(": already up to date\n")
    assert call("migrate", "--database", database, "--json").document["applied"] == []


def test_migrate_makes_the_data_folder(call: Command, alone: Path) -> None:
    """The default database appears in the data folder, whichever of its parents are missing."""
    done = call("migrate", "--data-folder", alone / "a" / "b")
    assert done.code == 0
    assert "applied 0001_client_activity" in done.out
    assert (alone / "a" / "b" / "lastseen.db").is_file()


def test_a_healthy_database(call: Command, database: str) -> None:
    """Every check passes and the round trip leaves nothing behind, not in either table."""
    call("migrate", "--database", database)
    done = call("doctor", "--database", database, "--json")
    assert done.code == 0
    assert done.document["healthy"] is True
    assert [(check["name"], check["passed"]) for check in done.document["checks"]] == [(name, True) for name in CHECKS]
    with LastSeen.open(database) as seen:
        assert seen.clients.count() == 0
        assert seen.clients.active_clients_by_hour(EPOCH) == {}


def test_the_doctor_leaves_real_clients_alone(call: Command, database: str, alone: Path) -> None:
    """What was there before is there afterwards, unchanged."""
    call("import", "activity", write(alone / "log", lines(("a", 1_000), ("b", 2_000))), "--database", database)
    before = call("clients", "list", "--json", "--database", database).out
    printed = call("doctor", "--database", database)
    assert printed.code == 0
    assert [line[0] for line in printed.out.splitlines()] == ["✓"] * len(CHECKS)
    assert call("clients", "list", "--json", "--database", database).out == before


def test_missing_tables_are_found(call: Command, database: str, alone: Path) -> None:
    """The schema check fails with the command that helps, nothing further is tried, and nothing is written."""
    if database.startswith("sqlite"):
        write(alone / "lastseen.db", b"")
    done = call("doctor", "--database", database)
    assert done.code == 1
    assert [line[0] for line in done.out.splitlines()] == ["✓", "✗", *"------"]
    assert "lastseen migrate" in done.out


def test_a_database_that_is_not_there(call: Command, alone: Path) -> None:
    """The doctor makes no database; it says what does."""
    done = call("doctor", "--json")
    assert done.code == 1
    assert [check["passed"] for check in done.document["checks"]] == [False]
    assert list(alone.iterdir()) == []


def test_missing_rights_are_found(call: Command, postgres: PostgresServer, postgres_url: str) -> None:
    """A role that may read but not write passes the first checks and fails at the insert."""
    call("migrate", "--database", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS lastseen_reader")
        connection.execute("CREATE ROLE lastseen_reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO lastseen_reader")
    done = call("doctor", "--database", postgres_url.replace("//postgres@", "//lastseen_reader@"), "--json")
    passed = {check["name"]: check["passed"] for check in done.document["checks"]}
    assert done.code == 1
    assert (passed["schema"], passed["insert"]) == (True, False)
    [detail] = [check["detail"] for check in done.document["checks"] if check["name"] == "insert"]
    assert "permission denied" in detail


def test_a_trigger_that_keeps_old_times_is_found(call: Command, alone: Path) -> None:
    """A database that takes writes and does something else with them fails the round trip, and is cleaned up."""
    call("migrate", "--data-folder", alone)
    with sqlite3.connect(alone / "lastseen.db") as connection:
        connection.execute(
            "CREATE TRIGGER stubborn AFTER UPDATE ON client_activity BEGIN "
            "UPDATE client_activity SET last_seen = old.last_seen WHERE client_id = old.client_id; END"
        )
    connection.close()
    done = call("doctor", "--data-folder", alone, "--json")
    assert done.code == 1
    assert {check["name"]: check["passed"] for check in done.document["checks"]} == {
        "connection": True,
        "schema": True,
        "insert": True,
        "update": False,
        "batch of five": None,
        "shown": None,
        "taken back": True,
        "visits": None,
    }
    assert call("clients", "count", "--json", "--data-folder", alone).document["total"] == 0


def test_every_store_of_ours_can_take_clients_back(database: str) -> None:
    """Removing forgets a client and its hours; ids that are not there do not count."""
    with LastSeen.open(database, migrate=True) as seen:
        for clients in (MemoryClients(), seen.store.clients):
            at = EPOCH.replace(year=2020)
            clients.batch_record_activity({"a": at, "b": at})
            clients.batch_record_hours({"a": [at], "b": [at]})
            assert clients.remove_clients(["a", "nobody"]) == 1  # type: ignore[attr-defined]
            assert clients.remove_clients([]) == 0  # type: ignore[attr-defined]
            assert clients.get_client("a") is None
            assert clients.get_client("b") is not None
            assert clients.active_hours(["a", "b"], EPOCH) == {"b": [at]}
