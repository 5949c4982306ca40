"""Unmodified PostHog libraries: recorded requests, and the real package for Python."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import posthog
import pytest

from lastseen.visits.event import Event, EventFlags
from lastseen.visits.making import RawEvent
from tests.ingest.captured import POSTHOG_FILES, Captured, captured
from tests.server.ingesting import RECORDED_KEY, Eyes, event_server
from tests.server.running import ServerProcess, eventually

Served = tuple[ServerProcess, Eyes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a server for the tests that only look at answers."""
    with event_server(tmp_path_factory.mktemp("posthog"), measured=True) as served:
        yield served


def send(server: ServerProcess, request: Captured) -> httpx.Response:
    """Send a recorded request to this server, byte by byte as it was."""
    dropped = {"host", "content-length", "connection"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    return server.http.request(request.method, request.target, headers=headers, content=request.body)


def expect(request: Captured, answer: httpx.Response) -> None:
    """Assert that the answer is what the library needs that sent the request."""
    path = request.path.rstrip("/")
    if path.startswith("/static/"):
        assert answer.status_code == 404
        return
    assert answer.status_code == 200, (request.note, answer.text)
    if "origin" in request.headers:
        assert answer.headers["access-control-allow-origin"] == request.headers["origin"]
        assert answer.headers["access-control-allow-credentials"] == "true"
    if request.method == "OPTIONS":
        asked = request.headers["access-control-request-headers"]
        assert answer.headers["access-control-allow-headers"] == asked
        assert "POST" in answer.headers["access-control-allow-methods"]
        return
    assert "quota" not in answer.text
    if path.endswith("/config.js"):
        assert "javascript" in answer.headers["content-type"]
        assert f'window._POSTHOG_REMOTE_CONFIG["{RECORDED_KEY}"]={{config:{{' in answer.text
    elif path.endswith("/config"):
        assert answer.json()["autocapture_opt_out"] is False
        assert "gzip-js" in answer.json()["supportedCompression"]
        assert answer.json()["sessionRecording"] is False
    elif path == "/flags":
        assert answer.json()["flags"] == {}
        assert ("supportedCompression" in answer.json()) == ("config=true" in request.query)
    elif path == "/i/v1/analytics/events":
        uuids = {event["uuid"] for event in request.value()["batch"]}
        assert answer.json()["results"] == {uuid: {"result": "ok"} for uuid in uuids}
    else:
        assert answer.json() == {"status": 1}


class Replay:
    """All recordings sent to one server, three times, in turns and backwards; looked at by several tests."""

    def __init__(self, served: Served) -> None:
        self.server, self.eyes = served
        self.meant = {name: _meant(name) for name in POSTHOG_FILES}
        self.answers: dict[str, list[tuple[Captured, httpx.Response]]] = {name: [] for name in POSTHOG_FILES}
        self.happened: dict[str, tuple[float, float]] = {}
        """When each event happened by the clock of today: as long before it was sent as in the recording; between."""
        for name in POSTHOG_FILES:
            for requests in (captured(name), captured(name), tuple(reversed(captured(name)))):
                for request in requests:
                    self._send(name, request)
        self.stored = {event.id: event for event in self.eyes.events()}

    def _send(self, name: str, request: Captured) -> None:
        began = datetime.now(UTC).timestamp()
        self.answers[name].append((request, send(self.server, request)))
        ended = datetime.now(UTC).timestamp()
        if request.brings_events:
            for event in request.decode().events:
                before = request.received_at - event.at / 1_000_000
                self.happened.setdefault(event.id or "", (began - before, ended - before))

    def events(self, name: str) -> list[Event]:
        """Return what is stored of a recording."""
        return [self.stored[event_id] for event_id in self.meant[name] if event_id in self.stored]


def _meant(name: str) -> dict[str, RawEvent]:
    requests = [request for request in captured(name) if request.brings_events]
    return {event.id or "": event for request in requests for event in request.decode().events}


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """Send all recordings."""
    with event_server(tmp_path_factory.mktemp("replay"), measured=True) as served:
        yield Replay(served)


@pytest.mark.parametrize("name", POSTHOG_FILES)
def test_recorded_requests_are_answered_as_their_library_needs(replay: Replay, name: str) -> None:
    """Every request, also when it comes again."""
    assert len(replay.answers[name]) == 3 * len(captured(name))
    for request, answer in replay.answers[name]:
        expect(request, answer)


def test_recorded_events_are_stored_once(replay: Replay) -> None:
    """Sent three times, each is there once and says what it said; visits are what the events fold into."""
    meant = {event_id: event for events in replay.meant.values() for event_id, event in events.items()}
    assert replay.stored.keys() == meant.keys()
    for event_id, event in replay.stored.items():
        raw = meant[event_id]
        assert (event.name, event.session_id, event.window_id) == (raw.name, raw.session_id, raw.window_id)
        assert raw.distinct_id is None or event.distinct_id == raw.distinct_id
    assert replay.eyes.event_count() == len(meant)
    replay.eyes.check()


@pytest.mark.parametrize("name", POSTHOG_FILES)
def test_recorded_moments_keep_their_distances(replay: Replay, name: str) -> None:
    """Hours after the recording the clocks differ by hours: each event is moved by that, and by nothing else.

    Old browsers' events without a moment are placed by how long they had waited.
    """
    old_ones = {
        event.id for request in captured(name) if "historical" in request.note for event in request.decode().events
    }
    for event in replay.events(name):
        if event.id not in old_ones and event.name != "backdated":
            earliest, latest = replay.happened[event.id]
            assert earliest - 1 < event.at / 1_000_000 < latest + 1, event


def test_a_recorded_person_is_one_visitor(replay: Replay) -> None:
    """Before and after she identified herself she is user_42; whoever comes after she signed out is not."""
    events = replay.events("latest_full")
    somebody_else = next(event.distinct_id for event in events if event.name == "after reset")
    for event in events:
        found = replay.eyes.visits.get_by_visitor("default", event.distinct_id)
        assert found is not None
        assert (found.visitor_id == "user_42") == (event.distinct_id != somebody_else)
    first = replay.eyes.visits.get("default", events[0].id)
    assert first is not None
    assert first.visitor_id == "user_42"


def test_a_visitor_without_a_cookie_is_one_visitor(replay: Replay) -> None:
    """The recorded browser kept no id: its events are one visit of one visitor, named by the day."""
    visits = {
        visit.id: visit
        for event in replay.events("latest_cookieless")
        if (visit := replay.eyes.visits.get("default", event.id)) is not None
    }
    assert {visit.event_count >= 4 for visit in visits.values()} == {True}
    assert len({visit.visitor_id for visit in visits.values()} - {"$posthog_cookieless"}) == 1


# Answers


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", ["/e", "/i/v0/e", "/capture", "/track", "/engage", "/batch", "/i/v0/ai/batch", "/s"])
def test_every_address_with_and_without_a_slash(shared: Served, path: str, slash: str) -> None:
    """All of them take an event."""
    event = {"api_key": RECORDED_KEY, "event": "x", "distinct_id": "v", "uuid": f"at{path}{slash}"}
    answer = shared[0].http.post(path + slash, json=event)
    assert (answer.status_code, answer.json()) == (200, {"status": 1})
    assert f"at{path}{slash}" in {one.id for one in shared[1].events()}


def test_a_pixel(shared: Served) -> None:
    """An event may come in the address of a picture."""
    event = json.dumps({"api_key": RECORDED_KEY, "event": "opened", "distinct_id": "v", "uuid": "pixel"})
    assert shared[0].http.get("/e/", params={"data": event}).status_code == 200
    assert "pixel" in {one.id for one in shared[1].events()}


@pytest.mark.parametrize("form", ["key beside the data", "JSON"])
def test_what_is_called_a_form(shared: Served, form: str) -> None:
    """The key may be a field of it; and curl calls JSON a form, too."""
    event = {"event": "opened", "distinct_id": "v", "uuid": form}
    fields = {"api_key": RECORDED_KEY, "data": json.dumps(event)}
    body = urlencode(fields) if form != "JSON" else json.dumps({**event, "api_key": RECORDED_KEY})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert shared[0].http.post("/capture/", content=body, headers=headers).status_code == 200
    assert form in {one.id for one in shared[1].events()}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"7", 400),
        (b"{}", 401),
        (b'{"api_key": "nobody", "event": "x", "distinct_id": "v"}', 401),
        (b'{"api_key": "\\u0000", "event": "x", "distinct_id": "v"}', 401),
        (gzip.compress(b" " * 30_000_000), 413),
        (b"x" * 21_000_000, 413),
        (gzip.compress(b'{"a": 1}')[:-5], 400),
    ],
    ids=["empty", "cut", "a number", "no key", "unknown key", "NUL as key", "bomb", "too large", "damaged"],
)
def test_what_cannot_be_taken_is_final(shared: Served, body: bytes, status: int) -> None:
    """4xx, which no library repeats; a page may read why."""
    answer = shared[0].http.post("/e/", content=body, headers={"Origin": "https://shop.test"})
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert answer.headers["access-control-allow-origin"] == "https://shop.test"


def test_each_event_is_answered_in_the_newest_form(shared: Served) -> None:
    """A batch with one event that is refused: that one is dropped, the others are ok, nothing is tried again."""
    events = [
        {"uuid": "n1", "event": "x", "distinct_id": "v", "properties": {}},
        {"uuid": "n2", "event": "x", "properties": {}},
        {"uuid": "n3", "event": "x", "distinct_id": "v", "properties": {}},
    ]
    headers = {"Authorization": f"Bearer {RECORDED_KEY}"}
    answer = shared[0].http.post("/i/v1/analytics/events", json={"batch": events}, headers=headers)
    assert answer.status_code == 200
    results = {uuid: result["result"] for uuid, result in answer.json()["results"].items()}
    assert results == {"n1": "ok", "n2": "drop", "n3": "ok"}


def test_old_libraries_find_their_configuration_in_the_flags(shared: Served) -> None:
    """`/decide` brings both; servers that evaluate flags themselves are told that there are none."""
    decided = shared[0].http.post("/decide/?v=3", data={"data": "e30="})
    assert decided.json()["featureFlags"] == {}
    assert decided.json()["supportedCompression"]
    definitions = shared[0].http.get("/api/feature_flag/local_evaluation?token=x")
    assert definitions.json()["flags"] == []


def test_old_events_on_purpose_are_not_late(shared: Served) -> None:
    """An import of last year is folded like anything else; the same event without saying so is marked."""
    server, eyes = shared
    event = {"event": "x", "distinct_id": "old", "timestamp": "2025-01-01T00:00:00Z"}
    for uuid, migration in (("imported", True), ("late", False)):
        body = {"api_key": RECORDED_KEY, "batch": [{**event, "uuid": uuid}], "historical_migration": migration}
        assert server.http.post("/batch/", json=body).status_code == 200
    flags = {one.id: one.flags & EventFlags.LATE for one in eyes.events() if one.id in {"imported", "late"}}
    assert flags == {"imported": 0, "late": EventFlags.LATE}


# The real package


def test_the_package_for_python(shared: Served) -> None:
    """The installed posthog package, told nothing but address and key: everything arrives, and it never complains."""
    server, eyes = shared
    complaints: list[Any] = []
    client = posthog.Posthog(
        RECORDED_KEY, host=server.address, on_error=lambda *error: complaints.append(error), gzip=True, flush_at=100
    )
    began = datetime.now(UTC)
    yesterday = began - timedelta(days=1)
    for number in range(250):
        client.capture("bulk", distinct_id=f"user_{number % 3}", properties={"n": number, "text": "☃\ud83d"})
    client.capture("backdated", distinct_id="user_1", timestamp=yesterday)
    client.capture(
        "$pageview", distinct_id="user_1", properties={"$current_url": "https://shop.test/a", "$session_id": "s"}
    )
    client.set(distinct_id="user_1", properties={"plan": "pro"})
    client.alias(previous_id="anon", distinct_id="user_1")
    client.capture("by anon", distinct_id="anon")
    client.group_identify("company", "acme", {"seats": 5})
    assert client.evaluate_flags("user_1").get_flag("beta") is None
    client.shutdown()
    took = (datetime.now(UTC) - began).total_seconds()
    assert complaints == []
    events = [event for event in eyes.events() if event.distinct_id.startswith(("user_", "anon"))]
    names = [event.name for event in events]
    assert names.count("bulk") == 250
    assert {"$pageview", "$set", "$create_alias", "by anon"} <= set(names)
    assert "$groupidentify" not in names
    backdated = next(event for event in events if event.name == "backdated")
    assert -1 < backdated.at / 1_000_000 - yesterday.timestamp() < 1 + took
    assert sorted(event.properties["n"] for event in events if event.name == "bulk") == list(range(250))
    visit = eyes.visits.get_by_visitor("default", "anon")
    assert visit is not None
    assert visit == eyes.visits.get_by_visitor("default", "user_1")
    assert visit.page_views == 1


def test_the_package_tries_again_while_nothing_can_be_kept(tmp_path: Path, postgres: Any) -> None:
    """503 with a time to wait: the package waits, comes again, and the event is there once."""
    url = postgres.create_database()
    with event_server(tmp_path, url, "--spool-limit", "0") as (server, eyes):
        complaints: list[Any] = []
        client = posthog.Posthog(
            # Three times, as it does by default, may be over before a busy machine has started the database again.
            RECORDED_KEY,
            host=server.address,
            on_error=lambda *error: complaints.append(error),
            max_retries=10,
        )
        client.capture("before", distinct_id="v")
        client.flush()
        postgres.stop()
        try:
            refused = server.http.post("/e/", json={"api_key": RECORDED_KEY, "event": "x", "distinct_id": "v"})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            client.capture("during", distinct_id="v")
        finally:
            postgres.start()
        client.shutdown()
        eventually(lambda: [event.name for event in eyes.events()] == ["before", "during"], "both are there")
        assert complaints == []
