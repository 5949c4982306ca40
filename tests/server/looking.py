"""A fleet of vans, and a browser window that looks at it as the administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext, Page

from lastseen import LastSeen
from lastseen.devices.device import Device
from tests.server import people
from tests.server.running import ServerProcess
from tests.server.world import World

DEVICES = 60

Opened = Callable[[str], Page]
"""Opens a path and returns the page."""


@contextmanager
def fleet(home: Path) -> Iterator[World]:
    """Run a server with two of everything, and sixty vans, every third of which was never seen."""
    database = f"sqlite:///{home}/fleet.db"
    now = datetime.now(UTC)
    with LastSeen.open(database, migrate=True) as seen:
        seen.devices.create_group("Vans", group_id="vans")
        for number in range(DEVICES):
            van = Device(id=f"van-{number:02}", name=f"Van {number:02}", group_id="vans", created_at=now)
            seen_at = now - timedelta(seconds=DEVICES - number)
            seen.store.devices.upsert_device(van, seen_at if number % 3 else None)
    # On a busy machine tests take longer than the five minutes for which a device is online.
    options = ("--rate-limit", "0", "--status-online", "30m")
    with ServerProcess(home, database, *options, measured=True) as server:
        world = World(server)
        yield world
        world.close()


def carry_over(client: httpx.Client, context: BrowserContext, address: str) -> None:
    """Let a browser window go on with the session of a program."""
    cookies = [{"name": cookie.name, "value": cookie.value or "", "url": address} for cookie in client.cookies.jar]
    context.add_cookies(cookies)  # type: ignore[arg-type]  # a list of dictionaries, typed by name


def opener(world: World, page: Page, context: BrowserContext) -> Opened:
    """Return what opens a path as the administrator."""
    carry_over(world.ada, context, world.server.address)

    def open_path(path: str) -> Page:
        page.goto(world.server.address + path)
        return page

    return open_path


def audit(world: World) -> str:
    """Return what the audit trail says."""
    return people.words(world.ada.get("/audit").text)


def status_of(world: World, secret: str) -> int:
    """Return how a request with this key is answered."""
    return world.with_key(secret).get("/api/v1/devices").status_code
