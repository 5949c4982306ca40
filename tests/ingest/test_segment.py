"""Whom Segment's libraries speak for."""

from __future__ import annotations

from typing import Any

import pytest

from lastseen.ingest.origin import Origin
from lastseen.ingest.segment import decode_segment
from lastseen.visits.event import Device
from lastseen.visits.making import RawEvent

NOW = 1_795_348_800_000_000
ORIGIN = Origin(received_at=NOW, address="192.0.2.7", user_agent="okhttp/4.12.0")
ANDROID = {
    "device": {"id": "d", "manufacturer": "Google", "model": "Pixel 8", "name": "shiba", "type": "android"},
    "os": {"name": "Android", "version": "15"},
    "screen": {"width": 1080, "height": 2400, "density": 2.6},
}
WEB_VIEW = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
)


def message(library: Any, context: dict[str, Any] | None = None, origin: Origin = ORIGIN) -> RawEvent:
    context = dict(context or {})
    if library is not None:
        context["library"] = {"name": library, "version": "1"}
    item = {"type": "screen", "name": "Home", "anonymousId": "a", "messageId": "m", "context": context}
    (event,) = decode_segment({"batch": [item]}, origin).events
    return event


@pytest.mark.parametrize(
    "library",
    [
        "analytics-ios",
        "analytics-android",
        "analytics-swift",
        "analytics-kotlin",
        "@segment/analytics-react-native",
        "analytics-react-native",
        "analytics-flutter",
    ],
)
def test_a_telephone_is_its_persons(library: str) -> None:
    """Its address is the visitor's, its system is known, and what carries the request is neither browser nor robot."""
    event = message(library, ANDROID)
    assert (event.name, event.is_server, event.address, event.user_agent) == ("$screen", False, "192.0.2.7", None)
    assert event.device == Device(type="mobile", os="Android", os_version="15", screen_resolution="1080x2400")


@pytest.mark.parametrize(
    "library", ["analytics-python", "analytics-node", "analytics-kotlin", None, 7, [], {}], ids=str
)
def test_a_server_is_not(library: Any) -> None:
    """The negative control; the library for Kotlin is one where it names no device."""
    event = message(library)
    assert (event.is_server, event.address, event.user_agent, event.device) == (True, None, None, None)


def test_a_browser_has_its_own_user_agent() -> None:
    """As before: nothing is said of its device but that."""
    origin = Origin(received_at=NOW, address="192.0.2.7", user_agent="Mozilla/5.0")
    event = message("analytics.js", origin=origin)
    assert (event.is_server, event.address, event.user_agent, event.device) == (False, "192.0.2.7", "Mozilla/5.0", None)


def test_a_web_view_of_a_telephone_is_kept() -> None:
    """It tells what the library does not."""
    event = message("analytics-swift", {"userAgent": WEB_VIEW, "os": {"name": "iPadOS", "version": 18.1}})
    assert event.user_agent == WEB_VIEW
    assert event.device == Device(type="tablet", os="iPadOS", os_version="18.1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"os": 7},
        {"os": {"name": [], "version": {}}},
        {"screen": {"width": "x"}},
        {"screen": {"width": 1e400, "height": 1}},
    ],
    ids=str,
)
def test_what_is_no_device_is_none(wrong: dict[str, Any]) -> None:
    """Whatever a library says of it."""
    assert message("analytics-ios", wrong).device == Device()


@pytest.mark.parametrize("kind", [None, 7, [], ["track"], {}, "groups"], ids=str)
def test_what_is_no_message_does_not_spoil_the_others(kind: Any) -> None:
    """Whatever stands in the place of the kind, it is dropped alone."""
    good = {"type": "track", "event": "e", "anonymousId": "a"}
    batch = decode_segment({"batch": [good, {**good, "type": kind}, good]}, ORIGIN)
    assert (len(batch.events), [(one.index, one.cause) for one in batch.dropped]) == (2, [(1, "not an event")])
