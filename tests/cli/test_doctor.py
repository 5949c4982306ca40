"""`lastseen migrate` and `lastseen doctor`."""

from __future__ import annotations

import os
import pwd
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lastseen import LastSeen
from lastseen.stores.memory import MemoryClients
from tests.cli.conftest import LASTSEEN, Command, Done, lines, write
from tests.servers import PostgresServer, ask, reserved_port

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OF_DATABASE = ["connection", "schema", "insert", "update", "batch of five", "shown", "taken back", "visits"]
BESIDE = ["data folder", "spool", "copies", "port"]
CHECKS = [*OF_DATABASE, *BESIDE]


@pytest.fixture(autouse=True)
def quiet_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let the server's port be one that nobody uses."""
    with reserved_port() as port:
        monkeypatch.setenv("LASTSEEN_PORT", str(port))
        yield port


def found(done: Done) -> dict[str, dict[str, Any]]:
    """Return what the doctor says, by the name of the check."""
    return {check["name"]: check for check in done.document["checks"]}


def test_migrating_twice_changes_nothing(call: Command, database: str) -> None:
    """The first run names what it applied, the second says that there was nothing to do."""
    first = call("migrate", "--database", database, "--json")
    assert (first.code, first.err) == (0, "")
    assert first.document["applied"][0] == "0001_client_activity"
    second = call("migrate", "--database", database)
    assert second.out.endswith(": already up to date\n")
    assert call("migrate", "--database", database, "--json").document["applied"] == []


def test_after_migrating_everything_can_be_asked(call: Command, database: str) -> None:
    """Nothing is there yet, which is an answer: nobody needs to start a server first."""
    call("migrate", "--database", database)
    for command in (
        ["clients", "list"],
        ["visits", "count"],
        ["report", "visits"],
        ["devices", "list"],
        ["sites", "list"],
    ):
        done = call(*command, "--database", database, "--json")
        assert (done.code, done.err) == (0, ""), command
    assert call("visits", "count", "--database", database, "--json").document["all"] == 0


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
    assert [line[0] for line in done.out.splitlines()] == ["✓", "✗", *"------", *"✓✓✓✓"]
    assert "lastseen migrate" in done.out


def test_a_database_that_is_not_there(call: Command, alone: Path) -> None:
    """The doctor makes no database; it says what does."""
    done = call("doctor", "--json")
    assert done.code == 1
    assert [check["passed"] for check in done.document["checks"]] == [False, True, True, True, True]
    assert list(alone.iterdir()) == []


def test_missing_rights_are_found(call: Command, postgres: PostgresServer, postgres_url: str) -> None:
    """A role that may read but not write passes the first checks and fails at the insert."""
    call("migrate", "--database", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS lastseen_reader")
        connection.execute("CREATE ROLE lastseen_reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO lastseen_reader")
    done = call("doctor", "--database", postgres_url.replace("//postgres@", "//lastseen_reader@"), "--json")
    checks = found(done)
    assert done.code == 1
    assert (checks["schema"]["passed"], checks["insert"]["passed"]) == (True, False)
    assert "permission denied" in checks["insert"]["detail"]


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
    assert {name: check["passed"] for name, check in found(done).items() if name in OF_DATABASE} == {
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


def test_a_database_of_a_newer_version(call: Command, database: str) -> None:
    """This version does not touch it: what it wrote there could be wrong."""
    call("migrate", "--database", database)
    if database.startswith("sqlite"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
            connection.execute("INSERT INTO lastseen_migrations VALUES ('9999_later', datetime('now'))")
            connection.commit()
    else:
        ask(database, "INSERT INTO lastseen_migrations VALUES ('9999_later', now())")
    done = call("doctor", "--database", database, "--json")
    assert (done.code, found(done)["schema"]["passed"], found(done)["insert"]["passed"]) == (1, False, None)
    assert "9999_later" in found(done)["schema"]["detail"]
    for command in ("migrate", "serve"):
        refused = call(command, "--database", database)
        assert (refused.code, len(refused.err.splitlines())) == (1, 1)
        assert "upgrade lastseen" in refused.err


def test_a_database_that_is_away_is_another_exit_code(call: Command, quiet_port: int) -> None:
    """A script can tell it from what needs a hand, such as a wrong name of the database."""
    done = call("doctor", "--database", f"postgresql://postgres@127.0.0.1:{quiet_port}/none", "--json")
    assert (done.code, found(done)["connection"]["may_pass"]) == (3, True)


def test_a_database_that_refuses_needs_a_hand(call: Command, postgres: PostgresServer, postgres_url: str) -> None:
    """The negative control of the test above."""
    done = call("doctor", "--database", postgres.url_of("missing"), "--json")
    assert (done.code, found(done)["connection"]["may_pass"]) == (1, False)


@pytest.mark.parametrize("content", [b"no database at all" * 500, None], ids=["garbage", "folder"])
def test_a_file_that_is_no_database(call: Command, alone: Path, content: bytes | None) -> None:
    """The doctor, a migration and the server say so in one line."""
    file = alone / "data" / "lastseen.db"
    file.mkdir(parents=True) if content is None else write_in(file, content)
    assert call("doctor", "--data-folder", file.parent, "--json").document["checks"][0]["passed"] is False
    for command in ("migrate", "serve"):
        done = call(command, "--data-folder", file.parent)
        assert done.code in {1, 3}
        assert len(done.err.splitlines()) == 1
        assert str(file) in done.err


def write_in(file: Path, content: bytes) -> None:
    """Write a file, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.fixture
def folder_of_another(alone: Path) -> Path:
    """Give a data folder, with a database in it, that may be read and not written."""
    with LastSeen.open(f"sqlite:///{alone}/data/lastseen.db", migrate=True):
        pass
    (alone / "data").chmod(0o555)
    if os.geteuid() == 0:
        os.chown(alone / "data", pwd.getpwnam("nobody").pw_uid, -1)
    return alone / "data"


# 24 is PR_CAPBSET_DROP, 1 and 2 are what lets root pass over permissions
# (https://man7.org/linux/man-pages/man7/capabilities.7.html); without them it is a user like another.
WITHOUT_PRIVILEGES = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("migrate",), ("doctor",), ("clients", "list")], ids=str)
def test_a_folder_of_somebody_else(folder_of_another: Path, command: tuple[str, ...]) -> None:
    """One line names the folder and what is missing; nothing is a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRIVILEGES, LASTSEEN, *command, "--data-folder", folder_of_another],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if command == ("doctor",) else 3)
    assert f"may not write to the folder {folder_of_another}" in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == (command != ("doctor",))


def test_a_damaged_spool_wants_somebody_to_look(call: Command, alone: Path) -> None:
    """Until the file is deleted; what merely waits is told and is no failure."""
    call("migrate", "--data-folder", alone)
    waiting, damaged = alone / "spool" / "1" / "00000002.spool", alone / "spool" / "1" / "00000001.damaged"
    write_in(waiting, b"waits")
    done = call("doctor", "--data-folder", alone, "--json")
    assert (done.code, found(done)["spool"]["detail"][:11]) == (0, "1 file with")
    write_in(damaged, b"damaged")
    done = call("doctor", "--data-folder", alone, "--json")
    assert (done.code, found(done)["spool"]["passed"]) == (1, False)
    assert str(damaged) in found(done)["spool"]["detail"]


def test_a_broken_copy_is_told_and_is_no_failure(call: Command, alone: Path) -> None:
    """It is made again by itself."""
    with LastSeen.open(f"sqlite:///{alone}/lastseen.db", migrate=True):
        pass
    call("report", "visits", "--data-folder", alone)
    [copy] = alone.glob("reports-*.duckdb")
    assert "bytes" in found(call("doctor", "--data-folder", alone, "--json"))["copies"]["detail"]
    copy.write_bytes(b"x" * 5_000)
    done = call("doctor", "--data-folder", alone, "--json")
    assert (done.code, "makes it again" in found(done)["copies"]["detail"]) == (0, True)
    assert call("report", "visits", "--data-folder", alone).code == 0
    assert "bytes" in found(call("doctor", "--data-folder", alone, "--json"))["copies"]["detail"]


def test_a_port_that_another_program_has(call: Command, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the way where a server keeps its data, and told where none ever ran."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("LASTSEEN_PORT", str(port))
        monkeypatch.setattr("lastseen.cli.doctor_place.SECONDS", 0.1)
        call("migrate", "--data-folder", alone / "a")
        done = call("doctor", "--data-folder", alone / "a", "--json")
        assert (done.code, found(done)["port"]["passed"]) == (1, False)
        assert f"another program listens on 127.0.0.1:{port}" in found(done)["port"]["detail"]
        address = f"sqlite:///{alone}/a/lastseen.db"
        assert call("doctor", "--data-folder", alone / "b", "--database", address).code == 0
