"""What is a line of activity, and what is not."""

from __future__ import annotations

import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.cli.lines import MAX_LINE, BadLine, BrokenFile, decompressed, parse_activity, read_lines

LATEST = 2_000_000_000.0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"client_id": "till-7", "at": 1000}', ("till-7", 1000.0)),
        (b'{"client_id": "till-7", "at": 1000.25, "more": [1, {}]}', ("till-7", 1000.25)),
        (b'{"at": "2026-01-31T12:00:00Z", "client_id": "a"}', ("a", 1_769_860_800.0)),
        (b'{"at": "2026-01-31 13:00:00+01:00", "client_id": "a"}', ("a", 1_769_860_800.0)),
        (b'{"client_id": "a", "at": 1769860800000}', ("a", 1_769_860_800.0)),
        (b'{"client_id": "a", "at": 1769860800000.5}', ("a", 1_769_860_800.0005)),
        (b'{"client_id": "a", "at": 1769860800000001}', ("a", 1_769_860_800.000001)),
        (b'{"client_id": "a", "at": 1769860800000000000}', ("a", 1_769_860_800.0)),
        (b'{"client_id": 42, "at": 0}', ("42", 0.0)),
        (b'{"client_id": 7.10, "at": 0}', ("7.10", 0.0)),
        ('{"client_id": "Kühlraum 雪", "at": 1}'.encode(), ("Kühlraum 雪", 1.0)),
        (b'{"client_id": "' + b"x" * 255 + b'", "at": 1}', ("x" * 255, 1.0)),
    ],
)
def test_a_line_names_a_client_and_a_moment(line: bytes, expected: tuple[str, float]) -> None:
    """A moment is ISO 8601 with an offset, or seconds or parts of them; a number as id is its text as written."""
    assert parse_activity(line, LATEST) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"client,at", "not JSON"),
        (b'{"client_id": "a", "at": 1', "not JSON"),
        (b"\xff\xfe\x00\x01\x02binary", "not JSON"),
        (b'{"client_id": "\xff", "at": 1}', "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"client_id": "a", "at": NaN}', "not JSON"),
        (b'{"client_id": "a", "at": ' + b"9" * 400 + b"}", "seconds since 1970 or ISO 8601"),
        (b'["a", 1]', "not an object"),
        (b'"a"', "not an object"),
        (b'{"at": 1}', "client_id is missing"),
        (b'{"client_id": null, "at": 1}', "client_id is missing"),
        (b'{"client_id": "a"}', "at is missing"),
        (b'{"client_id": true, "at": 1}', "client_id must be a text or a number"),
        (b'{"client_id": ["a"], "at": 1}', "client_id must be a text or a number"),
        (b'{"client_id": "a", "at": {}}', "at must be a text or a number"),
        (b'{"client_id": "", "at": 1}', "client_id must not be empty"),
        (b'{"client_id": "a\\u0000b", "at": 1}', "control characters"),
        (b'{"client_id": "\\ud800", "at": 1}', "JSON|surrogates"),
        (b'{"client_id": "' + b"x" * 10_000 + b'", "at": 1}', "at most 255"),
        (b'{"client_id": "a", "at": "2026-01-31T12:00:00"}', "no offset"),
        (b'{"client_id": "a", "at": "2026-01-31"}', "no offset"),
        (b'{"client_id": "a", "at": "yesterday"}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": ""}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": -1}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": "1969-12-31T23:59:59Z"}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": "0001-01-01T00:00:00+14:00"}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": 2000000001}', "in the future: 2000000001 would be 2033-05-18"),
        (b'{"client_id": "a", "at": 2000000001000}', "in the future: 2000000001000 would be 2033-05-18"),
        (b'{"client_id": "a", "at": 99999999999999999999}', "in the future"),
        (b'{"client_id": "a", "at": 100000000000000000000}', "seconds since 1970 or ISO 8601"),
        (b'{"client_id": "a", "at": "2999-01-01T00:00:00Z"}', "in the future"),
        (None, "longer than 64 KiB"),
    ],
)
def test_a_bad_line_says_why(line: bytes | None, reason: str) -> None:
    """Whatever is no activity is refused with a reason."""
    with pytest.raises(BadLine, match=reason):
        parse_activity(line, LATEST)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["client_id", "at", "x"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_line_raises_anything_else(line: bytes) -> None:
    """Any bytes and any JSON are an activity or a `BadLine`."""
    try:
        client_id, at = parse_activity(line, LATEST)
    except BadLine:
        return
    assert 1 <= len(client_id) <= 255
    assert 0 <= at <= LATEST


def test_lines_are_numbered_and_empty_ones_left_out() -> None:
    """Windows line ends and a byte order mark are taken off, the last line needs no end, and numbers are the file's."""
    stream = io.BytesIO(b"\xef\xbb\xbfone\r\n\n  \nfour")
    assert list(read_lines(stream)) == [(1, b"one"), (4, b"four")]


def test_a_line_without_end_takes_no_memory() -> None:
    """A line over the limit comes out as None, once, and the next line is whole."""
    stream = io.BufferedReader(io.BytesIO(b"a" * MAX_LINE + b"\n" + b"b" * (3 * MAX_LINE) + b"\nlast\n"))
    assert list(read_lines(stream)) == [(1, b"a" * MAX_LINE), (2, None), (3, b"last")]


@pytest.mark.parametrize("content", [b"", b"{", b"\x1f", b"one\ntwo\n", b"\x1fplain\n"])
def test_plain_bytes_stay_as_they_are(content: bytes) -> None:
    """Only the two bytes of gzip make a stream gzip."""
    assert decompressed(io.BytesIO(content)).read() == content


def test_gzip_members_follow_each_other() -> None:
    """Files joined with cat are one stream, as gzip itself reads them."""
    joined = gzip.compress(b"one\n") + gzip.compress(b"two\n")
    assert list(read_lines(decompressed(io.BytesIO(joined)))) == [(1, b"one"), (2, b"two")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-3],
        lambda data: data[:-6] + b"\0\0\0\0\0\0",
        lambda _: b"\x1f\x8bnonsense",
    ],
)
def test_damaged_gzip_is_told_apart(damage: object) -> None:
    """Cut short, with a wrong checksum or no gzip at all: the lines before it come out, then `BrokenFile`."""
    data = gzip.compress(b"".join(b"line %d\n" % number for number in range(20_000)))
    lines = read_lines(decompressed(io.BytesIO(damage(data))))  # type: ignore[operator]
    with pytest.raises(BrokenFile):
        for _ in lines:
            pass
