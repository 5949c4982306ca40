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
from lastseen.cli.demo_devices import fill_devices, live_devices
from lastseen.cli.demo_visits import demo_visit, demo_visits, new_visitor
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.serve import serve_settings
from lastseen.errors import ConfigurationError
from lastseen.settings import Settings
from lastseen.visits.cookieless import ImportedVisitors
from lastseen.visits.making import EventMaker, RawEvent
from lastseen.visits.site import DEFAULT_SITE_ID

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen demo
  lastseen demo --port 9000 --days 30
  lastseen demo --no-serve
"""

# The same clients with the same habits each time; only the moments differ.
SEED = 20_040_415
VISIT_DAYS = 60
"""So that the 30 days which the page shows first have a period before."""
NEW_VISITS_A_SECOND = 0.08
BATCH = 5_000


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
    """Make up sixty clients with days of activity, a fleet with its keys, and the visitors of a small shop, all moving.

    The database is a temporary file; the one that the settings name is left alone.
    """
    if serves and as_json:
        raise ConfigurationError("--json goes with --no-serve")
    with tempfile.TemporaryDirectory(prefix="lastseen-demo-") as folder:
        settings = replace(settings, database_url="", data_folder=Path(folder))
        with open_demo(settings) as seen:
            fill(seen.clients, now=time.time(), days=days)
            fill_devices(seen, now=time.time(), dice=Random(SEED))  # noqa: S311 - as in fill
            fill_visits(seen, now=time.time(), days=max(days, VISIT_DAYS))
            if not serves:
                _print(seen, as_json=as_json)
                return
            typer.echo(f"demo data in {folder}; it is gone when the server ends")
            with _live(seen):
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


def fill_visits(seen: LastSeen, *, now: float, days: int) -> None:
    """Write the visits of a small shop, up to now."""
    maker = _event_maker(seen)
    dice = Random(SEED)  # noqa: S311 - as above
    events = [maker.make(raw) for raw in demo_visits(now, days, dice)]
    for first in range(0, len(events), BATCH):
        seen.store.visits.save(events[first : first + BATCH], lambda _: maker.site.rule)


def _event_maker(seen: LastSeen) -> EventMaker:
    site = seen.sites.get(DEFAULT_SITE_ID)
    return EventMaker(site, visitors=ImportedVisitors(site.id, site.import_secret), late_limit=None)


@contextmanager
def _live(seen: LastSeen) -> Iterator[None]:
    """Let clients be active, every second, and visitors look around, until the end of the block."""
    ended = threading.Event()
    dice = Random()  # noqa: S311 - as above
    maker = _event_maker(seen)
    coming: list[RawEvent] = []

    def live() -> None:
        while not ended.wait(1):
            for client_id in live_clients(dice):
                seen.clients.record(client_id)
            for device_id in live_devices(dice):
                seen.devices.record_seen(device_id)
            now = time.time()
            if dice.random() < NEW_VISITS_A_SECOND:
                coming.extend(demo_visit(new_visitor(dice), now, dice))
            due = [raw for raw in coming if raw.at <= now * 1_000_000]
            coming[:] = [raw for raw in coming if raw not in due]
            seen.store.visits.save([maker.make(raw) for raw in due], lambda _: maker.site.rule)

    thread = threading.Thread(target=live, name="lastseen-demo", daemon=True)
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
