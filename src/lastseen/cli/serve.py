"""`lastseen serve`."""

from __future__ import annotations

import typer

from lastseen.cli.options import ALL_SETTINGS, with_settings
from lastseen.errors import MissingExtra
from lastseen.settings import Settings

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen serve
  lastseen serve --port 9000 --data-folder /var/lib/lastseen
  lastseen serve --database postgresql://lastseen@db/lastseen --log-format json
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", epilog=EXAMPLES)(serve)


@with_settings(*ALL_SETTINGS)
def serve(*, settings: Settings) -> None:
    """Start the server: its HTTP API and its pages.

    Creates its data folder and database when they are not there. Ctrl-C or SIGTERM saves what waits and ends it.
    """
    serve_settings(settings)


def serve_settings(settings: Settings) -> None:
    """Run the server until it is told to end; raises `MissingExtra` when its libraries are not installed."""
    try:
        # Both may find a library missing: the HTTP server is imported when it is about to run.
        from lastseen import server

        server.serve(settings)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("lastseen"):
            raise
        raise MissingExtra(f"the server needs its extra ({error.name}): pip install 'lastseen[server]'") from error
