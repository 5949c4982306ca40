"""Two groups of ten thousand devices each: what a member of one of them is shown, page by page."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen import LastSeen
from lastseen.devices.key import GROUP_SCOPES
from tests.server import people
from tests.server.running import DEADLINE, ServerProcess
from tests.servers import ask

# One server a module, and a module a process.

DEVICES = 10_000
NEVER = len(range(0, DEVICES, 7))
SPANS = (timedelta(0), timedelta(minutes=20), timedelta(hours=4), timedelta(days=2))
"""One for each status word, far from where the next one begins: time goes on."""

INSERT = """
INSERT INTO lastseen_devices (id, name, platform, owner_id, group_id, properties, created_at, last_seen_at)
"""


def seen_at(number: int, now: datetime) -> datetime | None:
    """Return when a device was seen: one in seven never, many at the same moment."""
    return now - SPANS[number % 4] - timedelta(seconds=number * 37 % 60) if number % 7 else None


def fill(database: str, now: datetime) -> None:
    """Put them all in at once."""
    rows = [
        (f"{group}-{number:05}", f"Device {number * 31 % 977}", group, seen_at(number, now))
        for group in ("near", "far")
        for number in range(DEVICES)
    ]
    with LastSeen.open(database, migrate=True) as seen:
        for group in ("near", "far"):
            seen.devices.create_group(group.title(), group_id=group)
    if database.startswith("sqlite"):
        with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
            connection.executemany(
                f"{INSERT} VALUES (?1, ?2, '', NULL, ?3, '{{}}', '2026-01-01 00:00:00.000000', ?4)",
                [(*row[:3], row[3] and f"{row[3].replace(tzinfo=None)}.000000") for row in rows],
            )
        connection.close()
    else:
        columns = [list(column) for column in zip(*rows, strict=True)]
        taken = "unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[]) AS t (id, name, grp, at)"
        ask(database, f"{INSERT} SELECT id, name, '', NULL, grp, '{{}}', now(), at FROM {taken}", columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """A server, and the moment at which the last device was seen."""

    server: ServerProcess
    now: datetime


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Fill a server on either database."""
    home: Path = tmp_path_factory.mktemp("fleet")
    postgres: Any = request.getfixturevalue("postgres") if request.param == "postgres" else None
    database = postgres.create_database() if postgres else f"sqlite:///{home}/fleet.db"
    now = datetime.now(UTC).replace(microsecond=0)
    fill(database, now)
    with ServerProcess(home, database, "--rate-limit", "0", "--status-online", "10m", measured=True) as server:
        yield Fleet(server=server, now=now)


@pytest.fixture(scope="module")
def ada(fleet: Fleet) -> Iterator[httpx.Client]:
    """Sign the administrator in."""
    with closing(people.set_up(fleet.server)) as client:
        yield client


@pytest.fixture(scope="module")
def member(fleet: Fleet, ada: httpx.Client) -> Iterator[httpx.Client]:
    """Ask with a key of one group."""
    made = ada.post("/api/v1/keys", json={"name": "member", "scopes": sorted(GROUP_SCOPES), "group_id": "near"}).json()
    headers = {"x-api-key": made["secret"]}
    with httpx.Client(base_url=fleet.server.address, headers=headers, timeout=DEADLINE) as client:
        yield client


def all_devices(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    """Follow the cursors to the end."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = client.get(f"/api/v1/devices?limit=1000&{query}{cursor}").json()
        found += answer["devices"]
        if answer["next_cursor"] is None:
            return found
        cursor = f"&cursor={answer['next_cursor']}"


def test_a_member_pages_through_its_group_by_last_seen(fleet: Fleet, member: httpx.Client) -> None:
    """Each of its ten thousand once and no other, the latest first, never last or first as asked, ties by id."""
    expected = [(f"near-{number:05}", seen_at(number, fleet.now)) for number in range(DEVICES)]
    order: dict[str, Any] = {
        "order=-last_seen": lambda one: (one[1] is None, -(one[1] or fleet.now).timestamp(), one[0]),
        "order=last_seen&never_first=true": lambda one: (one[1] is not None, (one[1] or fleet.now).timestamp(), one[0]),
    }
    for query, key in order.items():
        found = all_devices(member, query)
        moments = [one["last_seen_at"] and datetime.fromisoformat(one["last_seen_at"]) for one in found]
        listed = [(one["id"], at) for one, at in zip(found, moments, strict=True)]
        assert listed == sorted(expected, key=key)
        assert {one["group_id"] for one in found} == {"near"}
        assert all((one["status"] is None) is (one["last_seen_at"] is None) for one in found)


def test_a_member_filters_by_last_seen(member: httpx.Client) -> None:
    """The status words, never, and spans divide the group without a rest; another group's filter finds nothing."""
    by_status = {status: all_devices(member, f"status={status}") for status in ("online", "recent", "idle", "inactive")}
    never = all_devices(member, "is_seen=false")
    assert len(never) == NEVER
    assert all(found for found in by_status.values())
    assert sum(len(found) for found in by_status.values()) + len(never) == DEVICES
    for status, found in by_status.items():
        assert {one["status"] for one in found} == {status}
    active, inactive = all_devices(member, "active_within=1d"), all_devices(member, "inactive_for=1d")
    assert len(active) + len(inactive) == DEVICES - NEVER
    assert all_devices(member, "group_id=far") == []
    assert member.get("/api/v1/devices/far-00001").status_code == 404
    assert member.get("/api/v1/devices/near-00001").status_code == 200


def test_the_page_of_a_group_shows_never_and_how_long_ago(ada: httpx.Client) -> None:
    """Fifty a page, the latest first with a relative time; those never seen are counted and found by a click."""
    page = ada.get("/devices?group=near").text
    rows = re.findall(r"<tr role=\"row\" id=.*?</tr>", page, re.DOTALL)
    assert len(rows) == 50
    times = re.findall(r'<time datetime="([^"]+)" title="[^"]+ UTC">([^<]+)</time>', "".join(rows))
    assert [at for at, _ in times] == sorted((at for at, _ in times), reverse=True)
    assert all(word.endswith(("ago", "now")) for _, word in times)
    assert 'rel="next"' in page
    words = people.words(page)
    assert f"All {DEVICES:,}" in words
    assert f"Never {NEVER:,}" in words
    never = ada.get("/devices?group=near&status=never").text
    assert never.count("<em>never</em>") == 50
    assert "far-" not in page + never
