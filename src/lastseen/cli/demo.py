"""`lastseen demo`: everything to be seen at once, in a database that is gone afterwards."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from lastseen.activity.clients import ClientActivity
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import ClientStatus
from lastseen.app import LastSeen
from lastseen.cli.clients import print_clients
from lastseen.cli.demo_data import demo_history, live_clients
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.serve import serve_settings
from lastseen.errors import ConfigurationError
from lastseen.settings import Settings

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen demo
  lastseen demo --port 9000 --days 30
  lastseen demo --no-serve
"""

# The same clients with the same habits each time; only the moments differ.
SEED = 20_040_415


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=EXAMPLES)(demo)


@with_settings("host", "port", "http_server", "log_format", without=("database_url", "data_folder"))
def demo(
    *,
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="How many days of history to make up.")] = 7,
    serves: Annotated[bool, typer.Option("--serve/--no-serve", help="Start the server, or print the clients.")] = True,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make up some sixty clients with days of activity, and show them on the server's page, moving.

    The database is a temporary file; the one that the settings name is left alone.
    """
    if serves and as_json:
        raise ConfigurationError("--json goes with --no-serve")
    with tempfile.TemporaryDirectory(prefix="lastseen-demo-") as folder:
        settings = replace(settings, database_url="", data_folder=Path(folder))
        with open_demo(settings) as seen:
            fill(seen.clients, now=time.time(), days=days)
            if not serves:
                _print(seen, as_json=as_json)
                return
            typer.echo(f"demo data in {folder}; it is gone when the server ends")
            with _live_touches(seen.clients):
                serve_settings(settings)


def open_demo(settings: Settings) -> LastSeen:
    """Open the demo's database, creating it; flushing is left to who fills it."""
    return LastSeen.open(
        settings.database_url,
        migrate=True,
        tracking=TrackerSettings(flush_interval=timedelta(milliseconds=500), max_buffer_size=None),
        status_rule=settings.status_rule(),
        logger=logging.getLogger("lastseen.demo"),
    )


def fill(clients: ClientActivity, *, now: float, days: int) -> None:
    """Record the history that ends now, and write it."""
    begun: set[str] = set()
    for client_id, at in demo_history(now, days, Random(SEED)):  # noqa: S311 - made-up data needs no secrets
        clients.record(client_id, at)
        if client_id not in begun:
            # Written alone, the first moment becomes the client's created_at.
            clients.flush()
            begun.add(client_id)
    clients.flush()


@contextmanager
def _live_touches(clients: ClientActivity) -> Iterator[None]:
    """Let clients be active, every second, until the end of the block."""
    ended = threading.Event()
    dice = Random()  # noqa: S311 - as above

    def touch() -> None:
        while not ended.wait(1):
            for client_id in live_clients(dice):
                clients.record(client_id)

    thread = threading.Thread(target=touch, name="lastseen-demo", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _print(seen: LastSeen, *, as_json: bool) -> None:
    clients = seen.clients
    if as_json:
        print_clients(clients, {"limit": 1_000}, as_json=True)
        return
    print_clients(clients, {"limit": 1_000}, as_json=False)
    counts = clients.counts()
    words = ", ".join(f"{getattr(counts, status)} {status}" for status in ClientStatus)
    since = datetime.now(UTC) - timedelta(days=1)
    busiest = max(clients.active_clients_by_hour(since).values(), default=0)
    typer.echo(f"{counts.total} clients: {words}; up to {busiest} in one hour of the last day")
