"""An application behind each adapter, with keys and devices of every kind; it echoes the body and names the key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import re_path
from fastapi import Depends, FastAPI, Request, Response

from lastseen import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import ApiKey, Secret
from lastseen.devices.store import KeyQuery
from lastseen.web.keys import asgi, wsgi
from lastseen.web.keys import django as keys_django
from lastseen.web.keys.fastapi import RequiredKey
from tests.web.cases import Case
from tests.web.drivers import Answer, request_asgi, request_wsgi


class World:
    """One database: two groups, three devices that were never seen, and keys that were never used."""

    def __init__(self, source: str = "memory:", **options: Any) -> None:
        self.seen = LastSeen.open(source, migrate=True, **options)
        self.secrets: dict[str, Secret] = {}
        self.ids: dict[str, str] = {}
        devices = self.seen.devices
        for group_id in ("vans", "tills"):
            devices.create_group(group_id, group_id=group_id)
        for device_id, group in {"van-1": "vans", "till-1": "tills", "loose-1": None}.items():
            devices.register(device_id, group_id=group, by_device=False)
        self.make("any", scopes=["activity:write"])
        self.make("of vans", group_id="vans")
        self.make("of till-1", device_id="till-1")
        self.make("of a site", site_id="blog")
        self.make("revoked")
        self.seen.keys.revoke(self.ids["revoked"])
        self.make("rotated")
        self.seen.keys.rotate(self.ids["rotated"], overlap=timedelta(0))

    def make(self, name: str, **options: Any) -> None:
        """Make a key."""
        key, self.secrets[name] = self.seen.keys.create(name, **options)
        self.ids[name] = key.id

    def bearer(self, name: str) -> dict[str, str]:
        """Return the header of a request with this key."""
        return {"Authorization": f"Bearer {self.secrets[name].reveal()}"}

    def times(self) -> dict[str, datetime | None]:
        """Return when each device was last seen and each key last used, after everything was written."""
        self.seen.devices.flush()
        self.seen.keys.flush()
        found = {device.id: device.last_seen_at for device in self.seen.devices.list()}
        return {**found, **{key.name: key.last_used_at for key in self.seen.store.devices.list_keys(KeyQuery())}}

    def touched(self) -> set[str]:
        """Return which devices were seen and which keys were used so far."""
        return {name for name, at in self.times().items() if at is not None}


def _named(key: ApiKey | None) -> dict[str, str]:
    return {} if key is None else {"X-Key": key.name}


# The applications


async def app_asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body, without any other name than the key's."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(name.lower().encode(), value.encode()) for name, value in _named(asgi.current_key(scope)).items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def app_wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """As above."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", list(_named(wsgi.current_key(environ)).items()))
    return [body]


def view(request: HttpRequest) -> HttpResponse:
    """As above."""
    return HttpResponse(request.read(), headers=_named(keys_django.current_key(request)))


urlpatterns = [re_path("", view)]


@contextmanager
def django_project(world: World, **options: Any) -> Iterator[None]:
    """Configure Django with the middleware of keys."""
    with override_settings(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["lastseen.web.keys.django.ApiKeyMiddleware"],
        LASTSEEN_KEYS={"LASTSEEN": world.seen, **{key.upper(): value for key, value in options.items()}},
    ):
        yield


def app_fastapi(world: World, **options: Any) -> FastAPI:
    """Build an application whose routes depend on a key, but for its health check."""
    app = FastAPI()
    required = RequiredKey(world.seen.keys, world.seen.devices, **options)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/{anything:path}")
    async def echo(request: Request, key: ApiKey = Depends(required)) -> Response:  # noqa: B008 - FastAPI's own way
        return Response(await request.body(), headers=_named(key))

    return app


# The drivers: (world, case, options of the middleware) -> the answer

Driver = Callable[..., Answer]


def drive_asgi(world: World, case: Case, **options: Any) -> Answer:
    """Serve the case with a bare ASGI application."""
    app = asgi.ApiKeyMiddleware(app_asgi, world.seen.keys, world.seen.devices, **options)
    return asyncio.run(request_asgi(app, case))


def drive_wsgi(world: World, case: Case, **options: Any) -> Answer:
    """Serve the case with a bare WSGI application."""
    return request_wsgi(wsgi.ApiKeyMiddleware(app_wsgi, world.seen.keys, world.seen.devices, **options), case)


def drive_django_wsgi(world: World, case: Case, **options: Any) -> Answer:
    """Serve the case with Django's synchronous handler."""
    with django_project(world, **options):
        return request_wsgi(WSGIHandler(), case)


def drive_django_asgi(world: World, case: Case, **options: Any) -> Answer:
    """Serve the case with Django's asynchronous handler."""
    with django_project(world, **options):
        return asyncio.run(request_asgi(ASGIHandler(), case))


def drive_fastapi(world: World, case: Case, **options: Any) -> Answer:
    """Serve the case with FastAPI and its dependency, which always requires a key."""
    options.pop("require", None)
    return asyncio.run(request_asgi(app_fastapi(world, **options), case))


DRIVERS: dict[str, Driver] = {
    "asgi": drive_asgi,
    "wsgi": drive_wsgi,
    "django-wsgi": drive_django_wsgi,
    "django-asgi": drive_django_asgi,
    "fastapi": drive_fastapi,
}


def now() -> datetime:
    """Return this moment."""
    return utc(SYSTEM_CLOCK.now())
