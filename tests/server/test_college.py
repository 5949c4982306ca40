"""The main job on real input: messages of an online community, sent over HTTP, and seen on the page."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.server.running import ServerProcess

MESSAGES = Path(__file__).parent.parent / "data/CollegeMsg.txt.gz"
CLIENTS = 1_350
SUM_OF_LAST_SEEN = 1_470_333_511_966
MESSAGE_COUNT = 59_835


def messages() -> list[dict[str, Any]]:
    """Return every message as the activity of its sender."""
    with gzip.open(MESSAGES, "rt") as lines:
        return [{"client_id": sender, "at": int(at)} for sender, _, at in map(str.split, lines)]


@pytest.fixture(params=["sqlite", "postgres"])
def college(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server with an empty database of each kind."""
    database = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with ServerProcess(tmp_path, database) as server:
        yield server


def send(server: ServerProcess, items: list[dict[str, Any]], batch_size: int) -> int:
    """Post the items in batches over one connection; return how many were accepted."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    accepted = 0
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, batch_size)):
        body = json.dumps(batch[0] if batch_size == 1 else batch)
        connection.request("POST", "/api/v1/activity", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 202
        accepted += json.loads(answer.read())["accepted"]
    connection.close()
    return accepted


def last_seen(server: ServerProcess) -> dict[str, int]:
    """Return every client's last moment, read page by page."""
    found: dict[str, int] = {}
    query: dict[str, str] = {"limit": "1000", "order": "client_id"}
    while True:
        page = server.http.get("/api/v1/clients", params=query).json()
        for client in page["clients"]:
            found[client["client_id"]] = int(datetime.fromisoformat(client["last_seen_at"]).timestamp())
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def test_real_messages_give_the_known_figures(college: ServerProcess, page: Page) -> None:
    """In batches of 1000, again shuffled in batches of 7, and a part one by one: the same clients, the same times."""
    items = messages()
    assert send(college, items, 1_000) == MESSAGE_COUNT
    first = last_seen(college)
    assert (len(first), sum(first.values())) == (CLIENTS, SUM_OF_LAST_SEEN)
    shuffled = random.Random(1)
    for batch_size, count in ((7, MESSAGE_COUNT), (1, 2_000), (1_000, MESSAGE_COUNT)):
        shuffled.shuffle(items)
        assert send(college, items[:count], batch_size) == count
    assert last_seen(college) == first
    shows_them(college, page, first)


def shows_them(server: ServerProcess, page: Page, known: dict[str, int]) -> None:
    """Look at the page: the counts, and the client that was seen last on top with its moment."""
    page.goto(server.address)
    expect(page.locator("#summary")).to_have_text(f"0 of {CLIENTS:,} online")
    expect(page.locator("#tab-inactive b")).to_have_text(f"{CLIENTS:,}")
    newest = max(known, key=lambda client_id: known[client_id])
    row = page.locator("tbody tr").first
    expect(row.locator(".client")).to_have_text(newest)
    moment = datetime.fromtimestamp(known[newest], UTC)
    expect(row.locator(".seen time")).to_have_attribute("title", f"{moment:%Y-%m-%d %H:%M:%S} UTC")
