"""Whatever becomes of the tracking, requests and answers stay as they are."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen import ConfigurationError, FlushError, LastSeen, MissingAbility, TrackerSettings
from lastseen.activity import identify
from lastseen.web import asgi, wsgi
from lastseen.web.environment import open_for_application
from tests.web.cases import Case
from tests.web.drivers import DRIVERS, Driver, echo_wsgi, request_wsgi

POST = Case(name="", expected=None, body=b'{"client_id": "till-7"}', query="client_id=other")


@pytest.fixture(params=DRIVERS)
def drive(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lastseen.db"


@pytest.fixture
def seen(file: Path) -> Iterator[LastSeen]:
    """Open a database in a file, whose tracker writes only when it is told."""
    tracking = TrackerSettings(max_buffer_size=None, max_pending=2)
    opened = LastSeen.open(f"sqlite:///{file}", migrate=True, tracking=tracking)
    yield opened
    opened.close()


def database_gone(seen: LastSeen, file: Path) -> None:
    seen.store.close()
    shutil.rmtree(file.parent)


def table_missing(seen: LastSeen, file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE client_activity")
    connection.close()


def buffer_full(seen: LastSeen, file: Path) -> None:
    seen.clients.record("one")
    seen.clients.record("two")


def tracker_closed(seen: LastSeen, file: Path) -> None:
    seen.clients.close()


BREAKS = [database_gone, table_missing, buffer_full, tracker_closed]


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda one: one.__name__)
def test_requests_succeed(break_it: Callable[..., None], drive: Driver, seen: LastSeen, file: Path) -> None:
    """With the database gone, the table missing, the buffer full or the tracker closed, answers stay as they are."""
    break_it(seen, file)
    for _ in range(2):
        assert drive(seen.clients, POST) == drive(None, POST)
        if break_it in (database_gone, table_missing):
            with pytest.raises(FlushError):
                seen.clients.flush()


@pytest.mark.parametrize("break_it", [database_gone, table_missing], ids=lambda one: one.__name__)
def test_a_middleware_that_writes_in_the_request_fails_it(
    break_it: Callable[..., None], seen: LastSeen, file: Path
) -> None:
    """The same breakage fails the requests of a middleware that upserts in each: the test above can fail."""

    def upserting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        connection = sqlite3.connect(file)
        try:
            with connection:
                connection.execute("INSERT OR REPLACE INTO client_activity VALUES ('till-7', 'now', 'now')")
        finally:
            connection.close()
        return echo_wsgi(environ, start_response)

    assert request_wsgi(upserting, POST).status == 200
    break_it(seen, file)
    with pytest.raises(sqlite3.OperationalError):
        request_wsgi(upserting, POST)


def raising(*_: object) -> Any:
    raise LookupError("my own mistake")


class RaisingTracker:
    """A tracker that breaks its promise."""

    def record(self, key: str, at: float) -> Any:
        raise LookupError("my own mistake")


@pytest.mark.parametrize(
    ("tracker", "options"),
    [(None, {"source": raising}), (None, {"skip": raising}), (RaisingTracker(), {})],
    ids=["source", "skip", "tracker"],
)
def test_own_functions_that_raise(
    tracker: Any, options: dict[str, Any], drive: Driver, seen: LastSeen, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a function of the application's own leaves the answer alone and is logged."""
    assert drive(tracker or seen.clients, POST, **options) == drive(None, POST)
    [record] = [record for record in caplog.records if record.name == "lastseen"]
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None
    assert "my own mistake" in str(record.exc_info[1])


def test_errors_are_logged_once_a_kind(seen: LastSeen, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand requests that fail alike are one line in the log, and another kind is another."""
    kinds = iter([LookupError("a"), LookupError("b"), TypeError("c"), LookupError("d")])

    def source(facts: identify.RequestFacts) -> str:
        raise next(kinds)

    app = wsgi.ActivityMiddleware(echo_wsgi, seen.clients, source=source)
    for _ in range(4):
        assert request_wsgi(app, POST).body == POST.body
    found = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert found == ["a", "c"]


def test_logger_is_an_option(seen: LastSeen, caplog: pytest.LogCaptureFixture) -> None:
    """The middleware logs where it is told to."""
    app = wsgi.ActivityMiddleware(echo_wsgi, seen.clients, logger=logging.getLogger("mine"), source=raising)
    request_wsgi(app, POST)
    assert [record.name for record in caplog.records] == ["mine"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    body=st.binary(max_size=100) | st.just(b'{"client_id": "x"}'),
    query=st.text(alphabet="client_id=&%+;abc0159CF\x00 ", max_size=30),
    content_type=st.sampled_from(["application/json", "text/plain", 'application/x+json; a="b"', ";", ""]),
)
def test_any_request_is_answered_as_ever(body: bytes, query: str, content_type: str) -> None:
    """Whatever arrives, the bare applications answer it as they do without tracking."""
    case = Case(name="", expected=None, body=body, query=query, content_type=content_type)
    with LastSeen.open("memory:") as seen:
        for name in ("asgi", "wsgi"):
            assert DRIVERS[name](seen.clients, case) == DRIVERS[name](None, case)


@pytest.mark.parametrize("middleware", [asgi.ActivityMiddleware, wsgi.ActivityMiddleware])
def test_wrong_options(middleware: Any, seen: LastSeen) -> None:
    """A wrong option is refused when the application is put together, not when a request comes."""
    with pytest.raises(MissingAbility, match="clients of a LastSeen"):
        middleware(None, seen)
    for options in ({"source": "client_id"}, {"exclude": "/health"}, {"peek_limit": -1}):
        with pytest.raises(ConfigurationError):
            middleware(None, seen.clients, **options)


def test_application_starts_before_its_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database that is missing is logged with the command that makes it; what was heard waits and is written then."""
    source = f"sqlite:///{tmp_path / 'later.db'}"
    opened = open_for_application(source)
    try:
        assert "lastseen migrate" in caplog.text
        opened.clients.record("early")
        with pytest.raises(FlushError):
            opened.clients.flush()
        opened.store.migrate()
        opened.clients.flush()
        assert [client.client_id for client in opened.clients.list()] == ["early"]
    finally:
        opened.close()
