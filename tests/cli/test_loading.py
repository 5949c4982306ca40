"""A command loads itself, and not the others: they would take half a second of every start."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import lastseen.cli
from lastseen.cli.app import COMMANDS, loaded
from tests.cli.conftest import Command

_LOADED = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); from lastseen.cli import main; main()"


def modules_after(*arguments: str) -> set[str]:
    """Run a command in a process of its own; what that has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_listed_is_what_the_command_says(name: str) -> None:
    """The list has the first paragraph of each command's own help, and its name."""
    command = loaded(name)
    assert command.name == name
    assert command.help.split("\n\n")[0] == COMMANDS[name]
    assert loaded(name) is command


def test_every_command_is_listed() -> None:
    """None is forgotten, and the list names none that is not there."""
    names = {module.name for module in iter_modules(lastseen.cli.__path__)} - {"__main__"}
    assert sum(hasattr(import_module(f"lastseen.cli.{name}"), "register") for name in names) == len(COMMANDS)


def test_a_misspelt_command_is_suggested(call: Command) -> None:
    """The names are known without the commands."""
    done = call("cleints")
    assert done.code == 2
    assert "clients" in done.err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_list_loads_no_command(option: str) -> None:
    """Nor what commands need."""
    after = modules_after(option)
    assert "lastseen.cli.app" in after
    commands = {f"lastseen.cli.{name}" for name in COMMANDS}
    assert not after & {*commands, "lastseen.app", "sqlite3", "rich.progress"}


def test_a_command_loads_itself(alone: Path) -> None:
    """The other commands and the server stay away, and the engine of reports; its own libraries are there."""
    after = modules_after("migrate", "--database", f"sqlite:///{alone}/x.db")
    assert {"lastseen.cli.migrate", "sqlite3"} <= after
    others = {f"lastseen.cli.{name}" for name in COMMANDS.keys() - {"migrate"}}
    assert not after & {*others, "litestar", "lastseen.server", "duckdb", "uvicorn"}
