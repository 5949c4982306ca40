"""A location report in real applications behind real servers: a device is seen through it and through nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastseen.devices.key import new_secret
from tests.web.keys.world import World, now
from tests.web.running import Server, running

APPS = "tests.web.keys.apps"
STACKS = {
    "starlette-granian": ("granian", f"{APPS}.starlette_app:app"),
    "fastapi-uvicorn": ("uvicorn", f"{APPS}.fastapi_app:app"),
    "flask-gunicorn": ("gunicorn", f"{APPS}.flask_app:app"),
    "django-gunicorn": ("gunicorn", f"{APPS}.django_project:wsgi_application"),
    "django-uvicorn": ("uvicorn", f"{APPS}.django_project:asgi_application"),
}
POSITION = {"latitude": 48.1, "longitude": 11.6}


def ask(web: Server, method: str, path: str, headers: dict[str, str], **body: Any) -> tuple[int, bytes]:
    """Send one request; the status and the body of its answer."""
    connection = web.connect()
    try:
        sent = json.dumps(POSITION | body).encode() if method == "POST" else None
        connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask_in_vain(web: Server, world: World, device: str) -> None:
    """Name the device in every place, with no key, with wrong ones, and with good ones at a health check."""
    right = world.secrets["any"].reveal()
    wrong = f"{right[:12]}{new_secret().reveal()[12:]}"
    named = {"X-Device-ID": device}
    for headers in (
        {},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Bearer {new_secret().reveal()}"},
        {"X-API-Key": "ls_"},
        world.bearer("revoked"),
        world.bearer("rotated"),
    ):
        for path in ("/locations", f"/devices/{device}/location"):
            assert ask(web, "POST", path, named | headers, device_id=device)[0] == 401, headers
    for method, path, headers in (
        ("POST", "/anyone", {}),
        ("GET", "/health", {}),
        ("GET", "/health", world.bearer("any")),
        ("GET", "/health", world.bearer("of till-1")),
    ):
        assert ask(web, method, path, named | headers, device_id=device)[0] == 200, path


@pytest.mark.parametrize(("server", "app"), STACKS.values(), ids=STACKS.keys())
def test_a_device_is_seen_through_its_upload(server: str, app: str, tmp_path: Path) -> None:
    """By the path, by the body, by its own key; never by what came without a valid key, or for a health check."""
    world = World(f"sqlite:///{tmp_path / 'lastseen.db'}")
    with running(server, app, tmp_path) as web:
        ask_in_vain(web, world, "van-1")
        began = now()
        for path, key, body in (
            ("/devices/loose-1/location", "any", {}),
            ("/locations", "of till-1", {}),
            ("/locations", "of vans", {"device_id": "till-1"}),
        ):
            status, answer = ask(web, "POST", path, world.bearer(key), **body)
            assert (status, json.loads(answer)) == (200, [key, POSITION | body])
        ended = now()
        ask_in_vain(web, world, "loose-1")
        log = web.stop()
    times = world.times()
    world.seen.close()
    assert "Traceback" not in log
    touched = {name: at for name, at in times.items() if at is not None}
    assert touched.keys() == {"any", "loose-1", "of till-1", "till-1", "of vans"}
    assert all(began <= at <= ended for at in touched.values())
