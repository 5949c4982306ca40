"""`lastseen import activity`: files in, the latest time of each client kept."""

from __future__ import annotations

import contextlib
import gzip
import os
import sqlite3
import subprocess
import time
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from lastseen import LastSeen
from tests.cli.conftest import LASTSEEN, Command, lines, write

ACTIVITIES = [("a", 1_000), ("b", "1970-01-01T00:50:00Z"), ("a", 500)]


def last_seen(database: str) -> dict[str, float]:
    """Return what the database holds."""
    with LastSeen.open(database) as seen:
        return {client.client_id: client.last_seen_at.timestamp() for client in seen.clients.list()}


def test_an_import_needs_nothing_but_the_file(call: Command, alone: Path) -> None:
    """Without any setting the database is made in the user's data folder, where the other commands find it."""
    done = call("import", "activity", write(alone / "log.ndjson", lines(*ACTIVITIES)))
    assert (done.code, done.err) == (0, "")
    assert done.out == "imported 3 activities of 2 clients, 0 bad lines\n"
    assert last_seen(f"sqlite:///{alone}/.local/share/lastseen/lastseen.db") == {"a": 1_000, "b": 3_000}
    assert call("clients", "count", "--json").document["total"] == 2


def test_importing_twice_changes_nothing(call: Command, database: str, alone: Path) -> None:
    """The second time no row is moved, and the summary says so."""
    file = write(alone / "log.ndjson", lines(*ACTIVITIES))
    first = call("import", "activity", file, "--database", database, "--json").document
    second = call("import", "activity", file, "--database", database, "--json").document
    assert (first["activities"], first["clients"]) == (3, 2)
    assert first["rows_changed"] > 0
    assert (second["activities"], second["clients"], second["rows_changed"]) == (3, 2, 0)
    assert last_seen(database) == {"a": 1_000, "b": 3_000}


def test_a_client_was_first_seen_at_its_earliest_moment(call: Command, database: str, alone: Path) -> None:
    """`created_at` is the earliest moment of a new client, and a later import leaves it."""
    for activities in (ACTIVITIES, [("a", 100), ("a", 2_000)]):
        call("import", "activity", write(alone / "log", lines(*activities)), "--database", database)
    shown = call("clients", "show", "a", "--json", "--database", database).document
    assert (shown["created_at"], shown["last_seen_at"]) == ("1970-01-01T00:08:20Z", "1970-01-01T00:33:20Z")


def test_also_of_more_clients_than_are_counted_each_was_first_seen_at_its_earliest_moment(
    call: Command, database: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the summary counts no more is imported like everything before."""
    monkeypatch.setattr("lastseen.cli.imports.COUNTED_CLIENTS", 1)
    file = write(alone / "log", lines(("a", 100), ("b", 500), ("b", 1_000), ("a", 2_000), ("b", 1_500)))
    assert "of more than 1 clients" in call("import", "activity", file, "--database", database).out
    for client_id, first, last in (("a", 100, 2_000), ("b", 500, 1_500)):
        shown = call("clients", "show", client_id, "--json", "--database", database).document
        moments = [datetime.fromisoformat(shown[name]).timestamp() for name in ("created_at", "last_seen_at")]
        assert moments == [first, last], client_id


def test_a_database_that_refuses_a_client_takes_the_others(call: Command, postgres_url: str, alone: Path) -> None:
    """An adopted table with a short key refuses a long id for ever: it is named, everybody else is imported."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE client_activity (client_id varchar(5) PRIMARY KEY, last_seen timestamptz NOT NULL, "
            "created_at timestamptz NOT NULL)"
        )
    log = write(alone / "log", lines(*ACTIVITIES, ("far-too-long", 1)))
    done = call("import", "activity", log, "--database", postgres_url)
    assert done.code == 1
    assert "the database refuses the client far-too-long" in done.err
    assert last_seen(postgres_url) == {"a": 1_000, "b": 3_000}


def test_standard_input_may_be_compressed(process: Command, alone: Path) -> None:
    """`-` reads a pipe, and gzip is recognized there too."""
    database = f"sqlite:///{alone}/piped.db"
    done = process("import", "activity", "-", "--database", database, stdin=gzip.compress(lines(*ACTIVITIES).encode()))
    assert (done.code, done.out) == (0, "imported 3 activities of 2 clients, 0 bad lines\n")
    assert last_seen(database) == {"a": 1_000, "b": 3_000}


def test_a_pipe_that_trickles_is_read_whole(alone: Path) -> None:
    """Gzip is recognized although its first byte arrives alone."""
    data = gzip.compress(lines(*ACTIVITIES).encode())
    with subprocess.Popen(
        [LASTSEEN, "import", "activity", "-", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as importing:
        assert importing.stdin is not None
        for piece in (data[:1], data[1:2], data[2:]):
            os.write(importing.stdin.fileno(), piece)
        out, _ = importing.communicate(timeout=60)
    assert b'"activities": 3' in out


def test_bad_lines_are_counted_and_the_first_ones_shown(process: Command, alone: Path) -> None:
    """Bad lines never stop an import; ten are shown with file, line and reason, the others only counted."""
    bad = b"".join(b"bad %d\n" % number for number in range(15))
    file = write(alone / "mixed.ndjson", lines(("a", 1)).encode() + b"\n" + bad + lines(("b", 2)).encode())
    done = process("import", "activity", file)
    assert (done.code, done.out) == (0, "imported 2 activities of 2 clients, 15 bad lines\n")
    shown = done.err.splitlines()
    assert len(shown) == 11
    assert shown[0].startswith(f"{file}:3: not JSON")
    assert shown[10] == "further bad lines are only counted"

    document = process("import", "activity", file, "--json").document
    assert document["bad_lines"] == 15
    assert [bad["line"] for bad in document["first_bad_lines"]] == list(range(3, 13))


def test_a_file_name_that_is_no_text(call: Command, alone: Path) -> None:
    """Its bytes are spelled out, in the messages and in JSON."""
    log = write(alone / os.fsdecode(b"\xff.ndjson"), lines(("a", 1)) + "bad\n")
    done = call("import", "activity", log, "--json")
    assert done.code == 0
    assert done.document["first_bad_lines"][0]["file"].endswith("\\udcff.ndjson")


def test_a_file_of_something_else_is_a_failure(call: Command, alone: Path) -> None:
    """Where not one line can be imported the exit code is 1, so that a script notices."""
    done = call("import", "activity", write(alone / "noise", bytes(range(256)) * 50))
    assert done.code == 1
    assert done.out.startswith("imported 0 activities of 0 clients")
    assert call("import", "activity", write(alone / "empty", "")).code == 0


def test_what_comes_before_damage_is_imported(call: Command, alone: Path) -> None:
    """A gzip file that is cut short is imported as far as it goes, the next file whole, and the exit code is 1."""
    many = [(f"client-{number}", 1_000 + number) for number in range(30_000)]
    data = gzip.compress(lines(*many).encode())
    cut = write(alone / "cut.gz", data[: len(data) // 2])
    done = call("import", "activity", cut, write(alone / "whole", lines(("other", 5))), "--json")
    assert done.code == 1
    assert f"{cut}: the gzip data is cut short; what came before is imported" in done.err
    assert 5_000 < done.document["activities"] < 30_000
    assert done.document["saved"] == done.document["activities"]
    assert call("clients", "show", "other").code == 0
    assert call("clients", "count", "--json").document["total"] == done.document["clients"]


def test_a_future_time_is_refused_not_bent(call: Command, alone: Path) -> None:
    """A history from a clock that is ahead must not make a client look active now."""
    soon, later = time.time() - 60, time.time() + 3_600
    done = call("import", "activity", write(alone / "log", lines(("ahead", later), ("fine", soon))), "--json")
    assert done.document["bad_lines"] == 1
    assert "in the future" in done.document["first_bad_lines"][0]["reason"]
    assert call("clients", "show", "ahead").code == 1
    assert call("clients", "show", "fine").code == 0


def test_more_clients_than_may_wait_are_all_imported(call: Command, alone: Path) -> None:
    """A full buffer is written and the line recorded again; nothing is dropped."""
    many = [(f"client-{number}", 1_000 + number) for number in range(1_000)]
    (alone / "lastseen.toml").write_text("max_pending = 7\nmax_buffer_size = 7\n")
    assert call("import", "activity", write(alone / "log", lines(*many))).code == 0
    assert call("clients", "count", "--json").document["total"] == 1_000


@pytest.mark.parametrize("name", ["missing.ndjson", "folder"])
def test_a_wrong_file_name_is_found_before_anything_is_imported(call: Command, alone: Path, name: str) -> None:
    """One wrong name among several ends the command with exit code 2; no database is made."""
    (alone / "folder").mkdir()
    done = call("import", "activity", write(alone / "good", lines(*ACTIVITIES)), alone / name)
    assert done.code == 2
    assert name in done.err
    assert not (alone / ".local").exists()


@pytest.mark.parametrize("name", ["access.log", "-", "folder"])
def test_a_file_without_its_kind_is_answered_with_both_commands(call: Command, alone: Path, name: str) -> None:
    """Whoever leaves out what is in a file is told what to write; a misspelled command is only corrected."""
    (alone / "folder").mkdir()
    done = call("import", name)
    said = " ".join(done.err.replace("│", " ").split())
    assert done.code == 2
    assert f"lastseen import log {name}" in said
    assert f"lastseen import activity {name}" in said
    misspelled = call("import", "lg")
    assert misspelled.code == 2
    assert "Did you mean 'log'?" in misspelled.err
    assert "activity" not in misspelled.err


def test_memory_is_no_place_to_import_to(call: Command, alone: Path) -> None:
    """A database that is gone with the command is refused."""
    done = call("import", "activity", write(alone / "log", lines(*ACTIVITIES)), "--database", "memory:")
    assert (done.code, done.out) == (2, "")


def test_a_database_that_gets_locked_ends_the_import_with_3(alone: Path) -> None:
    """The exit code says "try again later", the message how much is saved; importing again completes it."""
    first = lines(*((f"client-{number}", 1_000) for number in range(10_000)))
    path = alone / "locked.db"
    command: list[str | Path] = [LASTSEEN, "import", "activity", "-", "--database", f"sqlite:///{path}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as importing:
        assert importing.stdin is not None
        importing.stdin.write(first + "a bad line, told after the flush\n")
        importing.stdin.flush()
        assert importing.stderr is not None
        assert "standard input:10001" in importing.stderr.readline()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            out, err = importing.communicate(lines(("late", 2_000)), timeout=60)
    assert (importing.returncode, out) == (3, "")
    assert "at least 10,000 of 10,001 activities" in err
    assert "locked" in err
    assert "Traceback" not in err
    again = subprocess.run(command, input=first + lines(("late", 2_000)), text=True, capture_output=True, check=True)
    assert again.stdout == "imported 10,001 activities of 10,001 clients, 0 bad lines\n"


def test_an_interrupted_import_saves_what_it_read(alone: Path) -> None:
    """Ctrl-C writes what was read so far, says how much, and ends with 130 as shells expect."""
    database = f"sqlite:///{alone}/interrupted.db"
    command: list[str | Path] = [LASTSEEN, "import", "activity", "-", "--database", database]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as importing:
        assert importing.stdin is not None
        importing.stdin.write(lines(*ACTIVITIES) + "no activity\n")
        importing.stdin.flush()
        assert importing.stderr is not None
        assert "standard input:4" in importing.stderr.readline()
        importing.send_signal(2)
        out, err = importing.communicate(timeout=60)
    assert (importing.returncode, out) == (130, "")
    assert "at least 3 of 3 activities" in err
    assert last_seen(database) == {"a": 1_000, "b": 3_000}
