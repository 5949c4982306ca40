"""Rows out of the pages of a SQLite file: all that SQLite wrote is found, and no bytes make it fail."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.ingest.salvage import CHECKSUM, PAGE, Row, candidates

# Where a record no longer fits a page, and where what stands in its cell begins anew.
BORDERS = [1, 50, 63, 64, 127, 128, 4_040, 4_041, 4_042, 4_043, 4_044, 4_045, 4_046, 4_047, 4_048, 4_049, 4_050, 4_080]
LENGTHS = [*BORDERS, *(length + 4_092 for length in BORDERS), 8_192, 16_370, 16_384, 100_000, 300_000]
NUMBERS = [1, 2, 127, 128, 16_383, 16_384, 2**31, 2**49, 2**62]


def row(number: int, length: int) -> Row:
    return Row(number, number.to_bytes(CHECKSUM), bytes((number + place) % 251 for place in range(length)))


def written(path: Path, rows: list[Row]) -> bytes:
    """Let SQLite write rows; return the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, checksum BLOB NOT NULL, payload BLOB NOT NULL)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        connection.commit()
    return path.read_bytes()


def test_every_row_is_found_whatever_its_length(tmp_path: Path) -> None:
    """Also those that go over several pages, and in a tree of several levels."""
    rows = [row(number, length) for number, length in enumerate(LENGTHS * 3, 1)]
    data = written(tmp_path / "db", rows)
    assert set(rows) <= set(candidates(data))


def test_every_row_is_found_whatever_its_number(tmp_path: Path) -> None:
    """Numbers take one byte to nine."""
    rows = [row(number, 30) for number in NUMBERS]
    assert set(rows) <= set(candidates(written(tmp_path / "db", rows)))


def test_pages_are_found_that_no_other_page_names(tmp_path: Path) -> None:
    """Neither the schema nor the root of the table is needed."""
    rows = [row(number, 200) for number in range(1, 200)]
    data = bytearray(written(tmp_path / "db", rows))
    data[: 2 * PAGE] = bytes(2 * PAGE)
    assert set(rows) <= set(candidates(bytes(data)))


def test_what_is_left_of_a_page_is_read(tmp_path: Path) -> None:
    """A leaf is filled from its end: the first rows are lost with that, the last are there."""
    rows = [row(number, 200) for number in range(1, 11)]
    data = written(tmp_path / "db", rows)
    assert len(data) == 2 * PAGE
    found = set(candidates(data[:-500]))
    assert set(rows[3:]) <= found
    assert not set(rows[:2]) & found


def test_a_chain_of_pages_that_leads_back_ends(tmp_path: Path) -> None:
    """A page that names itself as the next one gives no more bytes than the row has."""
    data = bytearray(written(tmp_path / "db", [row(1, 20_000)]))
    for page in range(3, len(data) // PAGE + 1):
        data[(page - 1) * PAGE : (page - 1) * PAGE + 4] = page.to_bytes(4)
    assert [len(found.payload) for found in candidates(bytes(data))] == [20_000]
    assert row(1, 20_000) not in candidates(bytes(data))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a small file."""
    return written(
        tmp_path_factory.mktemp("some") / "db", [row(number, 700) for number in range(1, 9)] + [row(9, 9_000)]
    )


@given(place=st.integers(0), new=st.binary(min_size=1, max_size=40), size=st.integers(0, 8 * PAGE))
def test_no_bytes_make_it_fail(some: bytes, place: int, new: bytes, size: int) -> None:
    """Whatever stands in a file, and wherever it ends."""
    place %= len(some)
    data = (some[:place] + new + some[place + len(new) :])[:size]
    for found in candidates(data):
        assert len(found.checksum) <= CHECKSUM
        assert len(found.payload) <= len(data)
