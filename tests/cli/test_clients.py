"""`lastseen clients`: the questions, asked of the database without a server."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lastseen.cli.output import relative
from tests.cli.conftest import LASTSEEN, Command, lines, write

AGES = {"till-1": 20, "till-2": 30 * 60, "Printer-É": 5 * 3_600, "kiosk": 3 * 86_400}
"""Seconds since each client was last seen: one of each status."""


@pytest.fixture
def filled(database: str, call: Command, alone: Path) -> str:
    """Return a database with a client of each status."""
    now = time.time()
    log = write(alone / "log", lines(*((client_id, now - age) for client_id, age in AGES.items())))
    assert call("import", "activity", log, "--database", database).code == 0
    return database


def ids(document: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return the clients of a listing, in order."""
    return [client["client_id"] for client in document["clients"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], ["till-1", "till-2", "Printer-É", "kiosk"]),
        (["list", "--order", "oldest"], ["kiosk", "Printer-É", "till-2", "till-1"]),
        (["list", "--order", "client_id"], ["Printer-É", "kiosk", "till-1", "till-2"]),
        (["list", "--search", "TILL"], ["till-1", "till-2"]),
        (["list", "--status", "idle"], ["Printer-É"]),
        (["list", "--within", "24h", "--for", "10m"], ["till-2", "Printer-É"]),
        (["list", "--all", "--limit", "1"], ["till-1", "till-2", "Printer-É", "kiosk"]),
        (["active"], ["till-1", "till-2"]),
        (["active", "--within", "5m"], ["till-1"]),
        (["active", "--within", "7d", "--search", "printer"], ["Printer-É"]),
        (["inactive"], ["kiosk"]),
        (["inactive", "--for", "1h"], ["kiosk", "Printer-É"]),
        (["inactive", "--for", "0"], ["kiosk", "Printer-É", "till-2", "till-1"]),
    ],
)
def test_the_questions(call: Command, filled: str, arguments: list[str], expected: list[str]) -> None:
    """Each option narrows or orders the listing as its help says; active defaults to an hour, inactive to a day."""
    done = call("clients", *arguments, "--json", "--database", filled)
    assert (done.code, done.err) == (0, "")
    assert ids(done.document) == expected
    assert done.document["next_cursor"] is None


def test_a_client_as_json(call: Command, filled: str) -> None:
    """Moments are ISO 8601 in UTC, and the status word is there."""
    [client] = call("clients", "list", "--limit", "1", "--search", "till-1", "--json", "--database", filled).document[
        "clients"
    ]
    assert list(client) == ["client_id", "last_seen_at", "created_at", "status"]
    assert client["last_seen_at"].endswith("Z")
    assert client["status"] == "online"
    assert abs(datetime.fromisoformat(client["last_seen_at"]).timestamp() - (time.time() - 20)) < 3_600


def test_pages_follow_each_other(call: Command, filled: str) -> None:
    """A cursor leads to the next page; the last page has none; for people it is told on standard error."""
    first = call("clients", "list", "--limit", "3", "--json", "--database", filled).document
    rest = call("clients", "list", "--cursor", first["next_cursor"], "--json", "--database", filled).document
    assert ids(first) + ids(rest) == list(AGES)
    assert rest["next_cursor"] is None
    shown = call("clients", "list", "--limit", "3", "--database", filled)
    assert f"--cursor {first['next_cursor']}" in shown.err
    assert "cursor" not in shown.out


def test_every_page_of_many(call: Command, alone: Path) -> None:
    """`--all` goes on beyond the largest page, and each client comes once."""
    many = [(f"client-{number:04}", 1_000 + number) for number in range(2_345)]
    call("import", "activity", write(alone / "many", lines(*many)))
    assert ids(call("clients", "list", "--all", "--json").document) == [client for client, _ in reversed(many)]
    printed = call("clients", "list", "--all")
    assert len(printed.out.splitlines()) == 1 + 2_345
    assert printed.err == ""


def test_the_table_for_people(process: Command, filled: str) -> None:
    """Into a pipe the table is plain, one line a client, never cut, with relative time and status."""
    done = process("clients", "list", "--database", filled)
    header, *rows = done.out.splitlines()
    assert header.split() == ["CLIENT", "STATUS", "LAST", "SEEN", "AT"]
    assert "\x1b" not in done.out
    assert [row.split()[0] for row in rows] == list(AGES)
    assert [row.split()[2] for row in rows] == ["online", "recent", "idle", "inactive"]
    assert "30 minutes ago" in rows[1]
    assert "5 hours ago" in rows[2]
    assert "3 days ago" in rows[3]


def test_long_and_strange_ids_are_printed_as_they_are(process: Command, alone: Path) -> None:
    """Markup, emoji names and 255 characters reach a pipe unchanged."""
    strange = ["[bold]x[/bold]", ":smile:", "x" * 255, "雪" * 100, "a b  c", "back\\slash"]
    process("import", "activity", write(alone / "log", lines(*((name, 1_000) for name in strange))))
    printed = process("clients", "list").out
    for name in strange:
        assert f"{name} " in printed


def test_counts(call: Command, filled: str) -> None:
    """Without a filter there is a count for each status, with one there is a number."""
    counted = call("clients", "count", "--json", "--database", filled).document
    assert counted == {"total": 4, "online": 1, "recent": 1, "idle": 1, "inactive": 1}
    assert call("clients", "count", "--search", "till", "--json", "--database", filled).document["total"] == 2
    assert call("clients", "count", "--within", "1h", "--database", filled).out == "2\n"
    assert call("clients", "count", "--for", "24h", "--json", "--database", filled).document == {"count": 1}
    assert call("clients", "count", "--status", "idle", "--search", "till", "--database", filled).out == "0\n"
    assert "total" in call("clients", "count", "--database", filled).out


def test_status_spans_are_settings(call: Command, filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spans of the status words come from the settings."""
    monkeypatch.setenv("LASTSEEN_STATUS_ONLINE", "45m")
    assert call("clients", "count", "--json", "--database", filled).document["online"] == 2


def test_one_client(call: Command, filled: str) -> None:
    """A client is shown with its first and last time and its active hours."""
    shown = call("clients", "show", "Printer-É", "--json", "--database", filled).document
    assert shown["client_id"] == "Printer-É"
    assert shown["created_at"] == shown["last_seen_at"]
    assert [datetime.fromisoformat(hour).minute for hour in shown["active_hours"]] == [0]
    printed = call("clients", "show", "Printer-É", "--database", filled)
    assert "5 hours ago" in printed.out
    assert "1 in the last 7 days" in printed.out


def test_a_client_that_was_never_seen(call: Command, filled: str) -> None:
    """It is exit code 1 and one line, and nothing on standard output."""
    done = call("clients", "show", "nobody", "--json", "--database", filled)
    assert (done.code, done.out, done.err) == (1, "", "lastseen: no client nobody was ever seen\n")


def test_no_clients(call: Command, database: str) -> None:
    """An empty database is told on standard error, and as an empty list."""
    call("migrate", "--database", database)
    assert call("clients", "list", "--database", database).err == "no clients\n"
    assert call("clients", "active", "--json", "--database", database).document == {"clients": [], "next_cursor": None}


def test_reading_creates_nothing(call: Command, alone: Path) -> None:
    """Without a database the message says what makes one, and no file appears."""
    for arguments in (["list"], ["count"], ["show", "x"]):
        done = call("clients", *arguments)
        assert done.code == 1
        assert "lastseen serve, import and migrate create it" in done.err
    assert list(alone.iterdir()) == []


def test_a_database_without_the_tables_says_what_to_run(call: Command, postgres_url: str, alone: Path) -> None:
    """A missing table is one line that names the command, and exit code 1."""
    write(alone / "empty.db", b"")
    for database in (postgres_url, f"sqlite:///{alone}/empty.db"):
        done = call("clients", "list", "--database", database)
        assert (done.code, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1
        assert "lastseen migrate" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--limit", "0"],
        ["list", "--limit", "1001"],
        ["list", "--cursor", "nonsense"],
        ["list", "--within", "soon"],
        ["list", "--within", "-5m"],
        ["active", "--within", "9999999w"],
        ["list", "--order", "random"],
        ["list", "--status", "asleep"],
        ["show"],
        ["dance"],
    ],
)
def test_wrong_options_are_usage_errors(call: Command, alone: Path, arguments: list[str]) -> None:
    """They end with exit code 2 and never with a traceback."""
    call("migrate")
    done = call("clients", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


def test_a_reader_that_goes_away_is_no_error(process: Command, alone: Path) -> None:
    """`| head -1` ends quietly."""
    many = ((f"client-{number:06}", 1_000 + number) for number in range(5_000))
    process("import", "activity", write(alone / "many", lines(*many)))
    for format_option in ([], ["--json"]):
        with subprocess.Popen(
            [LASTSEEN, "clients", "list", "--all", *format_option], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as listing:
            assert listing.stdout is not None
            assert listing.stdout.readline()
            listing.stdout.close()
            assert listing.stderr is not None
            assert listing.stderr.read() == b""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "just now"),
        (0.9, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (3_599, "59 minutes ago"),
        (3_600, "1 hour ago"),
        (86_400, "1 day ago"),
        (86_400 * 1_500, "1,500 days ago"),
    ],
)
def test_relative_times(seconds: float, words: str) -> None:
    """A span is told in its largest unit; a moment ahead of this machine's clock is now."""
    now = datetime.fromisoformat("2026-01-31T12:00:00Z")
    assert relative(now - timedelta(seconds=seconds), now) == words
