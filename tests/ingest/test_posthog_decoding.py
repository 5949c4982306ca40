"""What PostHog's libraries send, from recorded requests and from forms that were not recorded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Unacceptable
from lastseen.ingest.posthog import Batch, Hints, decode_batch
from lastseen.ingest.times import MICROS
from lastseen.visits.making import RawEvent
from tests.ingest.captured import POSTHOG_FILES, captured

NOW = 1_795_348_800 * MICROS
ORIGIN = Origin(received_at=NOW, address="192.0.2.7", user_agent="curl/8")
PAGE = {
    "uuid": "01a2",
    "event": "$pageview",
    "properties": {"distinct_id": "v1", "token": "phc_1", "$current_url": "https://shop.test/?utm_source=x"},
    "timestamp": "2026-11-22T11:59:00.000Z",
}


def decode(value: Any, **hints: str) -> Batch:
    return decode_batch(value, ORIGIN, Hints(**hints))


def events_of(name: str) -> list[RawEvent]:
    """Return the events of a recording, each once, in the order in which they came."""
    found = {
        event.id: event for request in captured(name) if request.brings_events for event in request.decode().events
    }
    return list(found.values())


@pytest.mark.parametrize("name", POSTHOG_FILES)
def test_every_recorded_request_is_understood(name: str) -> None:
    """Each names its project, and nothing is dropped but what is never kept."""
    causes: Counter[str] = Counter()
    for request in captured(name):
        if request.brings_events:
            batch = request.decode()
            assert batch.token == "phc_test", request.note
            assert batch.events or batch.dropped
            causes.update(one.cause for one in batch.dropped)
    assert causes.keys() <= {"replay is off", "heatmaps are not kept", "groups are not kept"}


@pytest.mark.parametrize("name", POSTHOG_FILES)
def test_recorded_events_happened_shortly_before_they_were_sent(name: str) -> None:
    """Also with a clock two hours slow, with offsets instead of moments, and in old and new protocols."""
    for request in captured(name):
        if request.brings_events and "historical" not in request.note:
            for event in request.decode().events:
                if event.name == "backdated":
                    continue
                age = request.received_at - event.at / MICROS
                # The longest way: a library that tried for 15 s, with its first sent_at.
                assert 0 <= age < 16, (request.note, event.name)


def test_a_clock_that_is_two_hours_slow() -> None:
    """The corrected moments are right to the second; uncorrected they would be two hours old."""
    requests = [request for request in captured("latest_skew_minus2h") if request.brings_events]
    ages = [request.received_at - event.at / MICROS for request in requests for event in request.decode().events]
    assert len(ages) == 5
    assert max(ages) < 1
    sent = [event["timestamp"] for request in requests for event in items(request.value()) if "timestamp" in event]
    assert all(moment.startswith("2026-11-21T22:") for moment in sent)


def items(value: Any) -> list[Any]:
    return (
        value["batch"]
        if isinstance(value, dict) and "batch" in value
        else value
        if isinstance(value, list)
        else [value]
    )


def test_a_person_is_followed_from_stranger_to_user() -> None:
    """The recorded visitor is anonymous, identifies herself, signs out, and is somebody else then."""
    events = events_of("latest_full")
    identify = next(event for event in events if event.name == "$identify")
    assert identify.distinct_id == "user_42"
    assert identify.properties["$anon_distinct_id"] == events[0].distinct_id
    assert next(event for event in events if event.name == "after identify").distinct_id == "user_42"
    assert next(event for event in events if event.name == "after reset").distinct_id not in {
        "user_42",
        events[0].distinct_id,
    }


def test_pages_bring_what_visits_need() -> None:
    """Address, referrer, session, window, screen and device of a recorded page view."""
    first = next(event for event in events_of("latest_full") if event.name == "$pageview")
    assert (first.url or "").startswith("http://shop.test")
    assert {first.session_id, first.window_id}.isdisjoint({None, ""})
    assert first.screen == "1280x720"
    assert first.device is not None
    assert (first.device.type, first.device.os, first.device.browser) == ("desktop", "Windows", "Chrome")
    assert first.is_server is False
    left = next(event for event in events_of("latest_full") if event.name == "$pageleave")
    assert left.engaged_ms > 0


@pytest.mark.parametrize("width", [10**400, 1e308, -1280, 0, True, "1280", None], ids=lambda width: str(width)[:8])
def test_a_screen_that_is_none_costs_no_event(width: Any) -> None:
    """A number that no screen has, such as one of 400 digits, is left out; the events beside it are taken as ever."""
    wrong, right = ({"$screen_width": each, "$screen_height": 720} for each in (width, 1280))
    batch = decode([{"event": "x", "distinct_id": "a", "properties": each} for each in (wrong, right)])
    assert [event.screen for event in batch.events] == [None, "1280x720"]


def test_noise_is_not_kept() -> None:
    """What a library notes for itself is gone, what the page said is there."""
    event = next(event for event in events_of("latest_full") if event.name == "custom event")
    noisy = [name for name in event.properties if name.startswith(("$sdk_debug", "$feature", "$session_recording"))]
    assert noisy == []
    assert not {"token", "$insert_id", "$time", "distinct_id"} & event.properties.keys()
    assert "$device_id" in event.properties


@pytest.mark.parametrize("name", ["py", "node"])
def test_servers_are_not_visitors_machines(name: str) -> None:
    """What a server's library sends says nothing about the visitor's address and device."""
    for event in events_of(name):
        assert event.is_server
        assert event.device is None
        assert event.user_agent is None


def sent_by(user_agent: str, **properties: Any) -> RawEvent:
    origin = Origin(received_at=NOW, address="192.0.2.7", user_agent=user_agent)
    event = {"event": "paid", "distinct_id": "v1", "properties": properties}
    return decode_batch({"api_key": "phc_1", **event}, origin, Hints()).events[0]


def told(event: RawEvent) -> tuple[bool, str | None, str | None]:
    return event.is_server, event.user_agent, event.address


def test_a_program_that_names_its_visitor_sends_for_somebody_else() -> None:
    """Without a library: the visitor is no robot, and is not where the program is. A browser speaks for itself."""
    for program in ("python-requests/2.32.3", "curl/8.5.0", "Java/17"):
        assert told(sent_by(program)) == (False, None, None)
    assert told(sent_by("curl/8.5.0", **{"$raw_user_agent": "Mozilla/5.0", "$ip": "192.0.2.9"})) == (
        False,
        "Mozilla/5.0",
        "192.0.2.9",
    )
    assert told(sent_by("Mozilla/5.0")) == (False, "Mozilla/5.0", "192.0.2.7")
    robot = "Mozilla/5.0 (compatible; Googlebot/2.1)"
    assert told(sent_by(robot, **{"$lib": "web"})) == (False, robot, "192.0.2.7")


@pytest.mark.parametrize(
    "name", ["python", "node", "edge", "ruby", "php", "go", "java", "server", "dotnet", "elixir", "rs"]
)
def test_every_library_of_servers_is_known(name: str) -> None:
    """Whatever carries its requests."""
    for user_agent in ("okhttp/4.12.0", "Mozilla/5.0", f"posthog-{name}/1.0"):
        assert told(sent_by(user_agent, **{"$lib": f"posthog-{name}"})) == (True, None, None)


@pytest.mark.parametrize("name", ["android", "ios", "react-native", "flutter", "kmp", "unity"])
def test_a_telephone_is_where_its_person_is(name: str) -> None:
    """Its library's requests are carried by what else only robots use; its address and its system are the person's."""
    properties = {"$lib": f"posthog-{name}", "$os_name": "Android", "$os_version": "15", "$device_type": "Mobile"}
    for user_agent in ("okhttp/4.12.0", "Shop/7 CFNetwork/1568 Darwin/24.1.0"):
        event = sent_by(user_agent, **properties)
        assert told(event) == (False, None, "192.0.2.7")
        assert told(sent_by(user_agent, **properties, **{"$raw_user_agent": user_agent})) == told(event)
        assert event.device is not None
        assert (event.device.type, event.device.os, event.device.os_version) == ("mobile", "Android", "15")


def test_without_a_cookie_the_visitor_is_named_here() -> None:
    """A browser that keeps no id sends none; its user agent is there to name it by."""
    events = events_of("latest_cookieless")
    assert {event.distinct_id for event in events} == {None}
    assert all(event.user_agent and "Windows" in event.user_agent for event in events)


@pytest.mark.parametrize(
    ("value", "hints"),
    [
        ({"api_key": "phc_1", "batch": [PAGE]}, {}),
        ({"token": "phc_1", "batch": [PAGE]}, {}),
        ([PAGE], {}),
        (PAGE, {}),
        ({**PAGE, "api_key": "phc_1"}, {}),
        ({"batch": [{**PAGE, "properties": {"distinct_id": "v1"}}]}, {"token": "phc_1"}),
    ],
    ids=["batch", "batch with token", "array", "single", "raw", "key elsewhere"],
)
def test_every_shape(value: Any, hints: dict[str, str]) -> None:
    """One event in any shape is the same event of the same project."""
    batch = decode(value, **hints)
    assert batch.token == "phc_1"
    assert [(event.id, event.name, event.distinct_id) for event in batch.events] == [("01a2", "$pageview", "v1")]
    assert batch.uuids == ["01a2"]


@pytest.mark.parametrize("place", ["event", "properties", "old properties"])
def test_the_visitors_id_has_several_places(place: str) -> None:
    """Beside the event, or in its properties under either name."""
    event: dict[str, Any] = {"event": "x", "properties": {}}
    {"event": event, "properties": event["properties"], "old properties": event["properties"]}[place][
        "$distinct_id" if place == "old properties" else "distinct_id"
    ] = "v9"
    assert decode([event]).events[0].distinct_id == "v9"


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (7, "not an event"),
        (None, "not an event"),
        ({"event": "x"}, "no distinct_id"),
        ({"event": "x", "distinct_id": ""}, "no distinct_id"),
        ({"event": "x", "distinct_id": "y" * 201}, "no distinct_id"),
        ({"distinct_id": "v"}, "no name"),
        ({"event": 5, "distinct_id": "v"}, "no name"),
        ({"event": "$snapshot", "distinct_id": "v"}, "replay is off"),
        ({"event": "$groupidentify", "distinct_id": "v"}, "groups are not kept"),
    ],
    ids=str,
)
def test_what_is_no_event_is_dropped_alone(event: Any, cause: str) -> None:
    """Its neighbours are taken."""
    batch = decode([PAGE, event, {**PAGE, "uuid": "01a3"}])
    assert [one.id for one in batch.events] == ["01a2", "01a3"]
    assert [(one.index, one.cause) for one in batch.dropped] == [(1, cause)]


@pytest.mark.parametrize("value", [None, 7, "text", True])
def test_a_body_that_is_no_batch_is_refused(value: Any) -> None:
    """As a whole."""
    with pytest.raises(Unacceptable):
        decode(value)


def event_at(event: dict[str, Any], **around: Any) -> int:
    return decode({"batch": [{"event": "x", "distinct_id": "v", **event}], **around}).events[0].at


MINUTE = 60 * MICROS
SLOW = {"timestamp": "2026-11-22T09:59:00Z"}


@pytest.mark.parametrize(
    ("event", "around", "at"),
    [
        ({"timestamp": "2026-11-22T11:59:00Z"}, {}, NOW - MINUTE),
        ({"timestamp": "2026-11-22T11:59:00"}, {}, NOW - MINUTE),
        ({"timestamp": "2026-11-22T11:59:00Z"}, {"sent_at": "2026-11-22T11:59:50Z"}, NOW - MINUTE),
        (SLOW, {"sent_at": "2026-11-22T10:00:00Z"}, NOW - MINUTE),
        (SLOW, {"sentAt": "2026-11-22T10:00:00Z"}, NOW - MINUTE),
        ({**SLOW, "sent_at": "2026-11-22T10:00:00Z"}, {}, NOW - MINUTE),
        (SLOW, {}, NOW - 121 * MINUTE),
        (SLOW, {"sent_at": "nonsense"}, NOW - 121 * MINUTE),
        (SLOW, {"sent_at": "9" * 5_000}, NOW - 121 * MINUTE),
        ({**SLOW, "properties": {"$ignore_sent_at": True}}, {"sent_at": "2026-11-22T10:00:00Z"}, NOW - 121 * MINUTE),
        (
            {**SLOW, "options": {"disable_skew_correction": True}},
            {"sent_at": "2026-11-22T10:00:00Z"},
            NOW - 121 * MINUTE,
        ),
        ({"timestamp": "2026-11-22T13:59:00Z"}, {"sent_at": "2026-11-22T14:00:00Z"}, NOW - MINUTE),
        ({"timestamp": "2027-01-01T00:00:00Z"}, {}, NOW),
        ({"offset": 60_000}, {}, NOW - MINUTE),
        ({"offset": 60_000}, {"sent_at": "2026-11-22T10:00:00Z"}, NOW - MINUTE),
        ({"offset": -5}, {}, NOW),
        ({"timestamp": 1_795_340_000}, {}, NOW),
        ({"timestamp": "yesterday"}, {}, NOW),
        ({}, {}, NOW),
    ],
)
def test_moments(event: dict[str, Any], around: dict[str, Any], at: int) -> None:
    """By the client's clock, corrected where that is wrong by more than the network explains; never in the future."""
    assert event_at(event, **around) == at


def test_the_clock_in_the_query_of_old_libraries() -> None:
    """`_` is the browser's time in milliseconds."""
    milliseconds = str((NOW - 120 * MINUTE) // 1_000)
    assert decode([{**PAGE, "timestamp": "2026-11-22T09:59:00Z"}], sent_at=milliseconds).events[0].at == NOW - MINUTE


def test_a_library_without_ids_is_given_some() -> None:
    """Posthog for Python 3.5: the same event tried again has the same id, another one has another."""
    old = {"event": "x", "distinct_id": "v", "timestamp": "2026-11-22T11:59:00Z", "context": {}, "properties": {"a": 1}}
    first = decode({"api_key": "k", "batch": [old], "sentAt": "2026-11-22T11:59:01Z"})
    again = decode({"api_key": "k", "batch": [old], "sentAt": "2026-11-22T11:59:09Z"})
    other = decode({"api_key": "k", "batch": [{**old, "properties": {"a": 2}}]})
    assert first.events[0].id == again.events[0].id != other.events[0].id
    assert first.uuids == [None]
    assert len({event.id for event in decode([old, old]).events}) == 2


def test_what_is_set_of_a_person_may_stand_in_two_places() -> None:
    """Both are kept together."""
    event = {"event": "$set", "distinct_id": "v", "$set": {"a": 1}, "properties": {"$set": {"b": 2}}}
    assert decode([event]).events[0].properties["$set"] == {"a": 1, "b": 2}


def test_the_newest_form_names_its_library_in_a_header() -> None:
    """It is a server's, though the event does not say so, and the session stands beside the event."""
    event = {"event": "x", "distinct_id": "v", "uuid": "u", "session_id": "s", "window_id": "w", "properties": {}}
    (decoded,) = decode({"batch": [event]}, library="posthog-python/7.91.1", token="k").events
    assert decoded.is_server
    assert (decoded.session_id, decoded.window_id) == ("s", "w")
    assert decoded.properties == {"$lib": "posthog-python", "$lib_version": "7.91.1"}


def test_old_events_may_be_sent_on_purpose() -> None:
    """A batch that says so is an import, whose events are not late."""
    assert decode({"batch": [PAGE], "historical_migration": True}).is_import
    assert not decode({"batch": [PAGE]}).is_import
