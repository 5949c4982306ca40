"""Every stack, with a fresh application for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lastseen.web.sessions import asgi, wsgi
from tests.web.sessions.apps import fastapi_app, flask_app, litestar_app, starlette_app
from tests.web.sessions.browser import Browser
from tests.web.sessions.django_setup import django_project
from tests.web.sessions.serving import Switch, asgi_server, wsgi_server
from tests.web.sessions.world import World

ASGI_APPS = {"starlette": starlette_app, "fastapi": fastapi_app, "litestar": litestar_app}
STACKS = [*ASGI_APPS, "django-asgi", "django-wsgi", "flask"]


@pytest.fixture(scope="session")
def asgi_switch() -> Iterator[Switch]:
    with asgi_server() as switch:
        yield switch


@pytest.fixture(scope="session")
def wsgi_switch() -> Iterator[Switch]:
    with wsgi_server() as switch:
        yield switch


@pytest.fixture(scope="session")
def django_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Django's tables, made once."""
    database = tmp_path_factory.mktemp("django") / "template.sqlite3"
    with django_project(World(), database):
        pass
    return database


class Stack:
    """One framework's application, being served."""

    def __init__(self, name: str, serve: Callable[..., int]) -> None:
        self.name = name
        self._serve = serve
        self.world = World()

    def serve(self, world: World | None = None, **gate: Any) -> World:
        """Serve a new application for this world; `twice` puts the middleware around it twice."""
        self.world = World() if world is None else world
        self.port = self._serve(self.world, **gate)
        return self.world

    def browser(self) -> Browser:
        """Open another browser."""
        return Browser(self.port)


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """Return each framework in turn."""
    name: str = request.param
    with ExitStack() as opened:

        def serve(world: World, *, twice: bool = False, **gate: Any) -> int:
            if name.startswith("django"):
                database = tmp_path / "django.sqlite3"
                shutil.copy(request.getfixturevalue("django_database"), database)
                django_app = opened.enter_context(django_project(world, database, twice=twice, **gate))
                app = django_app.build_asgi(world) if name == "django-asgi" else django_app.build_wsgi(world)
            else:
                app = ASGI_APPS[name].build(world, **gate) if name in ASGI_APPS else flask_app.build(world, **gate)
            kind = "wsgi" if name in {"django-wsgi", "flask"} else "asgi"
            switch: Switch = request.getfixturevalue(f"{kind}_switch")
            if twice and not name.startswith("django"):
                app = (wsgi if kind == "wsgi" else asgi).SessionMiddleware(app, world.sessions)
            switch.app = app
            return switch.port

        yield Stack(name, serve)


@pytest.fixture
def served(stack: Stack) -> Stack:
    """Return each framework, serving the usual application."""
    stack.serve()
    return stack


@pytest.fixture
def browser(served: Stack) -> Browser:
    """Return a browser at each framework in turn."""
    return served.browser()


@pytest.fixture
def world(served: Stack) -> World:
    """Return the surroundings of the application that `browser` looks at."""
    return served.world
