"""The product's own form of events."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Unacceptable
from lastseen.ingest.own import MAX_EVENTS, Received, decode_events, decode_form, decode_lines
from lastseen.ingest.times import MICROS

NOW = 1_795_348_800 * MICROS
ORIGIN = Origin(received_at=NOW, address="192.0.2.7", user_agent="Mozilla/5.0")
VIEW = {"name": "$pageview", "distinct_id": "v1", "at": "2026-11-22T11:59:00Z", "url": "https://shop.test/a"}


def decode(value: Any) -> Received:
    return decode_events(json.dumps(value).encode(), ORIGIN)


@pytest.mark.parametrize("value", [VIEW, [VIEW], {"events": [VIEW]}], ids=["one", "an array", "under events"])
def test_every_form_gives_the_same_event(value: Any) -> None:
    """An object, an array and `{"events": […]}` say the same."""
    received = decode(value)
    assert received.dropped == []
    (event,) = received.events
    assert (event.name, event.distinct_id, event.url) == ("$pageview", "v1", "https://shop.test/a")
    assert event.at == NOW - 60 * MICROS
    assert event.received_at == NOW
    assert (event.address, event.user_agent) == ("192.0.2.7", "Mozilla/5.0")
    assert received.events == decode_lines(json.dumps(value).encode(), ORIGIN).events


def test_lines() -> None:
    """One event a line; a line that is none is dropped with its number, the others stay."""
    lines = [json.dumps({**VIEW, "id": "1"}), "", "{broken", json.dumps({**VIEW, "id": "2"}), "[]", '{"name": ""}']
    received = decode_lines("\n".join(lines).encode(), ORIGIN)
    assert [event.id for event in received.events] == ["1", "2"]
    assert [(one.index, one.cause) for one in received.dropped] == [(1, "malformed"), (3, "malformed"), (4, "no name")]


def lines_with(*keys: Any) -> bytes:
    lines = [{**VIEW, "id": str(number)} | ({"write_key": key} if key else {}) for number, key in enumerate(keys)]
    return "\r\n".join(map(json.dumps, lines)).encode()


@pytest.mark.parametrize(
    "keys", [("wk_1", None), (None, "wk_1", None), ("wk_1", "wk_1")], ids=["first", "any", "every"]
)
def test_lines_may_name_the_key(keys: tuple[Any, ...]) -> None:
    """The first, any or every one of them; also one that takes a closer look."""
    for body in (lines_with(*keys), lines_with(*keys).replace(b'"$pageview"', rb'"a\u0000"')):
        received = decode_lines(body, ORIGIN)
        assert received.write_key == "wk_1"
        assert [event.id for event in received.events] == [str(number) for number in range(len(keys))]


@pytest.mark.parametrize("key", ["wk_2", "wk_\ud800"], ids=["plain", "no text"])
def test_lines_of_two_sites_are_noted(key: str) -> None:
    """Nobody can say whose the lines without a key are; unless what stands around them goes first."""
    received = decode_lines(lines_with("wk_1", None, key), ORIGIN)
    assert (received.write_key, received.other_key, len(received.events)) == ("wk_1", True, 3)


KEYED = [("wk_1",), ("wk_1", None), (None, "wk_1", None), ("wk_1", "wk_1")]


def array_with(keys: tuple[Any, ...], event: dict[str, Any] = VIEW) -> list[dict[str, Any]]:
    return [{**event, "id": str(number), "write_key": key} for number, key in enumerate(keys)]


@pytest.mark.parametrize("keys", KEYED, ids=["only", "first", "any", "every"])
@pytest.mark.parametrize("around", [None, {}, {"write_key": "wk_1"}], ids=["array", "events", "and beside"])
@pytest.mark.parametrize(
    "event", [VIEW, {**VIEW, "name": "a\0"}, {**VIEW, "url": 7}], ids=["plain", "with NUL", "malformed"]
)
def test_the_events_of_an_array_may_name_the_key(
    keys: tuple[Any, ...], around: dict[str, Any] | None, event: dict[str, Any]
) -> None:
    """As lines may: the first, any or every one of them, with one beside them or without, and bad ones too."""
    events = array_with(keys, event)
    received = decode(events if around is None else {**around, "events": events})
    assert (received.write_key, received.other_key) == ("wk_1", False)
    assert len(received.events) + len(received.dropped) == len(keys)


def test_a_bad_event_may_name_the_key_of_the_others() -> None:
    """What is wrong with it is told of its own, not that there is no key."""
    received = decode([{**VIEW, "url": 7, "write_key": "wk_1"}, VIEW])
    assert (received.write_key, len(received.events), len(received.dropped)) == ("wk_1", 1, 1)


@pytest.mark.parametrize(
    "body",
    [
        array_with(("wk_1", None, "wk_2")),
        {"events": array_with(("wk_1", "wk_2"))},
        {"write_key": "wk_1", "events": array_with((None, "wk_2"))},
        [{"write_key": "wk_1", "name": 7}, *array_with(("wk_2",))],
    ],
    ids=["array", "events", "beside", "malformed"],
)
def test_an_array_for_two_sites_is_noted(body: Any) -> None:
    """As lines for two are."""
    received = decode(body)
    assert (received.write_key, received.other_key) == ("wk_1", True)


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


ONE, TWO = json.dumps({**VIEW, "id": "a+b & c"}), "\n".join([json.dumps(VIEW)] * 2)


@pytest.mark.parametrize(
    ("body", "key", "count"),
    [
        (form(data=ONE), None, 1),
        (form(payload=ONE, write_key="wk_1"), "wk_1", 1),
        (form(write_key="wk_1", data=json.dumps({"write_key": "wk_1", "events": [VIEW, VIEW]})), "wk_1", 2),
        (form(data=json.dumps(array_with(("wk_1", None)), indent=2)), "wk_1", 2),
        (form(data=TWO, more="x"), None, 2),
        (ONE.encode(), None, 1),
        (TWO.encode(), None, 2),
    ],
    ids=["data", "payload", "events", "indented", "lines", "no form at all", "lines called a form"],
)
def test_a_form_holds_json(body: bytes, key: str | None, count: int) -> None:
    """As one of two fields, with the key beside it or in it; what is called a form and is JSON is JSON."""
    received = decode_form(body, ORIGIN)
    assert (received.write_key, len(received.events), received.dropped) == (key, count, [])
    if count == 1:
        assert received.events[0].id == "a+b & c"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "neither data nor payload"),
        (form(name="$pageview"), "neither data nor payload"),
        (form(data="x"), "not JSON"),
        (b"a=1&" * 10_000, "more than 100 fields"),
        (b"data=%ff%fe", "not JSON"),
    ],
    ids=["empty", "no data", "no JSON", "many fields", "no text"],
)
def test_a_form_that_holds_none_is_refused(body: bytes, reason: str) -> None:
    """With what to send."""
    with pytest.raises(Unacceptable, match=reason) as caught:
        decode_form(body, ORIGIN)
    assert caught.value.status == 400


def test_a_form_for_two_sites_is_noted() -> None:
    """As lines for two are."""
    received = decode_form(form(data=json.dumps({**VIEW, "write_key": "wk_1"}), write_key="wk_2"), ORIGIN)
    assert (received.write_key, received.other_key) == ("wk_1", True)


@pytest.mark.parametrize("ids", [False, True], ids=["none", "ids"])
def test_events_without_a_moment_happened_in_the_order_in_which_they_were_sent(ids: bool) -> None:
    """One after the other and the last on arrival, whatever their ids are; the others at their own moments."""
    sent = [{"name": f"step {number}", **({"id": f"{300 - number:03d}"} if ids else {})} for number in range(300)]
    moments = [event.at for event in decode([*sent[:100], VIEW, *sent[100:]]).events]
    assert moments.pop(100) == NOW - 60 * MICROS
    assert moments == list(range(NOW - 299, NOW + 1))


def test_the_senders_clock_says_nothing_of_what_has_no_moment() -> None:
    """One that is an hour ahead moves what it timed."""
    body = {"sent_at": "2026-11-22T13:00:00Z", "events": [{"name": "a"}, {"name": "b", "at": "2026-11-22T12:58:00Z"}]}
    assert [event.at for event in decode(body).events] == [NOW, NOW - 120 * MICROS]


@pytest.mark.parametrize("value", [VIEW, [VIEW, VIEW], {"events": [VIEW]}], ids=["one", "an array", "under events"])
def test_indented_json_may_come_as_text(value: Any) -> None:
    """Text is read by lines, but for JSON whose first line is a bracket alone."""
    assert decode_lines(json.dumps(value, indent=2).encode(), ORIGIN) == decode(value)


def test_the_key_and_the_senders_clock_stand_beside_the_events() -> None:
    """A clock that is an hour slow is corrected by what it said when it sent."""
    received = decode(
        {"write_key": "wk_1", "sent_at": "2026-11-22T11:00:00Z", "events": [{**VIEW, "at": "2026-11-22T10:59:30Z"}]}
    )
    assert received.write_key == "wk_1"
    assert received.events[0].at == NOW - 30 * MICROS


def test_what_is_no_screen_and_no_address_is_left_out() -> None:
    """Both are remembered with the visit or to find the place again, so neither may be as long as a body."""
    wrong, right = decode(
        [{**VIEW, "screen": "1" * 21, "ip": "1" * 101}, {**VIEW, "screen": "1920x1080", "ip": "192.0.2.9"}]
    ).events
    assert (wrong.screen, right.screen, right.address) == (None, "1920x1080", "192.0.2.9")
    assert wrong.address != "1" * 101


def test_the_future_is_now() -> None:
    """No event is later than its arrival."""
    assert decode({**VIEW, "at": "2027-01-01T00:00:00Z"}).events[0].at == NOW


def nested(depth: int) -> list[Any]:
    """Return so many arrays in each other."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_what_is_nested_a_hundred_times_is_taken() -> None:
    """The bound is above whatever a program means."""
    assert decode({**VIEW, "properties": {"a": nested(100)}}).events[0].properties == {"a": nested(100)}


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"name": ""}, "no name"),
        ({"name": None}, "malformed"),
        ({"name": 7}, "malformed"),
        ({"at": "yesterday"}, "no moment"),
        ({"at": {}}, "malformed"),
        ({"distinct_id": "x" * 201}, "bad id"),
        ({"distinct_id": []}, "malformed"),
        ({"properties": []}, "malformed"),
        ({"properties": {"a": nested(101)}}, "nested too deep"),
        ({"url": 7}, "malformed"),
        ({"engaged_ms": "long"}, "malformed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_one_wrong_event_does_not_spoil_the_others(wrong: dict[str, Any], cause: str) -> None:
    """It is dropped with its place and a reason; what stands before and behind it is taken."""
    received = decode([{**VIEW, "id": "a"}, {**VIEW, **wrong}, {**VIEW, "id": "b"}])
    assert [event.id for event in received.events] == ["a", "b"]
    assert [(one.index, one.cause) for one in received.dropped] == [(1, cause)]
    assert received.dropped[0].reason


@pytest.mark.parametrize("body", [b"", b"nothing", b"7", b'"text"', b"null", b"[" * 50_000, b'{"events": "x"'])
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    """As a whole, with 400."""
    with pytest.raises(Unacceptable) as caught:
        decode_events(body, ORIGIN)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "too_many", [[VIEW] * (MAX_EVENTS + 1), [*[VIEW] * MAX_EVENTS, 7]], ids=["good", "with a bad one"]
)
def test_a_request_has_a_limit(too_many: list[Any]) -> None:
    """Ten thousand events are taken, one more are not."""
    assert len(decode([VIEW] * MAX_EVENTS).events) == MAX_EVENTS
    with pytest.raises(Unacceptable) as caught:
        decode(too_many)
    assert caught.value.status == 413


def test_ids_may_be_numbers() -> None:
    """As those of a database's rows are: the number as it is written."""
    (event,) = decode({**VIEW, "id": 7, "session_id": 8, "window_id": 9, "distinct_id": 10, "user_id": 11}).events
    ids = (event.id, event.session_id, event.window_id, event.distinct_id, event.user_id)
    assert ids == ("7", "8", "9", "10", "11")
    assert decode({**VIEW, "id": 10**300}).events[0].id == decode({**VIEW, "id": 10**300}).events[0].id


@pytest.mark.parametrize("body", [json.dumps(VIEW), json.dumps([VIEW]), TWO], ids=["one", "an array", "lines"])
def test_a_mark_of_byte_order_is_no_part_of_a_body(body: str) -> None:
    """Programs of Windows write one before their first line."""
    assert decode_lines(body.encode("utf-8-sig"), ORIGIN) == decode_lines(body.encode(), ORIGIN)


def test_an_id_is_made_of_the_content() -> None:
    """The same event sent again has the same id; another has another; the same twice in one request are two."""
    once, again = (
        decode(VIEW).events[0],
        decode_events(json.dumps(VIEW).encode(), Origin(received_at=NOW + 9)).events[0],
    )
    assert once.id == again.id
    assert decode({**VIEW, "url": "https://shop.test/b"}).events[0].id != once.id
    twice = decode([VIEW, VIEW])
    assert len({event.id for event in twice.events}) == 2
    assert [event.id for event in decode([VIEW, VIEW]).events] == [event.id for event in twice.events]


def test_made_ids_are_in_the_order_of_their_moments() -> None:
    """So that a database appends them to its index, whatever else the events say."""
    hours = [
        {**VIEW, "at": f"2026-11-22T{hour:02}:00:00Z", "url": f"https://shop.test/{hour * 7919}"} for hour in range(12)
    ]
    ids = [event.id or "" for event in decode(hours).events]
    assert ids == sorted(set(ids))


def test_without_a_moment_a_repetition_is_another_event() -> None:
    """Nothing tells the two apart, and an event too many is better than one that is lost."""
    click = {"name": "click", "distinct_id": "v1"}
    earlier = decode_events(json.dumps(click).encode(), Origin(received_at=NOW - 1)).events[0]
    assert decode(click).events[0].id != earlier.id
    assert decode(click).events[0].at == NOW


def test_an_application_speaks_for_its_visitors() -> None:
    """A server's own address and program are not the visitor's; what it names counts."""
    silent = decode({**VIEW, "server": True}).events[0]
    assert (silent.is_server, silent.address, silent.user_agent) == (True, None, None)
    named = decode({**VIEW, "server": True, "ip": "198.51.100.4", "user_agent": "Firefox"}).events[0]
    assert (named.address, named.user_agent) == ("198.51.100.4", "Firefox")


def test_text_that_cannot_be_stored_is_replaced() -> None:
    """NUL and half characters become replacement characters, in names, ids and properties."""
    body = rb'[{"name": "a\u0000b", "distinct_id": "v\ud800", "properties": {"k\u0000": ["\udfff"]}}]'
    (event,) = decode_events(body, ORIGIN).events
    assert (event.name, event.distinct_id, event.properties) == ("a\ufffdb", "v\ufffd", {"k\ufffd": ["\ufffd"]})
    (event,) = decode_lines(body[1:-1] + b"\n" + body[1:-1], ORIGIN).events[1:]
    assert event.name == "a\ufffdb"


def test_numbers_are_ids_too() -> None:
    """An application that counts its users sends numbers."""
    event = decode({**VIEW, "distinct_id": 42, "user_id": 7}).events[0]
    assert (event.distinct_id, event.user_id) == ("42", "7")


@pytest.mark.parametrize(
    ("engaged", "kept"),
    [
        ("1500", 1_500),
        ("0.9", 0),
        ("86399999", 86_399_999),
        ("86400000", 0),
        ("1e308", 0),
        ("1e999", 0),
        ("9" * 400, 0),
        ("NaN", 0),
        ("-Infinity", 0),
        ("-1", 0),
        ("null", 0),
    ],
    ids=lambda value: str(value)[:10],
)
def test_a_page_is_used_for_less_than_a_day(engaged: str, kept: int) -> None:
    """More, and what is no number, counts as nothing; the event is taken."""
    body = b'{"name": "$pageleave", "distinct_id": "v", "engaged_ms": %s}' % engaged.encode()
    for received in (decode_events(body, ORIGIN), decode_lines(body + b"\n" + body, ORIGIN)):
        assert {event.engaged_ms for event in received.events} == {kept}
        assert received.dropped == []


def test_an_id_that_is_too_long_still_makes_a_repetition_harmless() -> None:
    """It is replaced by one made of it alone: the same again is the same event, whatever else it says."""
    event = decode({**VIEW, "id": "x" * 200}).events[0]
    assert event.id == "x" * 200
    replaced = decode({**VIEW, "id": "x" * 201}).events[0].id
    assert replaced == decode({**VIEW, "id": "x" * 201, "at": "2026-11-22T11:58:00Z"}).events[0].id
    assert replaced != decode({**VIEW, "id": "x" * 202}).events[0].id
    assert replaced is not None
    assert len(replaced) <= 200
    assert decode({**VIEW, "id": "  "}).events[0].id == decode(VIEW).events[0].id
