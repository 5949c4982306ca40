"""What a request with an API key leaves behind, and what one without a valid key does not; in every framework."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lastseen.devices.key import new_secret
from lastseen.devices.manager import ApiKeys
from lastseen.errors import ConfigurationError
from lastseen.stores import open_store
from lastseen.web.keys import asgi, wsgi
from lastseen.web.keys import django as keys_django
from lastseen.web.keys.asgi import credentials_in
from lastseen.web.keys.gate import secret_of
from tests.web.cases import Case
from tests.web.drivers import request_asgi, request_wsgi
from tests.web.keys.apps.source import DEVICE
from tests.web.keys.world import (
    DRIVERS,
    Driver,
    World,
    app_asgi,
    app_fastapi,
    app_wsgi,
    django_project,
    drive_asgi,
)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.seen.close()


@pytest.fixture(params=DRIVERS)
def drive(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


def report(headers: dict[str, str], *, device: str | None = None, path: str = "/report") -> Case:
    """Return an upload; the device in its body."""
    body = {"latitude": 1.5} | ({} if device is None else {"device_id": device})
    return Case(name="report", expected=None, path=path, body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(
    "told",
    [
        ("any", {}, "/report", None, set()),
        ("any", {"X-Device-ID": "van-1"}, "/report", None, {"van-1"}),
        ("any", {}, "/devices/van-1/location", None, {"van-1"}),
        ("any", {}, "/report", "loose-1", {"loose-1"}),
        ("any", {"X-Device-ID": "van-1"}, "/report", "loose-1", {"van-1"}),
        ("any", {"X-Device-ID": "nobody"}, "/report", None, set()),
        ("any", {"X-Device-ID": "x" * 300}, "/report", None, set()),
        ("of vans", {}, "/report", "van-1", {"van-1"}),
        ("of vans", {}, "/report", "till-1", set()),
        ("of vans", {}, "/report", "loose-1", set()),
        ("of vans", {"X-Device-ID": "till-1"}, "/report", None, set()),
        ("of till-1", {}, "/report", None, {"till-1"}),
        ("of till-1", {"X-Device-ID": "van-1"}, "/devices/van-1/location", "van-1", {"till-1"}),
        ("of a site", {"X-Device-ID": "van-1"}, "/report", "van-1", set()),
    ],
)
def test_the_key_and_the_device_it_may_speak_for_are_noted(
    drive: Driver, world: World, told: tuple[str, dict[str, str], str, str | None, set[str]]
) -> None:
    """The key's own device, or the one that the request names, unless another group's; the answer stays as it is."""
    key, headers, path, body, expected = told
    case = report({**world.bearer(key), **headers}, device=body, path=path)
    answer = drive(world, case, device=DEVICE)
    assert (answer.status, answer.body, answer.headers["x-key"]) == (200, case.body, key)
    assert world.touched() == {key} | expected


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key"])
def test_the_other_header(drive: Driver, world: World, name: str) -> None:
    """A key may come in a header of its own."""
    assert drive(world, report({name: world.secrets["any"].reveal()})).headers["x-key"] == "any"
    assert world.touched() == {"any"}


def test_nothing_is_noted_without_a_valid_key(drive: Driver, world: World) -> None:
    """Anonymous, unknown, wrong, malformed, somebody else's, revoked, rotated away: every time stays as it was."""
    right = world.secrets["any"].reveal()
    wrong = right[:-1] + ("A" if right[-1] != "A" else "B")
    attempts: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer {new_secret().reveal()}"},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Basic {right}"},
        {"Authorization": right},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer eyJhbGciOi"},
        {"Authorization": f"Bearer {right}\t{right}"},
        {"Authorization": "Bearer ls_" + "x" * 100_000},
        {"X-API-Key": right.upper()},
        {"X-API-Key": "ls_ümläut"},
        {"X-API-Key": new_secret().reveal(), "Authorization": f"Bearer {right}"},
        world.bearer("revoked"),
        world.bearer("rotated"),
    ]
    for headers in attempts:
        case = report({**headers, "X-Device-ID": "van-1"}, device="van-1")
        assert drive(world, case, require=True).status in {400, 401}, headers
        assert world.touched() == set(), headers
    assert drive(world, report({**world.bearer("any"), "X-Device-ID": "van-1"}), require=True).status == 200
    assert world.touched() == {"any", "van-1"}


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_repeated_credential_is_none(world: World, name: bytes) -> None:
    """Neither the first nor the last of two counts: another one of them may have been looked at before."""
    good = world.secrets["any"].reveal().encode()
    prefix = b"Bearer " if name == b"authorization" else b""
    for first, last in ((good, b"ls_other"), (b"ls_other", good)):
        authorization, api_key = credentials_in({"headers": [(name, prefix + first), (name, prefix + last)]})
        secret = secret_of(authorization, api_key)
        assert isinstance(secret, str)
        assert world.seen.keys.verify(secret) is None
    control = secret_of(*credentials_in({"headers": [(name, prefix + good)]}))
    assert isinstance(control, str)
    assert world.seen.keys.verify(control) is not None


def test_health_checks_note_nothing(drive: Driver, world: World) -> None:
    """Not even with a valid key; any other path does (the control)."""
    headers = {**world.bearer("any"), "X-Device-ID": "van-1"}
    case = Case(name="health", expected=None, method="GET", path="/health", headers=headers, content_type=None)
    answer = drive(world, case, require=True)
    assert answer.status == 200
    assert "x-key" not in answer.headers
    assert world.touched() == set()
    drive(world, report(headers), require=True)
    assert world.touched() == {"any", "van-1"}


@pytest.mark.parametrize("path", ["/health-records", "/health/patients", "/healthcare", "/metrics/revenue"])
@pytest.mark.parametrize("driver", [name for name in DRIVERS if name != "fastapi"])
def test_what_only_begins_like_a_health_check_is_guarded(driver: str, world: World, path: str) -> None:
    """The paths that stand open are probes by their whole names; whatever else an application has needs a key."""
    case = Case(name="data", expected=None, method="GET", path=path, content_type=None)
    assert DRIVERS[driver](world, case, require=True).status == 401
    assert DRIVERS[driver](world, case, require=True, exclude=["/health*", "/metrics/*"]).status != 401


@pytest.mark.parametrize("driver", [name for name in DRIVERS if name != "fastapi"])
def test_without_require_the_application_decides(driver: str, world: World) -> None:
    """A request without a valid key goes on, as nobody's."""
    for headers in ({}, world.bearer("revoked")):
        answer = DRIVERS[driver](world, report({**headers, "X-Device-ID": "van-1"}))
        assert answer.status == 200
        assert "x-key" not in answer.headers
    assert world.touched() == set()


def test_a_missing_scope_is_refused(drive: Driver, world: World) -> None:
    """403 says which; the key was used all the same, the device not seen."""
    case = report({**world.bearer("any"), "X-Device-ID": "van-1"})
    refused = drive(world, case, scopes=["activity:write", "devices:read"])
    assert refused.status == 403
    assert b"devices:read" in refused.body
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="devices:read"'
    assert world.touched() == {"any"}
    assert drive(world, case, scopes=["activity:write"]).status == 200
    assert world.touched() == {"any", "van-1"}


def test_a_refusal_tells_programs_what_to_do(drive: Driver, world: World) -> None:
    """401 asks for a key in the words of RFC 6750, and calls one that was sent invalid."""
    nothing = drive(world, report({}), require=True)
    invalid = drive(world, report(world.bearer("revoked")), require=True)
    assert (nothing.status, nothing.headers["www-authenticate"]) == (401, "Bearer")
    assert (invalid.status, invalid.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_a_store_that_does_not_answer_is_no_invalid_key(drive: Driver, tmp_path: Path) -> None:
    """503, so that nobody throws a good key away."""
    world = World(f"sqlite:///{tmp_path}/a.db")
    assert drive(world, report(world.bearer("any")), require=True).status == 200
    world.seen.keys.flush()
    broken = open_store(f"sqlite:///{tmp_path}/without-tables.db")
    broken.pending_migrations()
    world.seen._keys[0] = ApiKeys(broken.devices)
    refused = drive(world, report(world.bearer("any")), require=True)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    world.seen.close()
    broken.close()


def test_tracking_that_fails_fails_no_request(drive: Driver, world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A source that raises is logged, once, without any secret."""

    def failing(facts: Any) -> str:
        raise LookupError("no idea")

    for _ in range(2):
        assert drive(world, report(world.bearer("any")), device=failing).status == 200
    assert world.touched() == {"any"}
    assert "could not be tracked" in caplog.text
    assert world.secrets["any"].reveal() not in caplog.text


def test_the_store_may_fail_behind_a_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written waits and is logged; requests go on with what is remembered."""
    from datetime import timedelta

    world = World(f"sqlite:///{tmp_path}/a.db", key_cache=timedelta(seconds=5))
    case = report({**world.bearer("any"), "X-Device-ID": "van-1"})
    app = asgi.ApiKeyMiddleware(app_asgi, world.seen.keys, world.seen.devices)
    assert asyncio.run(request_asgi(app, case)).status == 200
    world.times()
    with world.seen.store._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute("ALTER TABLE lastseen_devices RENAME TO gone")
        connection.execute("ALTER TABLE lastseen_api_keys RENAME TO gone_too")
    with caplog.at_level(logging.ERROR):
        assert asyncio.run(request_asgi(app, case)).status == 200
        assert world.seen.close() == 2
    assert "failed to flush" in caplog.text
    assert world.secrets["any"].reveal() not in caplog.text


@pytest.mark.parametrize("option", [{"exclude": "/health"}, {"scopes": "devices:read"}, {"scopes": ["nonsense"]}])
def test_wrong_options_are_refused_at_once(world: World, option: dict[str, Any]) -> None:
    """Before any request."""
    with pytest.raises(ConfigurationError):
        asgi.ApiKeyMiddleware(app_asgi, world.seen.keys, **option)


def test_django_knows_its_setting(world: World) -> None:
    """A key that there is not is named."""
    with django_project(world, nonsense=1), pytest.raises(ConfigurationError, match="NONSENSE"):
        keys_django.ApiKeyMiddleware(lambda request: None)


def test_without_the_middleware_nobody_knows_the_key() -> None:
    """It is an error of the application, not an anonymous request."""
    from django.http import HttpRequest

    with pytest.raises(ConfigurationError):
        asgi.current_key({})
    with pytest.raises(ConfigurationError):
        wsgi.current_key({})
    with pytest.raises(ConfigurationError):
        keys_django.current_key(HttpRequest())


def test_devices_need_not_be_tracked(world: World) -> None:
    """Without devices the middleware notes the keys alone."""
    case = report({**world.bearer("of till-1"), "X-Device-ID": "van-1"})
    asyncio.run(request_asgi(asgi.ApiKeyMiddleware(app_asgi, world.seen.keys), case))
    request_wsgi(wsgi.ApiKeyMiddleware(app_wsgi, world.seen.keys), case)
    with django_project(world, devices=False):
        from django.core.handlers.wsgi import WSGIHandler

        request_wsgi(WSGIHandler(), case)
    assert world.touched() == {"of till-1"}


def test_a_websocket_without_a_key_is_closed(world: World) -> None:
    """Before it is accepted; with a key it goes on."""
    sent: list[Any] = []
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(asgi.current_key(scope))

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/live", "headers": []}
    middleware = asgi.ApiKeyMiddleware(app, world.seen.keys, world.seen.devices, require=True)
    asyncio.run(middleware(dict(scope), receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "key_required"}]
    assert reached == []
    headers = [(b"authorization", f"Bearer {world.secrets['of till-1'].reveal()}".encode())]
    asyncio.run(middleware({**scope, "headers": headers}, receive, send))
    assert [key.name for key in reached] == ["of till-1"]
    assert world.touched() == {"of till-1", "till-1"}


def test_what_waits_is_saved_at_the_shutdown_of_a_server(world: World) -> None:
    """Keys and devices, before the application's own shutdown ends."""
    app = asgi.ApiKeyMiddleware(app_fastapi(world), world.seen.keys, world.seen.devices)
    sent: list[Any] = []
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    world.seen.keys.record_used(world.ids["any"])
    world.seen.devices.record_seen("van-1")
    asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    key = world.seen.store.devices.get_key(world.ids["any"])
    device = world.seen.store.devices.get_device("van-1")
    assert key is not None
    assert device is not None
    assert key.last_used_at is not None
    assert device.last_seen_at is not None


def test_fastapi_describes_the_key(world: World) -> None:
    """The OpenAPI document says which routes need one."""
    document = app_fastapi(world).openapi()
    assert document["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
    assert document["paths"]["/{anything}"]["post"]["security"] == [{"API key": []}]
    assert "security" not in document["paths"]["/health"]["get"]


def test_a_member_of_another_scope_is_not_confused(world: World) -> None:
    """A mounted application sees the path below its root, also where paths are excluded."""
    app = asgi.ApiKeyMiddleware(app_asgi, world.seen.keys, world.seen.devices, device=DEVICE)
    case = report(world.bearer("any"), path="/api/devices/van-1/location")
    asyncio.run(request_asgi(app, case, scope={"root_path": "/api"}))
    assert world.touched() == {"any", "van-1"}
    assert drive_asgi(world, report(world.bearer("of vans"))).status == 200
