"""The client is who is logged in: nobody, and a failed login, record nothing."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
    requires,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lastseen import LastSeen
from lastseen.activity.identify import first_of, header, principal
from lastseen.web import asgi, wsgi
from tests.web.cases import Case
from tests.web.drivers import request_asgi, request_wsgi
from tests.web.running import Server, running


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:") as opened:
        yield opened


def ids(seen: LastSeen) -> set[str]:
    return {client.client_id for client in seen.clients.list()}


def asking(token: str = "", path: str = "/") -> Case:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Case(name="", expected=None, method="GET", content_type=None, path=path, headers=headers)


class Tokens(AuthenticationBackend):
    """Who presents a name is that user; `wrong` fails."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        token = conn.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "wrong":
            raise AuthenticationError("no")
        return (AuthCredentials(["in"]), SimpleUser(token)) if token else None


async def hello(request: StarletteRequest) -> Response:
    return PlainTextResponse("hello")


def refuse(conn: HTTPConnection, error: Exception) -> Response:
    return PlainTextResponse("no", status_code=401)


starlette_app = Starlette(
    routes=[Route("/", hello), Route("/members", requires("in", status_code=401)(hello))],
    middleware=[Middleware(AuthenticationMiddleware, backend=Tokens(), on_error=refuse)],
)


class LitestarTokens(AbstractAuthenticationMiddleware):
    """The same for Litestar."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        token = connection.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "wrong" or (not token and connection.url.path == "/members"):
            raise NotAuthorizedException
        return AuthenticationResult(user=SimpleNamespace(id=token) if token else None, auth=None)


@get(["/", "/members"])
async def litestar_hello(request: Request[Any, Any, Any]) -> str:
    return "hello"


litestar_app = Litestar([litestar_hello], middleware=[LitestarTokens])


@pytest.mark.parametrize("app", [starlette_app, litestar_app], ids=["starlette", "litestar"])
@pytest.mark.parametrize(
    ("case", "status", "expected"),
    [
        (asking("ann"), 200, {"ann"}),
        (asking("ann", "/members"), 200, {"ann"}),
        (asking("ann", "/health"), 404, set()),
        (asking(), 200, set()),
        (asking(path="/members"), 401, set()),
        (asking("wrong"), 401, set()),
    ],
)
def test_asgi_user(app: Any, case: Case, status: int, expected: set[str], seen: LastSeen) -> None:
    """The scope's user, as the framework's own authentication sets it."""
    wrapped = asgi.ActivityMiddleware(app, seen.clients, source=principal())
    answer = asyncio.run(request_asgi(wrapped, case))
    assert answer == asyncio.run(request_asgi(app, case))
    assert (answer.status, ids(seen)) == (status, expected)


async def names_and_refuses(scope: Any, receive: Any, send: Any) -> None:
    """Set a user in the state and answer 401 all the same."""
    scope["state"] = {"user": "ann"}
    status = 401 if scope["path"] == "/refused" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_401_records_no_principal(seen: LastSeen) -> None:
    """A user named beside an answer of 401 failed to authenticate; other sources do not mind."""
    app = asgi.ActivityMiddleware(names_and_refuses, seen.clients, source=first_of(principal(), header()))
    asyncio.run(request_asgi(app, asking(path="/refused")))
    assert ids(seen) == set()
    asyncio.run(request_asgi(app, asking()))
    assert ids(seen) == {"ann"}


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """HTTP Basic: sets REMOTE_USER when it knows who it is, and answers 401 when that is wrong."""
    name, _, password = base64.b64decode(environ.get("HTTP_AUTHORIZATION", "")).decode().partition(":")
    if name:
        environ["REMOTE_USER"] = name
    start_response("401 No" if name and password != "right" else "200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize(
    ("authorization", "status", "expected"), [("ann:right", 200, {"ann"}), ("ann:wrong", 401, set()), ("", 200, set())]
)
def test_wsgi_remote_user(authorization: str, status: int, expected: set[str], seen: LastSeen) -> None:
    """`REMOTE_USER`, whoever set it."""
    app = wsgi.ActivityMiddleware(wsgi_app, seen.clients, source=principal())
    answer = request_wsgi(app, asking(), HTTP_AUTHORIZATION=base64.b64encode(authorization.encode()).decode())
    assert (answer.status, ids(seen)) == (status, expected)


def make_user_tables(file: Path) -> None:
    """Create Django's own tables with two users: ann (1) and bob (2), both with the password `right`."""
    script = (
        "from tests.web.apps import django_project\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\n"
        "from django.contrib.auth.models import User\n"
        "for name in ('ann', 'bob'): User.objects.create_user(name, password='right')\n"
    )
    environ = {**os.environ, "APP_DATABASE": str(file), "LASTSEEN_DATABASE_URL": "memory:"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, cwd=Path(__file__).parents[2])


def ask(server: Server, target: str, cookie: str = "") -> tuple[int, str, Message]:
    """Return status, body and headers."""
    connection = server.connect()
    try:
        connection.request("GET", target, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


@pytest.fixture(scope="module")
def user_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "app.db"
    make_user_tables(file)
    return file


@pytest.mark.parametrize(
    ("server", "application", "login"),
    [("gunicorn", "wsgi_application", "/login"), ("uvicorn", "asgi_application", "/alogin")],
    ids=["wsgi", "asgi"],
)
def test_django_users(server: str, application: str, login: str, user_tables: Path, tmp_path: Path) -> None:
    """The logged in user's primary key; a view that never asks for the user is tracked, an anonymous one is not."""
    app = f"tests.web.apps.django_project:{application}"
    environ = {"APP_DATABASE": str(user_tables), "APP_SOURCE": "tests.web.apps.django_project.logged_in_user"}
    with running(server, app, tmp_path, **environ) as web:
        status, _, headers = ask(web, "/anyone")
        assert (status, "Vary" in headers, "Set-Cookie" in headers) == (200, False, False)
        assert ask(web, f"{login}?name=ann&password=wrong")[0] == 401
        assert ask(web, "/anyone", "sessionid=made-up")[:2] == (200, "hello")
        cookies = [ask(web, f"{login}?name={name}&password=right")[2]["Set-Cookie"] for name in ("ann", "bob")]
        web.stop()
    connection = sqlite3.connect(tmp_path / "lastseen.db")
    times = dict(connection.execute("SELECT client_id, last_seen FROM client_activity"))
    assert set(times) == {"1", "2"}

    with running(server, app, tmp_path, **environ) as web:
        assert ask(web, "/anyone?status=401", cookies[0])[0] == 401
        status, body, headers = ask(web, "/anyone", cookies[1])
        assert (status, body, "Vary" in headers) == (200, "hello", False)
        web.stop()
    later = dict(connection.execute("SELECT client_id, last_seen FROM client_activity"))
    connection.close()
    assert later["1"] == times["1"]
    assert later["2"] > times["2"]
