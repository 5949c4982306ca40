"""`lastseen migrate`."""

from __future__ import annotations

import typer

from lastseen.cli.opening import configure_logging
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import print_json
from lastseen.settings import Settings
from lastseen.stores import open_store
from lastseen.visits.sites import Sites

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen migrate
  lastseen migrate --database postgresql://lastseen@db/lastseen
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate", epilog=EXAMPLES)(migrate)


@with_settings()
def migrate(*, as_json: JsonOption = False, settings: Settings) -> None:
    """Create the database's tables, or bring them up to date. Running it again changes nothing."""
    configure_logging(settings)
    store = open_store(settings.database_url, pool_size=1)
    try:
        applied = store.migrate()
        # As a server would: what asks about visits names the first site unless told otherwise.
        Sites(store.sites, default_rule=settings.visit_rule()).ensure_first()
        address = store.address
    finally:
        store.close()
    if as_json:
        print_json({"database": address, "applied": applied})
    elif applied:
        typer.echo(f"{address}: applied {', '.join(applied)}")
    else:
        typer.echo(f"{address}: already up to date")
