"""The command line: `lastseen`, one file a command group."""

from __future__ import annotations

import sys

_NEEDED = {"typer", "rich", "click", "shellingham"}


def main() -> None:
    """Run the command that `sys.argv` names and end the process with its exit code."""
    try:
        from lastseen.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("lastseen: the command line needs its extra: pip install 'lastseen[server]'\n")
        sys.exit(2)
    sys.exit(run())
