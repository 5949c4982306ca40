"""API keys at the door: what they record, what leaves every moment as it was, and that their secrets are nowhere."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen.app import LastSeen
from lastseen.devices.key import Scope
from tests.server import people
from tests.server.running import DEADLINE, ServerProcess, eventually
from tests.server.world import FAR, World
from tests.servers import ask

# One server a module, and a module a process.


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Fill a server on either database."""
    postgres: Any = request.getfixturevalue("postgres") if request.param == "postgres" else None
    database = postgres.create_database() if postgres else None
    with ServerProcess(tmp_path_factory.mktemp("keys"), database, "--rate-limit", "0", measured=True) as server:
        world = World(server)
        yield world
        world.close()


def moments(world: World) -> dict[str, Any]:
    """Return when each key was used and each device and client was seen, as the administrator is told."""
    asked = {name: world.ada.get(f"/api/v1/{name}").json()[name] for name in ("keys", "devices", "clients")}
    return {
        **{key["id"]: key["last_used_at"] for key in asked["keys"]},
        **{device["id"]: device["last_seen_at"] for device in asked["devices"]},
        **{client["client_id"]: client["last_seen_at"] for client in asked["clients"]},
    }


def test_every_authenticated_request_records_the_key_and_its_device(world: World) -> None:
    """Also one that is refused for a scope or finds nothing; the other device of the group stays as it was."""
    key_id = world.key_id("near device")
    for method, path, status in (
        ("GET", "devices", 200),
        ("GET", "clients", 403),
        ("GET", "devices/unknown", 404),
        ("POST", "events", 403),
    ):
        before = moments(world)
        event = {"name": "x"} if method == "POST" else None
        assert world.with_key(world.near_device).request(method, f"/api/v1/{path}", json=event).status_code == status
        after = moments(world)
        changed = {name for name in after if before[name] != after[name]}
        assert changed == {key_id, "near-device"}


def test_a_device_that_registers_itself_is_seen_by_that(world: World) -> None:
    """With its own key, or when the request says so; one that an administrator enters was never seen."""
    world.make("devices", id="self", group_id="near")
    world.make("devices", id="entered", group_id="near")
    world.make("devices", id="told", group_id="near", seen=True)
    own = world.with_key(world.key("self", scopes={Scope.DEVICES_WRITE}, device_id="self"))
    assert (moments(world)["self"], moments(world)["entered"]) == (None, None)
    assert moments(world)["told"] is not None
    assert own.post("/api/v1/devices", json={"id": "self", "name": "Self"}).json()["last_seen_at"] is not None
    assert own.post("/api/v1/devices/entered/seen").status_code == 404
    assert world.with_key(world.near).post("/api/v1/devices/entered/seen").status_code == 202
    assert moments(world)["entered"] is not None


def test_what_is_not_authenticated_leaves_every_moment(world: World) -> None:
    """Wrong, revoked and missing keys, health checks, and preflights: nothing has changed afterwards."""
    revoked = world.key("revoked", scopes={Scope.DEVICES_READ}, device_id="far-device")
    world.ada.delete(f"/api/v1/keys/{world.key_id('revoked')}")
    before = moments(world)
    wrong = f"{world.near_device[:-1]}{'A' if world.near_device[-1] != 'A' else 'B'}"
    for secret in (wrong, revoked, "ls_", "ls_aaaaaaaa_" + "A" * 43):
        for method, path in (
            ("GET", "devices"),
            ("POST", "activity?client_id=some-client"),
            ("POST", "events?site=default"),
            ("GET", "nothing"),
        ):
            answer = world.server.http.request(method, f"/api/v1/{path}", headers={"x-api-key": secret}, json=[])
            assert answer.status_code == 401, path
    for path in ("/health/live", "/health/ready", "/static/app.css", "/metrics"):
        headers = {"authorization": f"Bearer {world.near_device}"}
        assert world.server.http.get(path, headers=headers).status_code == 200
    assert world.with_key(None).post("/api/v1/activity?client_id=some-client").status_code == 401
    assert moments(world) == before


def test_activity_from_elsewhere_takes_a_key(world: World) -> None:
    """With the scope it is recorded; by either header; the answer to none tells how to get one."""
    secret = world.key("writer", scopes={Scope.ACTIVITY_WRITE})
    refused = world.with_key(None).post("/api/v1/activity", json={"client_id": "far away"})
    assert (refused.status_code, "lastseen keys create" in refused.json()["detail"]) == (401, True)
    for headers in ({"authorization": f"bearer {secret}"}, {"x-api-key": secret}):
        answer = world.server.http.post("/api/v1/activity", json={"client_id": "far away"}, headers=FAR | headers)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert "far away" in moments(world)
    lines = '{"client_id": "line 1"}\n{"client_id": "line 2"}\n'
    headers = {**FAR, "x-api-key": secret, "content-type": "application/x-ndjson"}
    assert world.server.http.post("/api/v1/activity", content=lines, headers=headers).json()["accepted"] == 2


def test_a_revoked_key_ends_at_once_and_a_rotated_one_after_its_overlap(world: World) -> None:
    """In the process that was told."""
    old = world.key("ends", scopes={Scope.DEVICES_READ})
    with httpx.Client(base_url=world.server.address, headers={"x-api-key": old}, timeout=DEADLINE) as client:
        assert client.get("/api/v1/devices").status_code == 200
        rotated = world.ada.post(f"/api/v1/keys/{world.key_id('ends')}/rotate", json={"overlap_seconds": 0})
        assert client.get("/api/v1/devices").status_code == 401
        new = {"x-api-key": rotated.json()["secret"]}
        assert client.get("/api/v1/devices", headers=new).status_code == 200
        world.ada.delete(f"/api/v1/keys/{rotated.json()['key']['id']}")
        assert client.get("/api/v1/devices", headers=new).status_code == 401


def test_the_trail_tells_of_keys_and_sites(world: World) -> None:
    """Who made, rotated or revoked which key, and changed which site: a person or a key, from which network."""
    maker = world.with_key(world.key("maker", scopes={Scope.KEYS_WRITE, Scope.SITES_WRITE}))
    made = maker.post("/api/v1/keys", json={"name": "made", "group_id": "near"}).json()["key"]
    maker.post(f"/api/v1/keys/{made['id']}/rotate", json={})
    world.ada.delete(f"/api/v1/keys/{made['id']}")
    maker.patch("/api/v1/sites/default", json={"rule": {"timeout_seconds": 60}})
    told = people.words(world.ada.get("/audit").text)
    place = -1
    for what in (
        "site changed Default by key maker, this machine",
        f"API key revoked made by ada, ls_{made['prefix']} of near, this machine",
        "API key rotated made by key maker, ls_",
        f"API key created made by key maker, ls_{made['prefix']} of near, this machine",
    ):
        found = told.find(what)
        assert found > place, (what, told[:2_000])
        place = found


def test_uses_are_written_by_time_alone(world: World) -> None:
    """Hundreds of requests of several keys: the rows are written once a second or so, and are there in the end."""
    names = [f"many {number}" for number in range(5)]
    secrets = [world.key(name, scopes={Scope.DEVICES_READ}) for name in names]
    for _ in range(40):
        for secret in secrets:
            assert world.with_key(secret).get("/api/v1/devices/near-device").status_code == 200
    ids = {world.key_id(name) for name in names}

    def stored() -> bool:
        used = {key["id"]: key["last_used_at"] for key in world.ada.get("/api/v1/keys").json()["keys"]}
        return all(used[key_id] is not None for key_id in ids)

    eventually(stored, "every use is told")


def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    """Not in the log of the lowest level, an answer but the first, an error, a metric, a list, or the database.

    The negative control: what may be there is.
    """
    database = tmp_path / "seen.db"
    with ServerProcess(tmp_path, f"sqlite:///{database}", "--log-level", "debug") as server:
        with closing(people.set_up(server)) as ada:
            made = ada.post("/api/v1/keys", json={"name": "visible name", "scopes": sorted(Scope)}).json()
            rotated = ada.post(f"/api/v1/keys/{made['key']['id']}/rotate", json={}).json()
            secrets = [made["secret"], rotated["secret"], ada.cookies["lastseen"], people.PASSWORD]
            wrong = f"{made['secret'][:-2]}zz"
            shown = []
            for headers in ({"x-api-key": made["secret"]}, {"authorization": f"Bearer {rotated['secret']}"}):
                paths = ("keys", f"keys/{made['key']['id']}", "clients?search=x", "devices?bad=1", "sites", "sessions")
                shown += [server.http.get(f"/api/v1/{path}", headers=headers).text for path in paths]
                shown.append(server.http.patch("/api/v1/devices/x", content=b"{", headers=headers).text)
                shown.append(server.http.post("/api/v1/keys", json={"name": secrets[0], "x": 1}, headers=headers).text)
            shown.append(server.http.get("/api/v1/keys", headers={"x-api-key": wrong}).text)
            for used in (wrong, made["secret"]):
                headers = {"authorization": f"Bearer {used}", "x-api-key": used}
                for place in ("default", "nowhere"):
                    events = f"/api/v1/events?site={place}"
                    shown.append(server.http.post(events, json=[{"name": ""}], headers=headers).text)
            pages = (
                "/",
                "/users",
                "/audit",
                "/keys",
                f"/key?id={made['key']['id']}",
                "/keys/new",
                "/devices",
                "/sites",
            )
            shown += [ada.get(path).text for path in (*pages, "/metrics", "/health/activity", "/api/v1/openapi.json")]
        server.stop()
        shown.append(server.log)
    with LastSeen.open(f"sqlite:///{database}") as seen:
        (site,) = seen.sites.list()
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())
    everything = "\n".join(shown)
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("seen.db*"))
    assert "visible name" in everything
    assert "visible name" in dump
    assert made["key"]["prefix"] in everything
    for secret in secrets:
        digest = hashlib.sha256(secret.encode())
        assert secret.encode() not in kept
        assert secret not in dump
        assert secret not in everything
        assert digest.hexdigest() not in everything.lower()
    assert site.import_secret.hex() not in everything.lower()
    assert "127.0.0.1" not in dump


def test_postgres_keeps_no_secret(postgres_url: str, tmp_path: Path) -> None:
    """No column of any table holds one."""
    with ServerProcess(tmp_path, postgres_url) as server, closing(people.set_up(server)) as ada:
        secret = ada.post("/api/v1/keys", json={"name": "visible name", "scopes": ["devices:read"]}).json()["secret"]
        tables = ask(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
        rows = "\n".join(str(ask(postgres_url, f'SELECT t::text FROM "{table}" t')) for (table,) in tables)
    assert "visible name" in rows
    assert secret not in rows
    assert secret.rpartition("_")[2] not in rows
