"""`POST /api/v1/events`: who may send, what is answered, and what is stored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from lastseen import LastSeen
from lastseen.clock import SYSTEM_CLOCK
from lastseen.devices.key import Scope
from lastseen.visits.event import EventFlags
from tests.server.ingesting import RECORDED_KEY, SITE, Eyes, event_server, sqlite_url
from tests.server.running import ServerProcess, eventually

PATH = "/api/v1/events"
VIEW = {"name": "$pageview", "distinct_id": "v", "url": "https://shop.test/"}
Served = tuple[ServerProcess, Eyes]


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """Hold the secrets of the keys that `served` makes."""
    return {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, str]) -> Iterator[Served]:
    """Run a server with two sites and some keys."""
    folder = tmp_path_factory.mktemp("events")
    url = sqlite_url(folder)
    with LastSeen.open(url, migrate=True) as seen:
        seen.sites.create("other")
        for name, scopes, site in (
            ("all", {Scope.EVENTS_WRITE}, None),
            ("other", {Scope.EVENTS_WRITE}, "other"),
            ("reader", {Scope.VISITS_READ}, None),
        ):
            secrets[name] = seen.keys.create(name, scopes=scopes, site_id=site)[1].reveal()
    with event_server(folder, url, measured=True) as served:
        yield served


def ids(eyes: Eyes, site: str = SITE) -> set[str]:
    return {event.id for event in eyes.visits.all_events(site)}


@pytest.mark.parametrize("place", ["body", "query", "header"])
def test_the_write_key_has_three_places(served: Served, place: str) -> None:
    """In the body, in the query, or as a bearer token."""
    server, eyes = served
    event = {**VIEW, "id": f"key in {place}"}
    answer = server.http.post(
        PATH,
        json={**event, "write_key": RECORDED_KEY} if place == "body" else event,
        params={"write_key": RECORDED_KEY} if place == "query" else {},
        headers={"authorization": f"Bearer {RECORDED_KEY}"} if place == "header" else {},
    )
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "dropped": 0})
    assert event["id"] in ids(eyes)


def test_ids_that_nobody_would_print_are_listed(served: Served) -> None:
    """Pages follow each other past them, and the visit is found by each."""
    server, _ = served
    odd = ["a\u00a0b", "a\u200bb", "a\tb"]
    events = [{"name": "odd", "distinct_id": "odd ids", "id": each} for each in odd]
    server.http.post(PATH, json={"write_key": RECORDED_KEY, "events": events}).raise_for_status()
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        asked: dict[str, str | int] = {"name": "odd", "limit": 1, **({"cursor": cursor} if cursor else {})}
        answer = server.http.get(PATH, params=asked)
        assert answer.status_code == 200, answer.text
        found += [event["id"] for event in answer.json()["events"]]
        cursor = answer.json()["next_cursor"]
    assert sorted(found) == sorted(odd)
    for each in odd:
        visit = server.http.get(f"/api/v1/visits/{quote(each, safe='')}")
        assert visit.status_code == 200, each


@pytest.mark.parametrize(
    ("headers", "params", "expected"),
    [
        ({}, {}, (401, "credential_required")),
        ({"authorization": "Bearer wk_nobodynobodynobodyno"}, {}, (401, "invalid_key")),
        ({"authorization": "Basic d2tfdGVzdDo="}, {}, (401, "credential_required")),
        ({"x-api-key": "ls_nonsense"}, {}, (401, "invalid_key")),
        ({"x-api-key": "reader"}, {}, (403, "scope_missing")),
        ({"x-api-key": "other"}, {"site": SITE}, (403, "other_site")),
        ({"x-api-key": "all"}, {"site": "nowhere"}, (404, None)),
    ],
    ids=["nothing", "unknown", "basic", "no key", "another scope", "another site", "no such site"],
)
def test_nobody_else_may_send(
    served: Served,
    secrets: dict[str, str],
    headers: dict[str, str],
    params: dict[str, str],
    expected: tuple[int, str | None],
) -> None:
    """The answer says why to people and programs, and nothing is stored; a 401 names its scheme (RFC 9110, 11.6.1)."""
    server, eyes = served
    before = eyes.event_count()
    headers = {name: secrets.get(value, value) for name, value in headers.items()}
    answer = server.http.post(PATH, json=VIEW, headers=headers, params=params)
    problem = answer.json()
    assert (answer.status_code, problem.get("code")) == expected
    assert problem["detail"]
    assert answer.headers.get("www-authenticate") == ('Bearer realm="lastseen"' if expected[0] == 401 else None)
    assert eyes.event_count() == before


@pytest.mark.parametrize(
    ("key", "site", "asked"), [("all", SITE, None), ("all", "other", "other"), ("other", "other", None)]
)
def test_an_api_key_sends_to_its_site(
    served: Served, secrets: dict[str, str], key: str, site: str, asked: str | None
) -> None:
    """A key of a site to that one, a key of none to the one that is asked for."""
    server, eyes = served
    event_id = f"by {key} to {site}"
    params = {"site": asked} if asked else {}
    headers = {"authorization": f"Bearer {secrets[key]}"}
    assert server.http.post(PATH, json={**VIEW, "id": event_id}, headers=headers, params=params).status_code == 200
    assert event_id in ids(eyes, site)


def test_a_page_of_another_origin_may_send(served: Served) -> None:
    """As text or a form, which browsers send without asking, and as JSON after they have asked."""
    server, eyes = served
    page = {"origin": "https://shop.test", "sec-fetch-site": "cross-site"}
    asked = server.http.options(PATH, headers={**page, "access-control-request-headers": "content-type"})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://shop.test"
    for media_type in ("text/plain;charset=UTF-8", "application/json"):
        body = {"write_key": RECORDED_KEY, "events": [{**VIEW, "id": media_type}]}
        headers = {**page, "content-type": media_type}
        answer = server.http.post(PATH, content=json.dumps(body), headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.test"
    event = json.dumps({**VIEW, "id": "form"})
    answer = server.http.post(PATH, data={"data": event, "write_key": RECORDED_KEY}, headers=page)
    assert answer.json() == {"accepted": 1, "dropped": 0}
    assert {"text/plain;charset=UTF-8", "application/json", "form"} <= ids(eyes)


def test_a_page_of_another_origin_may_do_nothing_else(served: Served) -> None:
    """The negative control: what is no ingest refuses a write from there."""
    page = {"origin": "https://shop.test", "sec-fetch-site": "cross-site"}
    assert served[0].http.post("/api/v1/activity", json={"client_id": "x"}, headers=page).status_code == 403


@pytest.mark.parametrize("at_once", [True, False], ids=["an array", "lines"])
def test_events_of_two_sites_are_refused_unless_an_api_key_says_whose_they_are(
    served: Served, secrets: dict[str, str], at_once: bool
) -> None:
    """As a whole, as nobody can say whose those without a key are; and not before the key is known."""
    server, eyes = served

    def send(key: str, kind: str, **headers: str) -> tuple[int, str]:
        events = [{**VIEW, "id": f"{kind} {at_once} {each}", "write_key": each} for each in (key, "wk_other")]
        content = json.dumps(events) if at_once else "\n".join(map(json.dumps, events))
        headers |= {"content-type": "application/json" if at_once else "application/x-ndjson"}
        answer = server.http.post(PATH, content=content, headers=headers)
        return answer.status_code, answer.text

    status, text = send(RECORDED_KEY, "none")
    assert (status, "different write keys" in text) == (400, True)
    assert send("wk_nobodynobodynobodyno", "none")[0] == 401
    assert send("wk_nobodynobodynobodyno", "kept", **{"x-api-key": secrets["all"]})[0] == 200
    assert {each for each in ids(eyes) if each.startswith(("none", f"kept {at_once}"))} == {
        f"kept {at_once} wk_nobodynobodynobodyno",
        f"kept {at_once} wk_other",
    }


def test_one_bad_event_is_told(served: Served) -> None:
    """With its place in the request and the reason; the others are stored."""
    server, eyes = served
    events = [{**VIEW, "id": "good 1"}, {"distinct_id": "v"}, {**VIEW, "id": "good 2"}]
    answer = server.http.post(PATH, json={"write_key": RECORDED_KEY, "events": events})
    assert answer.status_code == 200
    told = {"accepted": 2, "dropped": 1, "errors": [{"index": 1, "reason": "name is missing"}]}
    assert answer.json() == told
    assert {"good 1", "good 2"} <= ids(eyes)
    only_bad = server.http.post(PATH, json={"write_key": RECORDED_KEY, "events": events[1:2]})
    assert only_bad.status_code == 400
    assert only_bad.json()["errors"] == [{"index": 0, "reason": "name is missing"}]


def test_lines_and_compression(served: Served) -> None:
    """One event a line, and gzip."""
    server, eyes = served
    lines = "\n".join(json.dumps({**VIEW, "id": f"line {number}"}) for number in range(3))
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    answer = server.http.post(
        f"{PATH}?write_key={RECORDED_KEY}", content=gzip.compress(lines.encode()), headers=headers
    )
    assert answer.json() == {"accepted": 3, "dropped": 0}
    assert {"line 0", "line 1", "line 2"} <= ids(eyes)


@pytest.mark.parametrize(
    ("method", "content", "headers", "status"),
    [
        ("PUT", b"{}", {}, 405),
        ("POST", b"", {}, 400),
        ("POST", b"{", {}, 400),
        ("POST", b"x" * 11_000_000, {}, 413),
        ("POST", b"{}", {"content-type": "image/png"}, 415),
        ("POST", b"{}", {"content-type": "multipart/form-data; boundary=x"}, 415),
        ("POST", b"a=1", {"content-type": "application/x-www-form-urlencoded"}, 400),
        ("POST", b"{}", {"content-encoding": "br"}, 415),
        ("POST", gzip.compress(b" " * 30_000_000), {"content-encoding": "gzip"}, 413),
    ],
    ids=["method", "empty", "cut", "large", "type", "parts", "form", "encoding", "bomb"],
)
def test_what_cannot_be_taken(
    served: Served, method: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    """A status that says whether another form would do."""
    headers = {"content-type": "application/json", **headers}
    answer = served[0].http.request(method, f"{PATH}?write_key={RECORDED_KEY}", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_late_events_are_marked_and_kept(served: Served) -> None:
    """Three days are not late, a minute more is; both are there."""
    server, eyes = served
    now = int(SYSTEM_CLOCK.now())
    events = [{**VIEW, "id": "in time", "at": now - 71 * 3_600}, {**VIEW, "id": "late", "at": now - 73 * 3_600}]
    assert server.http.post(PATH, json={"write_key": RECORDED_KEY, "events": events}).status_code == 200
    marks = {event.id: event.flags & EventFlags.LATE for event in eyes.events() if event.id in {"in time", "late"}}
    assert marks == {"in time": 0, "late": EventFlags.LATE}


def test_a_new_key_works_at_once_and_an_old_one_ends(served: Served) -> None:
    """A key that was replaced is refused within seconds."""
    server, eyes = served
    url = eyes.address
    with LastSeen.open(url) as seen:
        old = seen.sites.get("other").write_key
        assert server.http.post(f"{PATH}?write_key={old}", json=VIEW).status_code == 200
        new = seen.sites.rotate_write_key("other").write_key
    assert server.http.post(f"{PATH}?write_key={new}", json=VIEW).status_code == 200
    eventually(lambda: server.http.post(f"{PATH}?write_key={old}", json=VIEW).status_code == 401, "the old key ends")


def test_a_method_that_is_none_here_is_told(served: Served) -> None:
    """405 names those that are."""
    assert served[0].http.put(PATH).headers["allow"] == "POST, OPTIONS"


def test_another_http_server_takes_events_too(tmp_path: Path) -> None:
    """Granian instead of uvicorn: the same answers, the same durability, an orderly end."""
    with event_server(tmp_path, None, "--http-server", "granian") as (server, eyes):
        for number in range(3):
            event = {**VIEW, "id": f"{number}", "write_key": RECORDED_KEY}
            assert server.http.post(PATH, json=event).status_code == 200
        assert server.http.post("/e/", json={"api_key": "x", "event": "y"}).status_code == 401
        assert server.stop() == 0
        assert ids(eyes) == {"0", "1", "2"}
        assert "Traceback" not in server.log


def test_what_is_counted(served: Served) -> None:
    """The figures of the server speak of what it took and dropped."""
    events = [VIEW, {"distinct_id": "v"}]
    assert served[0].http.post(PATH, json={"write_key": RECORDED_KEY, "events": events}).status_code == 200
    text = served[0].http.get("/metrics").text
    assert 'lastseen_events_dropped_total{cause="no name"}' in text
    assert "lastseen_events_accepted_total" in text
    assert 'route="/api/v1/events"' in text
    assert RECORDED_KEY not in text
