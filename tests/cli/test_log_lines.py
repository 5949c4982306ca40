"""The lines of access logs, in every form."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.cli.lines import MAX_LINE, BadLine
from lastseen.cli.log_lines import Request, parse_request
from lastseen.cli.log_reading import LineReader, LogOptions, read_chunks
from lastseen.clock import to_micros
from tests.visits.test_making import SITE

AT = to_micros(datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC))
WHOLE = Request(
    address="203.0.113.7",
    at=AT,
    method="GET",
    target="/a?b=1",
    status=200,
    referrer="https://example.net/",
    user_agent='Firefox "128"',
    host="example.org",
)
PLAIN = Request(address="203.0.113.7", at=AT, method="GET", target="/a?b=1", status=200)
TIME = "[01/Mar/2026:10:00:05 +0100]"
FORMS = {
    "common": (f'203.0.113.7 - - {TIME} "GET /a?b=1 HTTP/1.1" 200 17', PLAIN),
    "common, nothing sent": (f'203.0.113.7 - ann {TIME} "GET /a?b=1 HTTP/1.1" 200 -', PLAIN),
    "combined": (f'203.0.113.7 - - {TIME} "GET /a?b=1 HTTP/2.0" 200 17 "-" "-"', PLAIN),
    "a user with a blank": (f'203.0.113.7 - ann lee {TIME} "GET /a?b=1 HTTP/1.1" 200 17 "" ""', PLAIN),
    "virtual host": (
        (
            f'example.org:443 203.0.113.7 - - {TIME} "GET /a?b=1 HTTP/1.1" 200 17 "https://example.net/" '
            r'"Firefox \"128\""'
        ),
        WHOLE,
    ),
    "virtual host in hexadecimal": (
        (
            f'example.org 203.0.113.7 - - {TIME} "GET /a?b=1 HTTP/1.1" 200 17 "https://example.net/" '
            r'"Firefox \x22128\x22" 0.003 cached'
        ),
        WHOLE,
    ),
    "behind two proxies": (f'203.0.113.7, 10.0.0.1 - - {TIME} "GET /a?b=1 HTTP/1.1" 200 17 "-" "-"', PLAIN),
    "HTTP/0.9": (f'203.0.113.7 - - {TIME} "GET /a?b=1" 200 17', PLAIN),
    "nginx": (
        (
            '{"time_iso8601":"2026-03-01T10:00:05+01:00","remote_addr":"203.0.113.7","request":"GET /a?b=1 HTTP/1.1",'
            '"status":"200","http_referer":"https://example.net/","http_user_agent":"Firefox \\"128\\"",'
            '"host":"example.org"}'
        ),
        WHOLE,
    ),
    "Caddy": (
        (
            '{"ts":1772355605.0,"request":{"remote_ip":"10.0.0.1","client_ip":"203.0.113.7","method":"GET",'
            '"host":"example.org:443","uri":"/a?b=1","headers":{"User-Agent":["Firefox \\"128\\""],'
            '"Referer":["https://example.net/"]}},"status":200}'
        ),
        WHOLE,
    ),
    "Traefik": (
        (
            '{"ClientHost":"203.0.113.7","StartUTC":"2026-03-01T09:00:05Z","RequestMethod":"GET","RequestPath":"/a?b=1",'
            '"DownstreamStatus":200,"RequestHost":"example.org","request_Referer":"https://example.net/",'
            '"request_User-Agent":"Firefox \\"128\\""}'
        ),
        WHOLE,
    ),
    "milliseconds of nginx": (
        (
            '{"msec":"1772355605.000","remote_addr":"203.0.113.7","request_method":"GET","request_uri":"/a?b=1",'
            '"status":"200","http_referer":"-"}'
        ),
        PLAIN,
    ),
    "whole milliseconds": (
        '{"ts":1772355605000,"remote_addr":"203.0.113.7","method":"GET","uri":"/a?b=1","status":200}',
        PLAIN,
    ),
    "nanoseconds": (
        '{"ts":1772355605000000000,"remote_addr":"203.0.113.7","method":"GET","uri":"/a?b=1","status":200}',
        PLAIN,
    ),
}


@pytest.mark.parametrize(("line", "request_"), FORMS.values(), ids=FORMS.keys())
def test_forms(line: str, request_: Request) -> None:
    """Every form says the same."""
    assert parse_request(line.encode()) == request_


BAD = {
    "a quote is missing": f'203.0.113.7 - - {TIME} "GET / HTTP/1.1" 200 17 "-" "Firefox',
    "no log at all": "hello",
    "no such month": '203.0.113.7 - - [01/Foo/2026:10:00:05 +0100] "GET / HTTP/1.1" 200 17 "-" "-"',
    "no such day": '203.0.113.7 - - [31/Feb/2026:10:00:05 +0100] "GET / HTTP/1.1" 200 17 "-" "-"',
    "no such second": '203.0.113.7 - - [01/Mar/2026:10:00:61 +0100] "GET / HTTP/1.1" 200 17 "-" "-"',
    "no offset": '203.0.113.7 - - [01/Mar/2026:10:00:05] "GET / HTTP/1.1" 200 17 "-" "-"',
    "broken JSON": '{"time',
    "JSON without an address": '{"time_iso8601":"2026-03-01T10:00:05Z","request":"GET / HTTP/1.1","status":200}',
    "JSON without an offset": '{"time":"2026-03-01T10:00:05","ip":"a","request":"GET / HTTP/1.1","status":200}',
    "JSON without a status": '{"ts":1,"remote_addr":"a","request":"GET / HTTP/1.1"}',
    "JSON with a strange time": '{"ts":[1],"remote_addr":"a","request":"GET / HTTP/1.1","status":200}',
    "JSON with a time of no year": '{"ts":1e20,"remote_addr":"a","request":"GET / HTTP/1.1","status":200}',
    "JSON with an endless time": '{"ts":1e999,"remote_addr":"a","request":"GET / HTTP/1.1","status":200}',
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_bad_lines(line: str) -> None:
    """What is not understood is refused in one line."""
    with pytest.raises(BadLine) as raised:
        parse_request(line.encode())
    assert "\n" not in str(raised.value)
    with pytest.raises(BadLine):
        parse_request(line.encode(), page_views_only=True)


def test_escaped_bytes_are_utf_8() -> None:
    """Servers write bytes beyond ASCII in hexadecimal: together they are the letter, else they are kept apart."""
    request = parse_request(rf'1.2.3.4 - - {TIME} "GET /\xc3\xbcber?\xff HTTP/1.1" 200 1 "-" "-"'.encode())
    assert request is not None
    assert request.target == r"/über?\xff"


def test_a_mark_of_byte_order_is_no_part_of_the_first_line() -> None:
    """Windows' editors put one there; anywhere else it is kept."""
    mark = "\ufeff".encode()
    assert list(read_chunks(io.BytesIO(mark + b"a\n" + mark + b"b\n"))) == [(1, b"a\n" + mark + b"b\n")]


def test_a_line_that_was_too_long() -> None:
    """It is refused unseen."""
    with pytest.raises(BadLine, match="longer than 64 KiB"):
        parse_request(None)


@pytest.mark.parametrize(
    ("method", "target", "status", "is_one"),
    [
        ("GET", "/", 200, True),
        ("GET", "/a.html?x=b.png", 206, True),
        ("GET", "/v1.2/notes", 200, True),
        ("GET", "/style.CSS?v=1", 200, False),
        ("GET", "/robots.txt", 200, False),
        ("GET", "/", 304, False),
        ("GET", "/", 404, False),
        ("POST", "/", 200, False),
        ("HEAD", "/", 200, False),
    ],
)
def test_page_views(method: str, target: str, status: int, is_one: bool) -> None:
    """A GET, answered with success, for no asset; telling quickly tells the same."""
    line = f'203.0.113.7 - - {TIME} "{method} {target} HTTP/1.1" {status} 17 "-" "-"'.encode()
    request = parse_request(line)
    assert request is not None
    assert request.is_page_view is is_one
    quick = parse_request(line, page_views_only=True)
    assert quick == (request if is_one else None)


@pytest.mark.parametrize("first", [".", ":", "a.", "0"])
def test_a_long_line_is_refused_as_soon_as_a_short_one(first: str) -> None:
    """Who sends that for the address of a proxy keeps no import busy: looked at from every place it took hours."""
    line = f'{first * 30_000}, x - - {TIME} "GET / HTTP/1.1" 200 17 "-" "-"'.encode()
    for _ in range(100):
        with pytest.raises(BadLine):
            parse_request(line[:MAX_LINE])


@given(st.binary(max_size=300))
def test_any_bytes(line: bytes) -> None:
    """A line is a request or a bad line, whatever its bytes; nothing else is raised."""
    for text in (line, b'{"request":' + line, b"1.2.3.4 - - " + line, b"{" + line + b"}"):
        try:
            parse_request(text)
        except BadLine:
            continue


@given(
    st.dictionaries(
        st.sampled_from(["ts", "time", "request", "status", "remote_addr", "method", "uri", "host", "headers"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
    )
)
def test_any_json(fields: dict[str, object]) -> None:
    """The same for JSON with members of any type."""
    import json

    try:
        parse_request(json.dumps(fields).encode())
    except BadLine:
        return


PERSON = f'203.0.113.7 - - {TIME} "GET /a HTTP/1.1" 200 9 "-" "Firefox/128"'
GROWING = {
    "common": f'203.0.113.7 - - {TIME} "GET / HTTP/1.1" 200 3437',
    "combined": PERSON,
    "with a time": f"{PERSON} 0.003",
    "with another quoted": f'{PERSON} "192.0.2.1"',
    "JSON": FORMS["Caddy"][0],
}


@pytest.mark.parametrize("line", GROWING.values(), ids=GROWING.keys())
def test_half_a_line_is_no_line(line: str) -> None:
    """Wherever a log that is being written is cut, its last line is taken whole or not at all."""
    reader = LineReader(SITE, LogOptions(latest=2**62))
    whole = reader.read(1, f"{line}\n".encode()).events
    assert len(whole) == 1
    for length in range(len(line) + 1):
        chunks = read_chunks(io.BytesIO(f"{line}\n{line[:length]}".encode()))
        found = [event for number, chunk in chunks for event in reader.read(number, chunk).events]
        assert found in (whole, whole * 2)
        assert length == len(line) or found == whole


def test_a_last_line_without_a_line_feed_is_taken_where_it_is_whole() -> None:
    """The negative control: quoted to its end as the line before, or JSON, or the only line of a log."""
    reader = LineReader(SITE, LogOptions(latest=2**62))
    for text, count in ((f"{PERSON}\n{PERSON}", 2), (PERSON, 1), (GROWING["JSON"], 1), (GROWING["common"], 0)):
        chunks = read_chunks(io.BytesIO(text.encode()))
        assert sum(len(reader.read(number, chunk).events) for number, chunk in chunks) == count
