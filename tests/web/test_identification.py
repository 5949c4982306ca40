"""Every adapter finds the same client in the same request, and leaves the request as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lastseen import ClientOrder, LastSeen, TrackerSettings
from lastseen.activity import identify
from lastseen.activity.identify import ClientSource
from tests.web.cases import CASES, Case
from tests.web.drivers import DRIVERS, Driver


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    with LastSeen.open("memory:", tracking=TrackerSettings(max_buffer_size=None)) as opened:
        yield opened


@pytest.fixture(params=DRIVERS)
def drive(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


def ids(seen: LastSeen) -> list[str]:
    return [client.client_id for client in seen.clients.list(order=ClientOrder.CLIENT_ID)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, drive: Driver, seen: LastSeen) -> None:
    """The client of the request is recorded, and the answer equals that of the application alone."""
    assert drive(seen.clients, case) == drive(None, case)
    assert ids(seen) == ([] if case.expected is None else [case.expected])


def test_refused_ids_are_counted(drive: Driver, seen: LastSeen) -> None:
    """An id of 10 KB reaches the tracker, which refuses and counts it."""
    [long] = [case for case in CASES if case.name == "10 KB"]
    drive(seen.clients, long)
    assert seen.clients.health().rejected == 1


HEADER = Case(name="", expected=None, method="GET", content_type=None, headers={"X-Client-ID": "till-7"})
LOCATION = Case(name="", expected=None, method="GET", content_type=None, path="/devices/caf%C3%A9%207/location")
BODY = Case(name="", expected=None, body=b'{"unit": "u-1", "other key": 5}')


@pytest.mark.parametrize(
    ("source", "case", "expected"),
    [
        (identify.header(), HEADER, "till-7"),
        (identify.header("x-CLIENT-id"), HEADER, "till-7"),
        (identify.header("X-Other"), HEADER, None),
        (identify.header("Content-Type"), BODY, "application/json"),
        (identify.path("/devices/{client_id}/location"), LOCATION, "café 7"),
        (identify.path("/devices/{client_id}/*"), LOCATION, "café 7"),
        (identify.path("/{kind}/{id}/location", "id"), LOCATION, "café 7"),
        (identify.path("/devices/{client_id}"), LOCATION, None),
        (identify.json_body("unit"), BODY, "u-1"),
        (identify.json_body("other key"), BODY, "5"),
        (identify.query("unit"), BODY, None),
        (identify.first_of(identify.query(), identify.header()), HEADER, "till-7"),
        (lambda facts: f"{facts.method} {facts.path}", BODY, "POST /echo"),
        (lambda facts: facts.header("Content-Length"), BODY, str(len(BODY.body))),
        (lambda facts: str(len(facts.body)), BODY, str(len(BODY.body))),
        (lambda facts: 17, BODY, "17"),
        (lambda facts: None, BODY, None),
    ],
)
def test_source(source: ClientSource, case: Case, expected: str | None, drive: Driver, seen: LastSeen) -> None:
    """Every kind of source names the client in every adapter."""
    assert drive(seen.clients, case, source=source) == drive(None, case)
    assert ids(seen) == ([] if expected is None else [expected])


def test_own_function_sees_the_native_request(drive: Driver, seen: LastSeen) -> None:
    """A function of the application's own gets the framework's own request."""

    def source(facts: identify.RequestFacts) -> str:
        return type(facts.native).__name__

    drive(seen.clients, HEADER, source=source)
    assert ids(seen)[0] in {"dict", "WSGIRequest", "ASGIRequest"}


def test_header_beyond_ascii(drive: Driver, seen: LastSeen) -> None:
    """A header is read as UTF-8, so that a client has one id whichever way it names itself."""
    case = Case(name="", expected=None, method="GET", content_type=None, headers={"X-Client-ID": "čaj"})
    drive(seen.clients, case, source=identify.header())
    assert ids(seen) == ["čaj"]


def test_excluded_patterns(drive: Driver, seen: LastSeen) -> None:
    """Own patterns replace the default ones: exact paths, prefixes and shell patterns."""
    for path in ("/a", "/a/b", "/p/x", "/x/poll", "/x/poll/y", "/health"):
        case = Case(name="", expected=None, method="GET", content_type=None, path=path, query=f"client_id={path}")
        drive(seen.clients, case, exclude=["/a", "/p/*", "*/poll"])
    assert ids(seen) == ["/a/b", "/health", "/x/poll/y"]


def test_skipped_by_predicate(drive: Driver, seen: LastSeen) -> None:
    """A predicate keeps requests out that say nothing about a client, such as passive polling."""
    for client, polls in (("active", ""), ("passive", "yes")):
        headers = {"X-Poll": polls} if polls else {}
        case = Case(name="", expected=None, body=b'{"client_id": "%s"}' % client.encode(), headers=headers)
        drive(seen.clients, case, skip=lambda facts: facts.header("X-Poll") == "yes")
    assert ids(seen) == ["active"]


def test_smaller_peek_limit(drive: Driver, seen: LastSeen) -> None:
    """A body over the limit is not looked at, one at the limit is."""
    body = b'{"client_id": "fits"}'
    for limit in (len(body) - 1, 0):
        drive(seen.clients, Case(name="", expected=None, body=body), peek_limit=limit)
    assert ids(seen) == []
    drive(seen.clients, Case(name="", expected=None, body=body), peek_limit=len(body))
    assert ids(seen) == ["fits"]


def test_request_is_recorded_when_the_application_raises(seen: LastSeen) -> None:
    """The error reaches the server as it is, and the client was active all the same."""
    case = Case(name="", expected=None, path="/boom", body=b'{"client_id": "boom"}')
    for name in ("asgi", "wsgi"):
        with pytest.raises(LookupError, match="boom"):
            DRIVERS[name](seen.clients, case, source=identify.first_of(identify.json_body(), identify.principal()))
    assert ids(seen) == ["boom"]
