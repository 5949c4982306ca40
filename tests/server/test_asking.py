"""`GET /api/v1/clients…`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.server.running import ServerProcess, eventually

# One server a module, and a module a process.

HOUR = 3600
AGES = {"now": 0, "minutes": 600, "hours": 7_200, "days/old": 3 * 24 * HOUR, "wéeks ü": 15 * 24 * HOUR}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that knows five clients."""
    postgres: Any = request.getfixturevalue("postgres") if request.param == "postgres" else None
    database = postgres.create_database() if postgres else None
    with ServerProcess(tmp_path_factory.mktemp("asking"), database, "--status-online", "9m", measured=True) as process:
        now = time.time()
        items = [{"client_id": client_id, "at": now - age} for client_id, age in AGES.items()]
        assert process.http.post("/api/v1/activity", json=items).json()["accepted"] == len(AGES)
        assert process.http.get("/api/v1/clients").is_success  # reading writes what waits
        yield process


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [client["client_id"] for client in answer.json()["clients"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["now", "minutes", "hours", "days/old", "wéeks ü"]),
        ("order=oldest", ["wéeks ü", "days/old", "hours", "minutes", "now"]),
        ("order=client_id", ["days/old", "hours", "minutes", "now", "wéeks ü"]),
        ("active_within=1h", ["now", "minutes"]),
        ("inactive_for=24h", ["days/old", "wéeks ü"]),
        ("active_within=7d&inactive_for=90m", ["hours", "days/old"]),
        ("status=online", ["now"]),
        ("status=recent", ["minutes"]),
        ("status=idle", ["hours"]),
        ("status=inactive", ["days/old", "wéeks ü"]),
        ("search=O", ["now", "hours", "days/old"]),
        ("search=%C3%BC", ["wéeks ü"]),
        ("limit=2", ["now", "minutes"]),
    ],
)
def test_clients_are_listed_filtered_and_sorted(filled: ServerProcess, query: str, expected: list[str]) -> None:
    """Every filter and every order, in both databases; counting agrees with listing."""
    assert ids(filled.http.get(f"/api/v1/clients?{query}")) == expected
    if "order" not in query and "limit" not in query:
        assert filled.http.get(f"/api/v1/clients/count?{query}").json() == {"count": len(expected)}


def test_pages_follow_by_cursor(filled: ServerProcess) -> None:
    """Following `next_cursor` to its end gives every client once."""
    found, cursor = [], ""
    while cursor is not None:
        answer = filled.http.get("/api/v1/clients", params={"limit": "2", **({"cursor": cursor} if cursor else {})})
        found += ids(answer)
        cursor = answer.json()["next_cursor"]
    assert found == list(AGES)


def test_counts_by_status_add_up(filled: ServerProcess) -> None:
    """The four statuses add up to the total."""
    counts = filled.http.get("/api/v1/clients/counts").json()
    assert counts == {"total": 5, "online": 1, "recent": 1, "idle": 1, "inactive": 2}


@pytest.mark.parametrize("client_id", AGES)
def test_one_client_is_shown_by_its_id(filled: ServerProcess, client_id: str) -> None:
    """An id is one percent-encoded segment, whatever it holds; moments are UTC with a Z."""
    client = filled.http.get(f"/api/v1/clients/{quote(client_id, safe='')}").json()
    assert client["client_id"] == client_id
    assert client["last_seen_at"].endswith("Z")
    assert client["created_at"] == client["last_seen_at"]


def test_hours_of_a_client(filled: ServerProcess) -> None:
    """The hours in which a client was active, within the span that is asked for."""
    answer = filled.http.get("/api/v1/clients/days%2Fold/hours").json()
    assert (answer["client_id"], len(answer["hours"])) == ("days/old", 1)
    assert datetime.fromisoformat(answer["hours"][0]).minute == 0
    assert filled.http.get("/api/v1/clients/days%2Fold/hours?within=24h").json()["hours"] == []


def test_active_clients_by_hour(filled: ServerProcess) -> None:
    """How many clients were active in each hour of the last days."""
    hours = filled.http.get("/api/v1/activity/hours?within=7d").json()["hours"]
    assert sum(hour["active_clients"] for hour in hours) == 4


@pytest.mark.parametrize(
    "path", ["nobody", "a%00b", "%FF", "x" * 300, "nobody/hours", "%2e%2e%2f%2e%2e", "days/old", "now/hours/x"]
)
def test_an_unknown_client_is_not_found(filled: ServerProcess, path: str) -> None:
    """What was never seen, and what can never be an id, is answered 404 with problem details."""
    answer = filled.http.get(f"/api/v1/clients/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("active_within=soon", "active_within"),
        ("active_within=-1h", "active_within"),
        ("inactive_for=99999999999999d", "inactive_for"),
        ("inactive_for=400000d", "inactive_for"),
        ("status=asleep", "status"),
        ("status=null", "status"),
        ("limit=Null", "limit"),
        ("order=random", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("cursor=abc", "cursor"),
        ("search=%00", "search"),
        ("search=" + "x" * 300, "search"),
        ("activ_within=1h", "activ_within"),
    ],
)
def test_a_bad_parameter_is_named(filled: ServerProcess, query: str, parameter: str) -> None:
    """Nothing is guessed: a parameter that cannot be, or that nothing reads, is answered 400 with its name."""
    answer = filled.http.get(f"/api/v1/clients?{query}")
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter
    assert parameter in answer.json()["detail"]


def test_a_client_named_like_a_route_can_be_shown(server: ServerProcess) -> None:
    """A client called `count` is reached by percent-encoding one of its letters."""
    server.http.post("/api/v1/activity?client_id=count")
    # httpx would decode it again: the raw path is what is tested.
    url = httpx.URL(server.address).copy_with(raw_path=b"/api/v1/clients/%63ount")
    assert server.http.get(url).json()["client_id"] == "count"


def test_a_store_that_fails_is_503(new_server: ServerProcess, tmp_path: Path) -> None:
    """With its table gone the API, the page, readiness and the health of recording say so; the process lives on."""
    database = new_server.announcement.split()[6].removeprefix("sqlite:///")
    with sqlite3.connect(tmp_path / database) as connection:
        connection.execute("DROP TABLE client_activity")
    connection.close()
    for path in ("/api/v1/clients", "/api/v1/clients/x", "/", "/rows", "/health/ready"):
        assert new_server.http.get(path).status_code == 503, path
    assert new_server.http.get("/api/v1/clients").headers["content-type"] == "application/problem+json"
    # What is posted is still taken: it waits for the table.
    assert new_server.http.post("/api/v1/activity?client_id=waits").status_code == 202
    eventually(lambda: new_server.http.get("/health/activity").status_code == 503, "recording turns red")
    health = new_server.http.get("/health/activity").json()
    assert (health["status"], health["buffer_size"]) == ("red", 1)
    assert "migrate" in health["reason"]
    assert new_server.http.get("/health/live").status_code == 200
