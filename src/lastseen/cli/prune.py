"""`lastseen prune`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from lastseen.cli.opening import configure_logging, require_file
from lastseen.cli.options import JsonOption, span, with_settings
from lastseen.cli.output import print_json
from lastseen.sessions.manager import SessionManager
from lastseen.settings import Settings
from lastseen.stores import open_store

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen prune                         [dim]login sessions that expired over a week ago[/dim]
  lastseen prune --older-than 30d --json
"""

OlderThan = Annotated[
    timedelta | None,
    typer.Option("--older-than", parser=span, metavar="SPAN", help="How long ago they expired; by default 7d."),
]
WEEK = timedelta(days=7)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune", epilog=EXAMPLES)(prune)


@with_settings()
def prune(*, older_than: OlderThan = None, as_json: JsonOption = False, settings: Settings) -> None:
    """Remove login sessions that expired long ago, in small chunks. Nothing depends on it but the size of the table."""
    configure_logging(settings)
    require_file(settings)
    store = open_store(settings.database_url, pool_size=1)
    try:
        removed = SessionManager(store.sessions).prune(WEEK if older_than is None else older_than)
    finally:
        store.close()
    if as_json:
        print_json({"login_sessions": removed})
    else:
        typer.echo(f"removed {removed} login sessions")
