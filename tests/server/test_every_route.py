"""Nobody gets in where they do not belong: every operation of the document, with every kind of credential."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, get

from lastseen.devices.key import GROUP_SCOPES, SITE_SCOPES, Scope
from lastseen.errors import ConfigurationError
from lastseen.server.rights import STRANGER, Right, check_declared, require_right
from tests.server import people
from tests.server.described import Operation, PageRoute, all_operations, all_pages
from tests.server.running import ServerProcess
from tests.server.world import World

# One server a module, and a module a process.

OPERATIONS = all_operations()
PROTECTED = [operation for operation in OPERATIONS if not operation.is_public]
SCOPED = [operation for operation in OPERATIONS if operation.needs]
BODIES = {
    "RecordActivity": {"client_id": "x"},
    "RecordEvents": {"name": "x"},
    "RegisterDevice": {"id": "far-device", "name": "stolen"},
    "ChangeDevice": {"name": "stolen"},
    "CreateGroup": {"name": "New"},
    "RenameGroup": {"name": "stolen"},
    "CreateKey": {"name": "new", "scopes": ["devices:read"], "group_id": "far"},
    "RotateKey": {"overlap_seconds": 0},
    "CreateSite": {"id": "new"},
    "ChangeSite": {"name": "stolen"},
}

every = pytest.mark.parametrize("operation", PROTECTED, ids=[operation.id for operation in PROTECTED])
scoped = pytest.mark.parametrize("operation", SCOPED, ids=[operation.id for operation in SCOPED])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Fill a server; what is refused changes nothing, so one is enough."""
    with ServerProcess(tmp_path_factory.mktemp("world"), None, "--rate-limit", "0") as server:
        world = World(server)
        yield world
        world.close()


@pytest.fixture(scope="module")
def strange_ids(world: World) -> dict[str, str]:
    """Name what belongs to the other group, site or person."""
    return {
        "device_id": "far-device",
        "group_id": "far",
        "key_id": world.key_id("far"),
        "site_id": "other",
        "session_id": world.session_id(world.ada),
        "client_id": "some-client",
    }


@pytest.fixture(scope="module")
def lacking(world: World) -> dict[str, str]:
    """Make a key for each scope that has all others."""
    return {scope: world.key(f"all but {scope}", scopes=set(Scope) - {scope}) for scope in Scope}


@pytest.fixture(scope="module")
def having(world: World) -> dict[str, str]:
    """Make a key for each scope that has no other."""
    return {scope: world.key(f"only {scope}", scopes={scope}) for scope in Scope}


def ask(client: httpx.Client, operation: Operation, ids: dict[str, str] | None = None) -> httpx.Response:
    """Send a request that is good in itself."""
    known = {name: value for name, value in (ids or {}).items() if name in operation.parameters}
    return client.request(operation.method, operation.address(**known), json=BODIES.get(operation.id))


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    return problem


def test_every_operation_has_a_body_here_that_needs_one() -> None:
    """A new operation must be added to the requests of this module, else it would be refused for its body alone."""
    assert {operation.id for operation in OPERATIONS if operation.has_body} <= BODIES.keys()


@every
def test_without_a_credential_nobody_gets_in(world: World, operation: Operation) -> None:
    """401 with a challenge, before anything is looked at."""
    answer = ask(world.with_key(None), operation)
    assert answer.status_code == 401
    if operation.needs:
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "API key" in problem_of(answer)["detail"]


@scoped
def test_with_a_wrong_key_nobody_gets_in(world: World, operation: Operation) -> None:
    """401 too, also beside a good session, and from this machine, where recording needs no credential."""
    known = ask(world.server.http, operation) if operation.id == "RecordActivity" else None
    assert known is None or known.status_code == 202
    session = {"cookie": f"lastseen={world.ada.cookies['lastseen']}"}
    for headers in (
        {"authorization": f"Bearer {world.near[:-1]}{'A' if world.near[-1] != 'A' else 'B'}", **session},
        {"x-api-key": "nonsense"},
    ):
        answer = world.server.http.request(
            operation.method, operation.address(), json=BODIES.get(operation.id), headers=headers
        )
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert problem_of(answer)["status"] == 401


@scoped
def test_a_key_without_the_scope_is_refused(world: World, lacking: dict[str, str], operation: Operation) -> None:
    """403 that names the scope, with every other scope at hand."""
    (scope,) = operation.needs
    problem = problem_of(ask(world.with_key(lacking[scope]), operation))
    assert (problem["status"], problem["scope"]) == (403, scope)


@scoped
def test_a_key_with_the_scope_alone_gets_in(world: World, having: dict[str, str], operation: Operation) -> None:
    """The control: what was refused above was refused for the scope."""
    (scope,) = operation.needs
    if operation.id == "CreateKey":
        # Nobody can give what they have not.
        return
    body = {"id": "new-device"} if operation.id == "RegisterDevice" else BODIES.get(operation.id)
    answer = world.with_key(having[scope]).request(operation.method, operation.address(), json=body)
    assert answer.status_code not in {401, 403}, answer.text


@every
@pytest.mark.parametrize("who", ["near", "near_device", "site", "bob"])
def test_what_belongs_to_others_is_not_there(
    world: World, strange_ids: dict[str, str], operation: Operation, who: str
) -> None:
    """404 for what another group, site or person has, 403 for what this credential can do nothing with at all."""
    client = world.bob if who == "bob" else world.with_key(getattr(world, who))
    answer = ask(client, operation, strange_ids)
    if operation.parameters or operation.id in {"RegisterDevice", "CreateKey", "CreateGroup", "CreateSite"}:
        assert answer.status_code in {403, 404}, answer.text
        assert problem_of(answer)["status"] == (404 if _has_scope(who, operation) else 403)
    for secret in ("far-device", '"far"', "stolen", strange_ids["key_id"], strange_ids["session_id"], '"other"'):
        assert secret not in answer.text


ASKING = [
    (operation, name)
    for operation in SCOPED
    for name in operation.query
    if name in {"device_id", "group_id", "site_id", "site", "user_id"} and not operation.parameters
]


@pytest.mark.parametrize(("operation", "name"), ASKING, ids=[f"{operation.id}-{name}" for operation, name in ASKING])
@pytest.mark.parametrize("who", ["near", "near_device", "site", "bob"])
def test_a_filter_reaches_nothing_of_others(
    world: World, strange_ids: dict[str, str], operation: Operation, name: str, who: str
) -> None:
    """Asked for what another group, site or person has, a list is empty or not there; an administrator has it there."""
    client = world.bob if who == "bob" else world.with_key(getattr(world, who))
    of_ada = people.user_id(world.ada, "ada")
    value = {**strange_ids, "site": strange_ids["site_id"], "user_id": of_ada}[name]
    answer = client.request(operation.method, operation.path, params={name: value}, json=BODIES.get(operation.id))
    if _has_scope(who, operation):
        assert answer.status_code in {200, 404}, answer.text
        found = [item for items in answer.json().values() if isinstance(items, list) for item in items]
        assert found == [] or answer.json().get("count") == 0, answer.text
    else:
        assert answer.status_code == 403, answer.text
    if operation.method == "GET":
        reached = world.ada.request(operation.method, operation.path, params={name: value})
        assert reached.status_code == 200, reached.text


def _has_scope(who: str, operation: Operation) -> bool:
    """Tell whether the credential may use the operation on what is its own."""
    if operation.id in {"CreateGroup", "CreateSite"}:
        return False
    scopes = set(operation.needs)
    if who == "site":
        return bool(scopes) and scopes <= set(SITE_SCOPES)
    group = {scope.value for scope in GROUP_SCOPES} | ({"sessions:read", "sessions:write"} if who == "bob" else set())
    return bool(scopes) and scopes <= group


# What a page's address may name that belongs to somebody; `id` is of what the path says.
NAMES = {"id", "device", "group", "site", "user_id", "session_id"}
NAMING = [(page, name) for page in all_pages() for name in page.parameters if name in NAMES]


@pytest.mark.parametrize(
    ("page", "name"), NAMING, ids=[f"{page.method}-{page.path.split(':')[0]}-{name}" for page, name in NAMING]
)
def test_what_belongs_to_others_has_no_page(
    world: World, strange_ids: dict[str, str], page: PageRoute, name: str
) -> None:
    """The same for every page, with each thing that its address may name; an administrator finds it there."""
    kind = page.path.split("/")[1] if name == "id" else name.removesuffix("_id")
    value = {**strange_ids, "user_id": people.user_id(world.ada, "ada"), "visit_id": "unknown"}[f"{kind}_id"]
    address, body = page.address(name, value), {"name": "stolen"} if page.method == "POST" else None
    answer = world.bob.request(page.method, address, data=body)
    may = page.need in GROUP_SCOPES or page.need is Right.PERSON
    assert answer.status_code == (404 if may else 403), people.words(answer.text)
    for secret in ("far-device", "stolen", strange_ids["key_id"], strange_ids["session_id"]):
        assert secret not in answer.text
    if page.method == "GET" and page.path != "/visit":
        assert world.ada.get(address).status_code == 200


def test_nothing_of_others_was_touched(world: World) -> None:
    """After all of that, nothing of the other group was changed, taken or removed."""
    device = world.ada.get("/api/v1/devices/far-device").json()
    assert (device["name"], device["group_id"], device["last_seen_at"]) == ("", "far", None)
    assert world.ada.get("/api/v1/groups/far").json()["name"] == "Far"
    assert world.ada.get("/api/v1/sites/other").json()["name"] == "other"
    assert world.ada.get("/account/devices").status_code == 200
    assert world.with_key(world.far).get("/api/v1/devices").status_code == 200


def test_the_owner_finds_it(world: World, strange_ids: dict[str, str]) -> None:
    """The control: with the key of the other group, what was not there is."""
    for operation in OPERATIONS:
        if operation.method == "GET" and operation.parameters and operation.needs[0] in set(GROUP_SCOPES):
            assert ask(world.with_key(world.far), operation, strange_ids).status_code == 200, operation.id


OF_NEAR = {("near", None), (None, "near-device")}
"""Group and device of the keys that the group's may see, whoever has made some before."""


def test_lists_show_what_is_in_reach(world: World) -> None:
    """One's own group's devices, keys and group; one's own device; one's own site."""

    def shown(secret: str, path: str) -> set[str]:
        answer = world.with_key(secret).get(f"/api/v1/{path}").json()
        (items,) = [value for value in answer.values() if isinstance(value, list)]
        return {str(item["id"]) for item in items}

    keys = {"near": world.key_id("near"), "near device": world.key_id("near device")}
    assert shown(world.near, "devices") == {"near-device"}
    assert shown(world.near, "devices?group_id=far") == set()
    assert shown(world.near, "groups") == {"near"}
    everybodys = world.ada.get("/api/v1/keys?limit=1000").json()["keys"]
    of_near = {str(key["id"]) for key in everybodys if (key["group_id"], key["device_id"]) in OF_NEAR}
    assert set(keys.values()) <= of_near < {str(key["id"]) for key in everybodys}
    assert shown(world.near, "keys") == of_near
    assert shown(world.near, "keys?group_id=far") == set()
    assert shown(world.near_device, "devices") == {"near-device"}
    assert shown(world.near_device, "devices?search=far") == set()
    assert shown(world.near_device, "groups") == set()
    assert shown(world.near_device, "keys") == {keys["near device"]}
    assert shown(world.near_device, "keys?device_id=far-device") == set()
    assert shown(world.site, "sites") == {"default"}
    assert shown(world.root, "groups") >= {"near", "far"}


def test_nobody_gives_more_than_they_have(world: World) -> None:
    """A key with few scopes, or within a group, makes none with more, and rotates none into its hands."""
    few = world.with_key(world.key("few", scopes={Scope.KEYS_WRITE, Scope.DEVICES_READ}))
    assert few.post("/api/v1/keys", json={"name": "same", "scopes": ["devices:read"]}).status_code == 201
    for path, body in (
        ("keys", {"name": "more", "scopes": ["devices:write"]}),
        (f"keys/{world.key_id('root')}/rotate", {}),
    ):
        assert problem_of(few.post(f"/api/v1/{path}", json=body))["code"] == "scope_missing"
    near = world.with_key(world.near)
    for limits, status in (
        ({"scopes": []}, 403),
        ({"group_id": "far"}, 404),
        ({"device_id": "far-device"}, 404),
        ({"group_id": "near"}, 201),
    ):
        assert near.post("/api/v1/keys", json={"name": "another", **limits}).status_code == status, limits
    for group_id in ("far", None):
        assert near.patch("/api/v1/devices/near-device", json={"group_id": group_id}).status_code == 404
    device = world.with_key(world.near_device)
    assert device.patch("/api/v1/devices/near-device", json={"group_id": "far"}).status_code == 403
    answer = world.bob.post("/api/v1/keys", json={"name": "another", "scopes": ["sessions:read"], "group_id": "near"})
    assert answer.status_code == 403


def test_a_member_of_a_group_has_no_other_pages(world: World) -> None:
    """The clients, the users and the trail are not theirs; their own devices and password are."""
    assert world.bob.get("/").headers["location"] == "/devices"
    for path in ("/rows", "/users", "/audit", "/metrics", "/health/activity"):
        assert world.bob.get(path, headers={"x-forwarded-for": "192.0.2.1"}).status_code == 403, path
    for path in ("/account/devices", "/account/password"):
        assert world.bob.get(path).status_code == 200, path


# The guard itself, with an application of two routes.


@get("/closed", needs=Scope.DEVICES_READ, sync_to_thread=False)
def closed() -> str:
    """Need a scope."""
    return "inside"


@get("/forgotten", sync_to_thread=False)
def forgotten() -> str:
    """Say not what it needs."""
    return "inside"


def app_of(*routes: Any, **options: Any) -> Litestar:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Litestar(list(routes), openapi_config=None, logging_config=None, **options)


async def get_status(app: Litestar, path: str) -> int:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(path)).status_code


@pytest.mark.parametrize("path", ["/closed", "/forgotten"])
def test_a_route_is_closed_to_strangers_and_one_that_declares_nothing_to_everybody(path: str) -> None:
    """The negative control: the same application without the guard lets everybody in."""
    assert not STRANGER.may(Scope.DEVICES_READ)
    assert STRANGER.may(Right.PUBLIC)
    assert asyncio.run(get_status(app_of(closed, forgotten, guards=[require_right]), path)) == 403
    assert asyncio.run(get_status(app_of(closed, forgotten), path)) == 200


def test_a_server_with_an_undeclared_route_does_not_start() -> None:
    """The message names the route; without it there is nothing to say."""
    with pytest.raises(ConfigurationError, match="/forgotten"):
        check_declared(app_of(closed, forgotten))
    check_declared(app_of(closed))
