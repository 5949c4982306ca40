"""What all commands share: options, help, errors, exit codes, output."""

from __future__ import annotations

import logging
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import lastseen
from lastseen.cli.app import exit_code
from lastseen.errors import FlushError, InvalidCursor, MissingExtra, SchemaError, StoreError, StoreUnavailable
from tests.cli.conftest import LASTSEEN, Command, lines, write
from tests.servers import reserved_port

COMMANDS = [
    ["serve"],
    ["clients"],
    ["clients", "list"],
    ["clients", "active"],
    ["clients", "inactive"],
    ["clients", "count"],
    ["clients", "show"],
    ["import"],
    ["import", "activity"],
    ["migrate"],
    ["doctor"],
    ["prune"],
    ["demo"],
]


def test_the_version(process: Command) -> None:
    """It is the package's."""
    assert process("--version").out == f"lastseen {lastseen.__version__}\n"


def test_the_module_is_the_command(alone: Path) -> None:
    """`python -m lastseen.cli` does the same."""
    done = subprocess.run(
        [sys.executable, "-m", "lastseen.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lastseen {lastseen.__version__}\n"


def test_help_comes_with_examples(call: Command) -> None:
    """The root, each command and each group show examples of what to type."""
    assert "lastseen import activity history.ndjson.gz" in call("--help").out
    for command in COMMANDS:
        done = call(*command, "--help")
        assert done.code == 0
        example = command if len(command) == 1 or command[0] == "import" else command[:1]
        if command[0] != "clients" or len(command) == 1:
            assert f"lastseen {' '.join(example)}" in done.out


def test_without_a_command_there_is_help(call: Command) -> None:
    """It is a usage error, with the help as its answer."""
    for command in ([], ["clients"], ["import"]):
        done = call(*command)
        assert done.code == 2
        assert "Commands" in done.out + done.err


@pytest.mark.parametrize("before", [True, False])
def test_options_go_before_or_after_the_command(call: Command, alone: Path, before: bool) -> None:
    """`--database` and `--config` may stand on either side."""
    write(alone / "log", lines(("a", 1_000)))
    for options in (["--database", f"sqlite:///{alone}/here.db"], ["--config", str(write(alone / "c.toml", ""))]):
        commands = (["import", "activity", str(alone / "log")], ["clients", "count"])
        for command in commands:
            done = call(*options, *command) if before else call(*command, *options)
            assert done.code == 0
    assert (alone / "here.db").is_file()


def test_the_option_after_the_command_wins(call: Command, alone: Path) -> None:
    """Whoever repeats an option means the last one."""
    call("--data-folder", alone / "one", "migrate", "--data-folder", alone / "two")
    assert not (alone / "one").exists()
    assert (alone / "two" / "lastseen.db").is_file()


def test_the_sources_of_a_setting_in_their_order(call: Command, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gives way to the environment, and the environment to an option."""
    write(alone / "lastseen.toml", f'database_url = "sqlite:///{alone}/file.db"\n')
    assert "file.db" in call("migrate").out
    monkeypatch.setenv("LASTSEEN_DATABASE_URL", f"sqlite:///{alone}/environment.db")
    assert "environment.db" in call("migrate").out
    assert "option.db" in call("migrate", "--database", f"sqlite:///{alone}/option.db").out


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("LASTSEEN_PROT", "1", "did you mean LASTSEEN_PORT"),
        ("LASTSEEN_PORT", "many", "LASTSEEN_PORT"),
        ("LASTSEEN_DATABASE_URL", "mysql://root:hunter2@db/x", "database_url"),
        ("LASTSEEN_CONFIG", "nowhere.toml", "nowhere.toml"),
    ],
)
def test_a_wrong_setting_ends_every_command(
    call: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    """It is one line that names the setting, exit code 2, and shows no password."""
    monkeypatch.setenv(variable, value)
    for command in (["migrate"], ["doctor"], ["clients", "list"], ["serve"], ["demo"]):
        done = call(*command)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert named in done.err
        assert "hunter2" not in done.err


def test_a_config_option_names_a_file_that_must_be_there(call: Command) -> None:
    """A typing error in its name is not passed over."""
    done = call("migrate", "--config", "missing.toml")
    assert (done.code, done.out) == (2, "")
    assert "missing.toml" in done.err


def test_a_server_that_is_not_there(call: Command) -> None:
    """An unreachable database is one line, exit code 3, and without the password."""
    with reserved_port() as port:
        done = call("clients", "list", "--database", f"postgresql://me:hunter2@127.0.0.1:{port}/x")
    assert (done.code, done.out) == (3, "")
    assert "hunter2" not in done.err
    assert "127.0.0.1" in done.err
    assert "Traceback" not in done.err


def test_a_folder_that_may_not_be_made(call: Command, alone: Path) -> None:
    """What the operating system refuses is one line with its reason."""
    write(alone / "occupied", "")
    done = call("migrate", "--data-folder", alone / "occupied" / "below")
    assert (done.code, done.out) == (3, "")
    assert "occupied" in done.err
    assert "Traceback" not in done.err


def test_no_database_at_all(call: Command, alone: Path) -> None:
    """A file of something else is told apart, and left as it was."""
    path = write(alone / "picture.db", b"\x89PNG" * 1_000)
    for command in (
        ["clients", "list"],
        ["migrate"],
        ["import", "activity", str(write(alone / "log", lines(("a", 1))))],
    ):
        done = call(*command, "--database", f"sqlite:///{path}")
        assert (done.code, done.out) == (1, "")
        assert "not an SQLite database" in done.err
    assert path.read_bytes() == b"\x89PNG" * 1_000


def test_exit_codes() -> None:
    """What can be tried again is 3, what was typed wrong is 2, and a flush fails as what made it fail."""
    assert exit_code(StoreUnavailable()) == 3
    assert exit_code(FlushError(StoreUnavailable(), 5)) == 3
    assert exit_code(FlushError(SchemaError(), 5)) == 1
    assert exit_code(StoreError()) == 1
    assert exit_code(InvalidCursor()) == 2
    assert exit_code(MissingExtra()) == 2


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("typer", ["--version"], "lastseen[server]"),
        ("rich", ["--version"], "lastseen[server]"),
        ("litestar", ["serve", "--port", "0"], "lastseen[server]"),
        ("uvicorn", ["serve", "--port", "0"], "lastseen[server]"),
        ("psycopg", ["clients", "list", "--database", "postgresql://127.0.0.1/x"], "lastseen[postgres]"),
    ],
)
def test_a_missing_extra_is_named(alone: Path, missing: str, command: list[str], extra: str) -> None:
    """A command whose libraries are not installed says what to install, in one line, with exit code 2."""
    program = f"import sys; sys.modules[{missing!r}] = None; from lastseen.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"pip install '{extra}'" in done.stderr


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run a command whose output is a terminal, and return what appears there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [LASTSEEN, *arguments], stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", **environment}
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65_536):
                shown += piece
        except OSError:  # Linux says so when the other end is closed
            pass
        os.close(ours)
        running.wait(timeout=60)
    return shown.decode()


def test_a_narrow_terminal_takes_nothing_that_is_to_be_copied(call: Command, alone: Path) -> None:
    """Ids and secrets are whole on 60 columns: the last column of a list gives way, and values wrap."""
    database = ("--database", f"sqlite:///{alone}/lastseen.db")
    assert call("migrate", *database).code == 0
    narrow = {"COLUMNS": "60", "NO_COLOR": "1"}
    made = on_a_terminal("keys", "create", "till 7", "--scope", "devices:read", *database, **narrow)
    key = call("keys", "list", "--json", *database).document["keys"][0]
    assert key["id"] in made
    secret = re.search(r"ls_[\w\s-]+", made)
    assert secret
    assert len("".join(secret[0].split())) == len("ls_") + 8 + len("_") + 43
    assert key["id"] in on_a_terminal("keys", "list", *database, **narrow)
    log = write(alone / "log", '192.0.2.7 - - [01/Mar/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 9 "-" "Firefox/128"')
    assert call("import", "log", log, "--host", "shop.example", *database).code == 0
    visit = call("visits", "list", "--json", *database).document["visits"][0]
    assert visit["id"] in on_a_terminal("visits", "list", *database, **narrow)


def test_colours_are_for_terminals_only(process: Command, alone: Path) -> None:
    """A terminal gets colours and a progress bar, unless NO_COLOR is set; a pipe gets neither."""
    log = write(alone / "log", lines(*((f"client-{number}", 1_000 + number) for number in range(5_000))))
    imported = on_a_terminal("import", "activity", str(log))
    assert "━" in imported
    assert "imported 5,000 activities" in imported
    assert process("import", "activity", log).err == ""

    coloured = on_a_terminal("clients", "list", "--limit", "1")
    plain = on_a_terminal("clients", "list", "--limit", "1", NO_COLOR="1")
    assert "\x1b[90m" in coloured
    assert "\x1b[90m" not in plain
    assert "client-4999" in plain


def test_logging_ends_with_the_command(call: Command, alone: Path) -> None:
    """What a server sets up in this process writes to what is captured of this test: it is gone before the next."""
    before = list(logging.getLogger().handlers)
    assert call("serve", "--host", "0.0.0.0", "--port", "0").code == 2
    assert logging.getLogger().handlers == before


def test_output_that_an_encoding_lacks(process: Command, alone: Path) -> None:
    """A terminal without the characters gets them spelled out, not a traceback."""
    process("import", "activity", write(alone / "log", lines(("雪", 1_000))))
    done = process("clients", "list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.code == 0
    assert "\\u96ea" in done.out


def test_json_stays_json_in_any_encoding(process: Command, alone: Path) -> None:
    """What the encoding of the terminal lacks is escaped in JSON's own way."""
    (alone / "log").write_text('{"client_id": "k\u00e4se-\u2603", "at": 1000}\n', "utf-8")
    assert process("import", "activity", alone / "log", PYTHONIOENCODING="ascii").code == 0
    done = process("clients", "list", "--json", PYTHONIOENCODING="ascii")
    assert [client["client_id"] for client in done.document["clients"]] == ["k\u00e4se-\u2603"]
    assert done.out.isascii()
    table = process("clients", "list", PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert (table.code, table.err) == (0, "")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "| head -n 1", "2>&1 | true"])
@pytest.mark.parametrize("command", ["clients list", "doctor"])
def test_nobody_reads_the_output(process: Command, alone: Path, redirection: str, command: str) -> None:
    """A closed output, or a reader that went away, leads to no traceback."""
    assert process("migrate").code == 0
    errors = alone / "errors"
    line = f"{{ {shlex.quote(str(LASTSEEN))} {command} {redirection}; }} 2>{shlex.quote(str(errors))}"
    subprocess.run(["sh", "-c", line], stdout=subprocess.DEVNULL, check=False, timeout=60)
    assert errors.read_text() in {"", "no clients\n"}


@pytest.mark.parametrize(
    "command",
    [
        ("prune", "--older-than"),
        ("keys", "create", "x", "--expires-in"),
        ("keys", "rotate", "x", "--overlap"),
        ("clients", "active", "--within"),
        ("visits", "list", "--within"),
    ],
    ids=" ".join,
)
def test_a_span_that_no_calendar_has_room_for_is_a_usage_error(call: Command, command: tuple[str, ...]) -> None:
    """Also one that begins before the year 1 or ends after 9999: told in words, without a traceback."""
    done = call(*command, "9999999d")
    assert done.code == 2
    assert "too long a span" in done.err
