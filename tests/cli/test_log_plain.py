"""The quick way of reading lines against the slow one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.cli import log_plain
from lastseen.cli.log_reading import LineReader, LogOptions, ReadChunk
from lastseen.visits.site import Site
from tests.cli import logs
from tests.visits.test_making import SITE

LINES = logs.LOG.read_bytes().splitlines()
LATEST = 1_431_900_000_000_000
"""In the midst of the log: what comes later lies in the future."""
PIECES = [
    b"",
    b" ",
    b"  ",
    b"-",
    b'"',
    b"\\",
    b"\t",
    b"\r",
    b"\xff",
    "ü".encode(),
    b"200",
    b"999",
    b"099",
    b"1",
    b"[",
    b"]",
]
PIECES += [
    b"GET ",
    b"POST ",
    b" HTTP/1.1",
    b".png",
    b"?utm_source=a&gclid=b",
    b":60",
    b":99",
    b"/Foo/",
    b"+0100",
    b"1969",
    b"{}",
]


@contextmanager
def slowly() -> Iterator[None]:
    """Do without the quick way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_plain, "is_plain", lambda _text: False)
        yield


def readers(site: Site = SITE) -> list[LineReader]:
    """Return a reader of page views, and one of everything up to a moment in the midst of the log."""
    options = (
        LogOptions(host="semicomplete.com", latest=2**62),
        LogOptions(all_requests=True, latest=LATEST, bots="declared"),
    )
    return [LineReader(site, each) for each in options]


QUICK, SLOW = readers(), readers()


def both(chunk: bytes) -> list[tuple[ReadChunk, ReadChunk]]:
    """Return what the lines say, read quickly and slowly."""
    quick = [reader.read(1, chunk) for reader in QUICK]
    with slowly():
        return list(zip(quick, [reader.read(1, chunk) for reader in SLOW], strict=True))


def test_a_real_log_says_the_same_in_both_ways() -> None:
    """Events and bad lines of ten thousand lines are the same, most of them read quickly."""
    chunk = b"\n".join([*LINES, b""])
    for quick, slow in both(chunk):
        assert quick == slow
        assert quick.lines == len(LINES)
    taken = [QUICK[0]._plain.events(line) for line in LINES]
    assert sum(each is not None for each in taken) > len(LINES) * 9 // 10


@given(
    st.integers(0, len(LINES) - 1),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), st.sampled_from(PIECES))),
)
def test_whatever_becomes_of_a_line_it_says_the_same_in_both_ways(
    number: int, changes: list[tuple[int, int, bytes]]
) -> None:
    """Pieces put in or taken out anywhere: the same event, the same reason why it is bad, or nothing."""
    line = LINES[number]
    for place, length, piece in changes:
        line = line[:place] + piece + line[place + length :]
    for quick, slow in both(line + b"\n"):
        assert quick == slow


@pytest.mark.parametrize(
    "time", ["31/Dec/1969:23:59:59 +0000", "01/Jan/1970:00:30:00 +0100", "01/Jan/0001:00:00:00 +2300"]
)
def test_what_lies_before_1970_is_no_time(time: str) -> None:
    """Nothing was logged then; a moment before the year 1 could be saved, and never be shown."""
    line = f'1.2.3.4 - - [{time}] "GET / HTTP/1.1" 200 1 "-" "x"\n'
    first = '1.2.3.4 - - [01/Jan/1970:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x"\n'
    for quick, slow in both((first + line).encode()):
        assert quick == slow
        assert [event.at for event in quick.events] == [0]
        assert quick.bad_lines == [(2, "its time lies before 1970")]


def test_one_change_after_the_other_says_the_same_in_both_ways() -> None:
    """Each piece at each place of a line."""
    chance = random.Random(7)
    line = LINES[0]
    lines = [line[:place] + piece + line[place + 1 :] for place in range(len(line)) for piece in PIECES]
    chance.shuffle(lines)
    for quick, slow in both(b"\n".join(lines)):
        assert quick == slow
        assert quick.bad_lines


def test_the_comparison_finds_a_reader_that_takes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick way that does not look whether a line is plain is found out."""
    monkeypatch.setattr(log_plain, "is_plain", lambda _text: True)
    line = LINES[0].replace(b"GET /", b"GET /\\x22/", 1)
    line += b"\n"
    broken = readers()[1].read(1, line)
    assert broken.events
    with slowly():
        assert readers()[1].read(1, line) != broken
