"""The `lastseen` command: its groups, its global options, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import rich  # noqa: F401 - so that it is told at once when it is not installed
import typer
from typer.core import TyperGroup

import lastseen
from lastseen.cli.options import COMMON_OPTIONS, CONFIG_HELP, setting_option
from lastseen.errors import ConfigurationError, FlushError, InvalidCursor, LastSeenError, MissingExtra, StoreUnavailable

EXIT_FAILED = 1
"""Something is wrong that trying again does not change."""
EXIT_USAGE = 2
"""The command, an option or a setting is wrong; nothing was done."""
EXIT_UNAVAILABLE = 3
"""The database cannot be reached or is busy: the same command may succeed later."""

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen serve                               [dim]the server and its pages[/dim]
  lastseen demo                                [dim]the same with demo data[/dim]
  lastseen import activity history.ndjson.gz   [dim]what is known already[/dim]
  lastseen import log access.log.gz            [dim]page views and visits of before[/dim]
  lastseen visits list --within 24h            [dim]who came, from where, and why[/dim]
  lastseen report visits --by source           [dim]how many, compared, filtered[/dim]
  lastseen clients active --within 1h          [dim]who was there lately[/dim]
  lastseen clients inactive --for 24h --json   [dim]who was not, for a script[/dim]
  lastseen doctor --database postgresql://     [dim]check a database[/dim]
  lastseen accounts link ada                   [dim]a forgotten password[/dim]

[bold]Exit codes[/bold]

  0 done   1 failed   2 wrong command or setting   3 database away, try later
"""

COMMANDS = {
    "serve": "Start the server: its HTTP API and its pages.",
    "migrate": "Create the database's tables, or bring them up to date. Running it again changes nothing.",
    "doctor": "Check a database: connection, schema, rights, and a round trip that leaves nothing behind.",
    "prune": "Remove login sessions that expired long ago, in small chunks. Nothing depends on it but the size of the "
    "table.",
    "demo": "Make up sixty clients with days of activity, a fleet with its keys, and the visitors of a small shop, all "
    "moving.",
    "report": "Count visitors, visits, page views and events, broken down as you like.",
    "clients": "Who was active, and when.",
    "import": "Bring in what is known already: activity, access logs.",
    "visits": "Who visited a site, from where, and why.",
    "devices": "Devices: list, show, register.",
    "keys": "API keys: make, list, rotate, revoke.",
    "sites": "Sites: list, create, edit, replace a write key, delete.",
    "accounts": "The server's accounts: list, one-time link.",
}
"""Every command or group of commands, in the order of the help, and what it says of each: loading all takes long."""

_MODULES = {"import": "imports"}
"""Where a command is that is not called as its module."""


class _Commands(TyperGroup):
    """Loads a command when it is to be run; lists and suggests by the names."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else loaded(name), rest


@cache
def loaded(name: str) -> Any:
    """Return a command with all its options, or a group with its commands."""
    holder = typer.Typer(rich_markup_mode=_MARKUP)
    import_module(f"lastseen.cli.{_MODULES.get(name, name)}").register(holder)
    return typer.main.get_group(holder).commands[name]


_MARKUP: Literal["rich"] = "rich"

app = typer.Typer(
    name="lastseen",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=_MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _not_loaded() -> None:
    """Stand for a command that is only listed."""


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_not_loaded)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the option's value
    if wanted:
        typer.echo(f"lastseen {lastseen.__version__}")
        raise typer.Exit


@app.callback(epilog=EXAMPLES)
def _root(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help=CONFIG_HELP)] = None,
    database_url: Annotated[str | None, setting_option("database_url")] = None,
    data_folder: Annotated[str | None, setting_option("data_folder")] = None,
    log_level: Annotated[str | None, setting_option("log_level")] = None,
) -> None:
    """Who was active, when, in which session, and what did they do? For any web application.

    The options here may also follow the command: lastseen clients list --database URL.
    """
    given = {"database_url": database_url, "data_folder": data_folder, "log_level": log_level}
    assert given.keys() == set(COMMON_OPTIONS)  # noqa: S101 - the two lists are written by hand
    flags: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    context.obj = flags | ({"config": config} if config is not None else {})


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an expected failure is one line on standard error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this (>&-)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the whole process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A file name or a client id that the terminal's encoding lacks must not end the command.
            reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="lastseen")
        sys.stdout.flush()
    except SystemExit as end:
        return _quietly_flushed(end.code if isinstance(end.code, int) else EXIT_FAILED)
    except BrokenPipeError:
        return _quietly_flushed(EXIT_FAILED)
    except LastSeenError as error:
        sys.stderr.write(f"lastseen: {error}\n")
        return exit_code(error)
    except OSError as error:
        sys.stderr.write(f"lastseen: {error.strerror or error}{f': {error.filename}' if error.filename else ''}\n")
        return EXIT_UNAVAILABLE
    return 0


def exit_code(error: BaseException) -> int:
    """Return the exit code that tells a script what to do about an error."""
    if isinstance(error, FlushError):
        return exit_code(error.error)
    if isinstance(error, ConfigurationError | MissingExtra | InvalidCursor):
        return EXIT_USAGE
    if isinstance(error, StoreUnavailable):
        return EXIT_UNAVAILABLE
    return EXIT_FAILED


def _quietly_flushed(code: int) -> int:
    """Flush now, while a reader that went away (`| head`) can still be ignored."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
