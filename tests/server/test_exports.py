"""Every list can be saved: as CSV and Parquet from the API, and from the pages that show it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import httpx
import msgspec
import pytest

from lastseen.devices.key import Scope
from lastseen.reports.export import table_to_csv
from lastseen.server.api.exports import rows_of
from lastseen.wire.devices import GroupList, GroupView
from tests.server.ingesting import RECORDED_KEY, batch
from tests.server.running import ServerProcess, eventually
from tests.server.world import World

API = "/api/v1"
FORMULA = "=HYPERLINK(A1)"
LISTS = ("visits", "events", "clients", "devices", "keys", "groups", "sites", "sessions", "users", "audit")
FOR_ADMINISTRATORS = {"users", "audit"}
NAMES = {"activity/hours": "hours", "audit": "entries"}
NEEDS = {"events": Scope.VISITS_READ}
TYPES = {"JSON": "application/json", "CSV": "text/csv", "Parquet": "application/vnd.apache.parquet"}
RANGE = {"from": "2026-09-01", "to": "2026-10-01", "time_zone": "UTC"}
PAGES = {
    "/": ("/api/v1/clients", "/api/v1/activity/hours"),
    "/visits?from=2026-09-01&to=2026-09-30": ("/api/v1/visits",),
    "/visits/list": ("/api/v1/visits",),
    "/visits/list?visitor=somebody": ("/api/v1/visits",),
    "/visits/list?filter=page:is:/1&from=2026-09-01&to=2026-09-30": ("/api/v1/visits",),
    "/devices?status=never": ("/api/v1/devices",),
    "/device?id=near-device": ("/api/v1/keys",),
    "/keys?group=near": ("/api/v1/keys",),
    "/groups": ("/api/v1/groups",),
    "/sites": ("/api/v1/sites",),
    "/users": ("/api/v1/users",),
    "/audit": ("/api/v1/audit",),
    "/account/devices": ("/api/v1/sessions",),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Fill a server with some of everything."""
    with ServerProcess(tmp_path_factory.mktemp("exports"), None, "--rate-limit", "0", measured=True) as server:
        world = World(server)
        world.make("devices", id="odd", name=FORMULA, group_id="far", properties={"floor": [3, None], "a": "b"})
        write_key = world.ada.get(f"{API}/sites/default").json()["write_key"]
        sent = server.http.post(
            f"{API}/events", content=batch(range(20)).replace(RECORDED_KEY.encode(), write_key.encode())
        )
        assert sent.status_code == 200, sent.text
        url = f"https://shop.example/a?utm_source={quote(FORMULA)}&utm_medium=mail&utm_campaign=spring"
        event = {"name": "$pageview", "distinct_id": "somebody", "url": url}
        sent = server.http.post(f"{API}/events", params={"write_key": write_key}, json=event)
        assert sent.status_code == 200, sent.text
        eventually(lambda: counted(world, **RANGE) == 5, "the copy for reports follows")
        yield world
        world.close()


def counted(world: World, **params: str) -> int:
    """Return how many visits a report counts."""
    answer = world.ada.get(f"{API}/reports/visits", params={"metrics": "visits", **params})
    return int(answer.json()["totals"]["visits"])


def parquet_rows(content: bytes, folder: Path) -> list[dict[str, Any]]:
    """Read a Parquet file."""
    file = folder / "answer.parquet"
    file.write_bytes(content)
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM '{file}'")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def flat(thing: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Write one thing of a JSON list as a row with these columns, in another way than the server does."""
    row: dict[str, Any] = {}
    for name in names:
        outer = next(each for each in sorted(thing, key=len, reverse=True) if f"{name}_".startswith(f"{each}_"))
        value = thing[outer] if name == outer else (thing[outer] or {}).get(name.removeprefix(f"{outer}_"))
        row[name] = msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value
    return row


def as_csv(value: Any) -> str:
    """Write one value as it stands in a CSV file."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"'{value}" if str(value).startswith(("=", "-")) else str(value)


def listed(client: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{API}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    (things,) = [value for value in answer.json().values() if isinstance(value, list)]
    return list(things)


@pytest.mark.parametrize("path", [*LISTS, "activity/hours"])
def test_every_list_is_a_file_too(world: World, path: str, tmp_path: Path) -> None:
    """CSV and Parquet hold what the JSON holds, row by row, flat, under names that say what they were in."""
    things = listed(world.ada, path)
    assert things
    text = world.ada.get(f"{API}/{path}", params={"format": "csv"})
    assert text.headers["content-type"].startswith("text/csv")
    name = NAMES.get(path, path)
    assert text.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    reader = csv.DictReader(io.StringIO(text.text))
    rows, names = list(reader), list(reader.fieldnames or ())
    expected = [flat(thing, names) for thing in things]
    moving = {"last_seen_at", "last_activity_at", "idle_deadline", "last_used_at", "status"}

    def still(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name not in moving} for row in found]

    assert still(rows) == still([{name: as_csv(value) for name, value in row.items()} for row in expected])
    file = world.ada.get(f"{API}/{path}", params={"format": "parquet"})
    assert file.headers["content-type"] == TYPES["Parquet"]
    assert file.headers["content-disposition"] == f'attachment; filename="{name}.parquet"'
    assert still(parquet_rows(file.content, tmp_path)) == still(expected)


def test_a_timeline_is_a_file(world: World) -> None:
    """A visit's rows are its events."""
    visit = listed(world.ada, "visits", visitor="somebody")[0]["id"]
    text = world.ada.get(f"{API}/visits/{visit}", params={"format": "csv"}).text
    events = world.ada.get(f"{API}/visits/{visit}").json()["events"]
    assert [row["id"] for row in csv.DictReader(io.StringIO(text))] == [event["id"] for event in events] != []
    page = unescape(world.ada.get("/visit", params={"id": visit}).text)
    links = re.findall(r'<a href="(/api/v1/visits/[^"]+)" aria-label="This visit as (\w+)"', page)
    assert [kind for _, kind in links] == list(TYPES)
    assert world.ada.get(links[1][0]).text == text


def test_what_is_nested_is_flat_and_no_formula_runs(world: World) -> None:
    """A campaign's fields are columns; what a spreadsheet would run is defused, and only in CSV."""
    text = world.ada.get(f"{API}/visits", params={"visitor": "somebody", "format": "csv"}).text
    (visit,) = csv.DictReader(io.StringIO(text))
    assert (visit["utm_source"], visit["utm_medium"]) == (f"'{FORMULA}", "mail")
    assert {"device_type", "geo_country", "properties"} <= visit.keys()
    (device,) = csv.DictReader(
        io.StringIO(world.ada.get(f"{API}/devices", params={"search": "odd", "format": "csv"}).text)
    )
    assert device["name"] == f"'{FORMULA}"
    assert msgspec.json.decode(device["properties"]) == {"floor": [3, None], "a": "b"}


def test_the_next_page_is_linked(world: World) -> None:
    """Following `Link` with a limit of one finds each group once, with the same format; the last page has none."""
    address, found = f"{API}/groups?limit=1&format=csv", []
    while address:
        answer = world.ada.get(address)
        found += [row["id"] for row in csv.DictReader(io.StringIO(answer.text))]
        address = answer.links.get("next", {}).get("url", "")
    assert found == [group["id"] for group in listed(world.ada, "groups")]
    assert len(found) >= 2


@pytest.mark.parametrize("path", LISTS)
def test_another_format_is_refused(world: World, path: str) -> None:
    """400, and the parameter is named."""
    answer = world.ada.get(f"{API}/{path}", params={"format": "xlsx"})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "format")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_needs_the_same_scope_and_holds_no_more(world: World, form: str, tmp_path: Path) -> None:
    """403 without the scope; a key of a group or site saves what it may list, and finds no other site."""
    for path in FOR_ADMINISTRATORS:
        assert world.bob.get(f"{API}/{path}", params={"format": form}).status_code == 403, path
        assert world.with_key(world.root).get(f"{API}/{path}", params={"format": form}).status_code == 403, path
    for path in set(LISTS) - FOR_ADMINISTRATORS:
        scope = NEEDS.get(path) or Scope(f"{path}:read")
        lacking = world.with_key(world.key(f"no {path} {form}", scopes=set(Scope) - {scope}))
        assert lacking.get(f"{API}/{path}", params={"format": form}).status_code == 403, path
    near = world.with_key(world.near).get(f"{API}/devices", params={"format": form}).content
    everything = world.with_key(world.root).get(f"{API}/devices", params={"format": form}).content

    def ids(content: bytes) -> set[str]:
        if form == "csv":
            return {row["id"] for row in csv.DictReader(io.StringIO(content.decode()))}
        return {row["id"] for row in parquet_rows(content, tmp_path)}

    assert ids(near) == {"near-device"}
    assert ids(everything) == {"near-device", "far-device", "odd"}
    for filters in ({}, {"filter": "page:is:/1"}):
        refused = world.with_key(world.site).get(f"{API}/visits", params={"site": "other", "format": form, **filters})
        assert refused.status_code == 404


def test_an_empty_list_is_a_file_with_names(tmp_path: Path) -> None:
    """Columns come from what a list may hold, not from what is in it."""
    from lastseen.stores.columnar.parquet import to_parquet

    name, table = rows_of(GroupList(groups=[], next_cursor=None))
    assert (name, table_to_csv(table)) == ("groups", "id,name,created_at\r\n")
    assert parquet_rows(to_parquet(table), tmp_path) == []


def test_what_holds_no_list_is_refused() -> None:
    """A mistake of ours is told when it is made."""
    from datetime import UTC, datetime

    with pytest.raises(TypeError, match="GroupView"):
        rows_of(GroupView(id="a", name="A", created_at=datetime(2026, 1, 1, tzinfo=UTC)))


def test_visits_are_filtered_like_reports(world: World) -> None:
    """The list holds the visits that a report with the same filters counts, page by page."""
    count = counted(world, **RANGE, filter="page:is:/1")
    found = listed(world.ada, "visits", **RANGE, filter="page:is:/1", limit=1_000)
    assert len({visit["id"] for visit in found}) == len(found) == count
    everything = listed(world.ada, "visits", **RANGE, limit=1_000)
    assert 0 < count < len(everything)
    paged: list[str] = []
    params: dict[str, str] = {**RANGE, "filter": "page:is:/1", "limit": "1"}
    while len(paged) <= count:
        answer = world.ada.get(f"{API}/visits", params=params).json()
        paged += [visit["id"] for visit in answer["visits"]]
        if answer["next_cursor"] is None:
            break
        params["cursor"] = answer["next_cursor"]
    assert paged == [visit["id"] for visit in found]


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"filter": "page"}, "filter"),
        ({"last": "a while"}, "last"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"from": "2026-09-01"}, "from"),
        ({"last": "7d", "visitor": "somebody"}, "visitor"),
        ({"last": "7d", "start_reason": "campaign"}, "start_reason"),
        ({"last": "7d", "entry": "/"}, "entry"),
        ({"last": "7d", "order": "oldest"}, "order"),
    ],
    ids=str,
)
def test_filters_that_cannot_be_are_named(world: World, params: dict[str, str], part: str) -> None:
    """400: also for what reports know nothing of, which would be left out silently, and a day without a zone."""
    answer = world.ada.get(f"{API}/visits", params=params)
    assert (answer.status_code, answer.json()["parameter"]) == (400, part)


@pytest.mark.parametrize("address", PAGES)
def test_every_table_has_its_files_beside_it(world: World, address: str) -> None:
    """Each has its API call in three forms, and each answers with rows of what the table shows."""
    page = unescape(world.ada.get(address).text)
    for path in PAGES[address]:
        links = dict(
            reversed(found) for found in re.findall(rf'<a href="({path}(?:\?[^"]+)?)" aria-label="[^"]+">(\w+)<', page)
        )
        assert links.keys() == TYPES.keys(), (path, links)
        for kind, link in links.items():
            answer = world.ada.get(link)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith(TYPES[kind])
        (things,) = [value for value in world.ada.get(links["JSON"]).json().values() if isinstance(value, list)]
        assert things
    assert "filter=" not in address or "filter=page%3Ais%3A%2F1" in links["CSV"]
