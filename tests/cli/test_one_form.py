"""What the command line prints as JSON is what the API answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.server.running import ServerProcess, eventually

PAGE = "https://shop.example/?utm_source=letter&utm_medium=email"
QUESTION = "visits?metrics=visits,visitors&by=source&last=7d"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """Run a server that knows one of everything, and the address of its database."""
    folder = tmp_path_factory.mktemp("form")
    database = f"sqlite:///{folder}/lastseen.db"
    with ServerProcess(folder, database) as server:
        http = server.http
        site = http.get("/api/v1/sites").json()["sites"][0]
        views = [{"name": name, "distinct_id": "v", "url": PAGE} for name in ("$pageview", "bought")]
        assert http.post("/api/v1/events", json={"write_key": site["write_key"], "events": views}).status_code == 200
        assert http.post("/api/v1/devices", json={"id": "till-7", "name": "Till 7"}).is_success
        assert http.post("/api/v1/keys", json={"name": "k", "scopes": ["devices:read"]}).is_success
        assert http.post("/api/v1/activity", json={"client_id": "till-7"}).status_code == 202
        assert http.get("/api/v1/clients").json()["clients"]  # reading writes what waits
        report = f"/api/v1/reports/{QUESTION}"
        eventually(lambda: http.get(report).json()["totals"]["visits"] == 1, "the copy for reports follows")
        yield server, database


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("clients list", "clients"),
        ("clients count", "clients/counts"),
        ("clients count --status online", "clients/count?status=online"),
        ("devices list", "devices"),
        ("devices show till-7", "devices/till-7"),
        ("keys list", "keys"),
        ("sites list", "sites"),
        ("visits list", "visits"),
        ("report visits --metrics visits,visitors --by source --last 7d", f"reports/{QUESTION}"),
    ],
)
def test_both_say_the_same(served: tuple[ServerProcess, str], call: Command, command: str, path: str) -> None:
    """Names, values, and what is around them; but when a report was asked for."""
    server, database = served
    printed: dict[str, Any] = call(*command.split(), "--json", "--database", database).document
    answered = server.http.get(f"/api/v1/{path}").json()
    for document in (printed, answered):
        for moment in ("asked_at", "from", "to"):
            document.pop(moment, None)
    assert printed == answered


def test_a_visit_with_its_events_too(served: tuple[ServerProcess, str], call: Command) -> None:
    """By the id of any event in it."""
    server, database = served
    event = server.http.get("/api/v1/events?name=bought").json()["events"][0]
    printed = call("visits", "show", event["id"], "--json", "--database", database).document
    assert printed == server.http.get(f"/api/v1/visits/{event['id']}").json()
    assert printed["events"][1] == event
    assert event["utm"]["source"] == "letter"
