"""The `lastseen` command: its groups, its global options, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import lastseen
from lastseen.cli import (
    accounts,
    clients,
    demo,
    devices,
    doctor,
    imports,
    keys,
    migrate,
    prune,
    report,
    serve,
    sites,
    visits,
)
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

app = typer.Typer(
    name="lastseen",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serve, clients, imports, migrate, doctor, prune, demo, visits, report, devices, keys, sites, accounts):
    module.register(app)


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
