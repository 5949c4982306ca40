"""Django: settings, users that are only fetched when there may be one, bodies within Django's own limit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from lastseen import ConfigurationError, LastSeen
from lastseen.activity.identify import principal
from lastseen.web import django as adapter
from lastseen.web.django import ActivityMiddleware, lastseen
from tests.web.cases import Case
from tests.web.drivers import drive_django_asgi, drive_django_wsgi
from tests.web.running import running

shared = LastSeen.open("memory:")
"""What the dotted path in a test names."""


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:") as opened:
        yield opened


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Forget what this process opened, before and after."""
    adapter._opened.clear()
    yield
    for opened in adapter._opened.values():
        opened.close()
    adapter._opened.clear()


def ids(seen: LastSeen) -> set[str]:
    return {client.client_id for client in seen.clients.list()}


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def answer(request: HttpRequest, **options: Any) -> None:
    """Put a request through the middleware with these settings."""
    with override_settings(LASTSEEN=options):
        assert ActivityMiddleware(hello)(request).content == b"hello"


@pytest.mark.usefixtures("_fresh")
def test_database_in_the_settings() -> None:
    """The database is opened once in a process, and views can ask it."""
    settings = {"DATABASE": "memory:", "MIGRATE": True, "TRACKING": {"max_pending": 500}}
    for client in ("one", "two"):
        answer(RequestFactory().get(f"/?client_id={client}"), **settings)
    assert ids(lastseen()) == {"one", "two"}
    assert lastseen().clients.health().max_pending == 500
    assert [site.id for site in lastseen().sites.list()] == ["default"]


@pytest.mark.usefixtures("_fresh")
def test_database_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a database in the settings, the environment names it."""
    monkeypatch.setenv("LASTSEEN_DATABASE_URL", "memory:")
    monkeypatch.setenv("LASTSEEN_MAX_PENDING", "700")
    answer(RequestFactory().get("/?client_id=one"))
    assert ids(lastseen()) == {"one"}
    assert lastseen().clients.health().max_pending == 700


def test_dotted_paths() -> None:
    """Trackers, sources and predicates may be named by their dotted paths, as is usual in Django's settings."""
    answer(
        RequestFactory().get("/devices/till-7"),
        TRACKER=f"{__name__}.shared",
        SOURCE=f"{__name__}.from_path",
        SKIP=f"{__name__}.is_poll",
    )
    answer(
        RequestFactory().get("/devices/till-8?poll"),
        TRACKER=f"{__name__}.shared",
        SOURCE=f"{__name__}.from_path",
        SKIP=f"{__name__}.is_poll",
    )
    assert ids(shared) == {"till-7"}
    shared.close()


def from_path(facts: Any) -> str:
    return str(facts.path.rpartition("/")[2])


def is_poll(facts: Any) -> bool:
    return "poll" in facts.native.GET


def test_wrong_settings(seen: LastSeen) -> None:
    """A key that is no setting is refused at start, and the message names those that are."""
    for options in ({"DATABSE": "memory:"}, {"TRACKER": seen.clients, "EXCLUDE": "/x"}):
        with override_settings(LASTSEEN=options), pytest.raises(ConfigurationError):
            ActivityMiddleware(hello)


class Users:
    """A lazy user that counts how often it is fetched."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self.fetched = 0

    def fetch(self) -> Any:
        self.fetched += 1
        return self.user

    async def afetch(self) -> Any:
        return self.fetch()


ANN = SimpleNamespace(pk=7, is_authenticated=True)
NOBODY = SimpleNamespace(pk=None, is_authenticated=False)


def run_sync(request: HttpRequest, users: Users, view: Callable[[HttpRequest], HttpResponse]) -> None:
    request.user = SimpleLazyObject(users.fetch)
    ActivityMiddleware(view)(request)


def run_async(request: HttpRequest, users: Users, view: Callable[[HttpRequest], HttpResponse]) -> None:
    async def async_view(request: HttpRequest) -> HttpResponse:
        return view(request)

    request.user = SimpleLazyObject(users.fetch)
    request.auser = users.afetch
    asyncio.run(ActivityMiddleware(async_view)(request))


def set_bob(request: HttpRequest) -> HttpResponse:
    """Authenticate in the view, as Django REST framework does."""
    request.user = SimpleNamespace(pk="bob", is_authenticated=True)
    return hello(request)


def ask_user(request: HttpRequest) -> HttpResponse:
    """Look at the user in the view."""
    return HttpResponse(str(request.user.pk))


def refuse(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=401)


def broken(request: HttpRequest) -> HttpResponse:
    request.user = SimpleLazyObject(lambda: 1 / 0)
    request.auser = None
    return hello(request)


@pytest.mark.parametrize("run", [run_sync, run_async])
@pytest.mark.parametrize(
    ("user", "cookie", "view", "path", "expected", "fetched"),
    [
        (ANN, True, hello, "/", {"7"}, 1),
        (ANN, True, ask_user, "/", {"7"}, 1),
        (ANN, True, refuse, "/", set(), None),
        (ANN, True, hello, "/health", set(), 0),
        (ANN, False, hello, "/", set(), 0),
        (ANN, False, ask_user, "/", {"7"}, 1),
        (NOBODY, True, hello, "/", set(), 1),
        (ANN, False, set_bob, "/", {"bob"}, 0),
        (ANN, True, broken, "/", set(), 0),
    ],
)
def test_users_are_fetched_only_when_there_may_be_one(
    *,
    run: Callable[..., None],
    user: Any,
    cookie: bool,
    view: Any,
    path: str,
    expected: set[str],
    fetched: int | None,
    seen: LastSeen,
) -> None:
    """Without a session, on an excluded path and after a view that set the user, nobody is looked up."""
    request = RequestFactory().get(path)
    if cookie:
        request.COOKIES["sessionid"] = "x"
    users = Users(user)
    with override_settings(LASTSEEN={"TRACKER": seen.clients, "SOURCE": principal()}):
        run(request, users, view)
    assert ids(seen) == expected
    assert fetched is None or users.fetched == fetched


@pytest.mark.parametrize("drive", [drive_django_wsgi, drive_django_asgi])
def test_body_over_the_limit_of_django(drive: Any, seen: LastSeen) -> None:
    """A body that Django would refuse to load is not loaded here either: the view can still stream it."""
    body = b'{"client_id": "x", "p": "%s"}' % (b"x" * 500)
    case = Case(name="", expected=None, path="/stream", body=body, query="client_id=q")
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        assert drive(seen.clients, case).body == body
    assert ids(seen) == {"q"}
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        assert drive(seen.clients, case).body == body
    assert ids(seen) == {"q", "x"}


def test_body_of_unknown_length_that_the_view_reads(seen: LastSeen) -> None:
    """Under ASGI a body may come without its length; when the view has read it, its client is found."""

    async def reads(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)

    request = AsyncRequestFactory().post("/", data=b'{"client_id": "c"}', content_type="application/json")
    del request.META["CONTENT_LENGTH"]
    with override_settings(LASTSEEN={"TRACKER": seen.clients}):
        asyncio.run(ActivityMiddleware(reads)(request))
    assert ids(seen) == {"c"}


def test_view_that_raises(seen: LastSeen) -> None:
    """The error goes on, and the client was active all the same."""

    def raises(request: HttpRequest) -> HttpResponse:
        raise LookupError("boom")

    async def raises_async(request: HttpRequest) -> HttpResponse:
        raise LookupError("boom")

    with override_settings(LASTSEEN={"TRACKER": seen.clients}):
        request = RequestFactory().post("/", data=b'{"client_id": "a"}', content_type="application/json")
        with pytest.raises(LookupError):
            ActivityMiddleware(raises)(request)
        request = AsyncRequestFactory().post("/", data=b'{"client_id": "b"}', content_type="application/json")
        with pytest.raises(LookupError):
            asyncio.run(ActivityMiddleware(raises_async)(request))
    assert ids(seen) == {"a", "b"}


@pytest.mark.parametrize("database", ["django", "django:default"])
def test_connection_of_django(database: str, tmp_path: Path) -> None:
    """The tables may live in Django's own database, written through its own connection."""
    file = tmp_path / "app.db"
    app = "tests.web.apps.django_project:asgi_application"
    with running("uvicorn", app, tmp_path, LASTSEEN_DATABASE_URL=database, APP_DATABASE=str(file)) as web:
        connection = web.connect()
        for target in ("/anyone?client_id=till-7", "/clients"):
            connection.request("GET", target)
            body = connection.getresponse().read()
        assert body == b"till-7"
        connection.request("GET", "/anyone?client_id=till-8")
        connection.getresponse().read()
        connection.close()
        assert "Traceback" not in web.stop()
    stored = sqlite3.connect(file)
    assert {client for (client,) in stored.execute("SELECT client_id FROM client_activity")} == {"till-7", "till-8"}
    stored.close()
