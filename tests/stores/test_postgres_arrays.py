"""Large parameters arrive as they were handed in: every text, every microsecond."""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta

import psycopg
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.clock import utc
from lastseen.stores.postgres.arrays import FLOATS, TEXTS, float8_array, floats, joined
from lastseen.stores.postgres.database import _cursor
from tests.servers import PostgresServer

CONTROLS = "".join(map(chr, range(1, 32)))
ODD_TEXTS = [
    ["a"],
    [""],
    ["", ""],
    ["", "a", ""],
    ["a\x1fb", "c"],
    ["\x1f"],
    [CONTROLS, "a"],
    ['"', "\\", "{}", "NULL", "a,b", "čaj-☕", " ", "\U0001f600"],
    [str(number) for number in range(5_000)],
]
ASK_TEXTS = f"SELECT array_agg(key) FROM (SELECT {TEXTS} AS key) AS rows"
ASK_MICROS = (
    f"SELECT array_agg((extract(epoch FROM to_timestamp(at)) * 1000000)::bigint) FROM (SELECT {FLOATS} AS at) AS r"
)

LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["psycopg", "psycopg2"])
def cursor(request: pytest.FixtureRequest, postgres: PostgresServer):  # type: ignore[no-untyped-def] # of either driver
    connect = {"psycopg": psycopg.connect, "psycopg2": psycopg2.connect}[request.param]
    connection = connect(postgres.url)
    yield _cursor(connection)
    connection.close()


@pytest.mark.parametrize("texts", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_texts_arrive_whole_and_in_order(cursor, texts: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Empty texts, quotes, and what might separate them come out as they went in."""
    cursor.execute(ASK_TEXTS, joined(texts))
    assert cursor.fetchall() == [(texts,)]


@given(st.lists(st.text("ab\x1f\x01\x02", max_size=4), min_size=1))
def test_the_separator_is_in_no_text(texts: list[str]) -> None:
    """Taken apart by what is said to separate them, the texts are the same again."""
    whole, separator = joined(texts)
    assert whole.split(separator) == texts


def test_moments_keep_their_microseconds(cursor) -> None:  # type: ignore[no-untyped-def]
    """A moment in whole microseconds, from 1970 to 2100, is the same moment when the server has made it of seconds."""
    step, moments = (LATEST - utc(0)) / 4_999, list[datetime]()
    while len(moments) < 5_000:
        moments.append(utc(0) + len(moments) * step + timedelta(microseconds=len(moments) % 1_000))
    cursor.execute(ASK_MICROS, (floats(cursor, [moment.timestamp() for moment in moments]),))
    micros = [(moment - utc(0)) // timedelta(microseconds=1) for moment in moments]
    assert cursor.fetchall() == [(micros,)]


def test_the_control_sees_a_lost_microsecond(cursor) -> None:  # type: ignore[no-untyped-def]
    """Beyond 2250 or so a double no longer tells every microsecond, and the comparison shows it."""
    moments = [datetime(2600, 1, 1, 0, 0, 0, number, UTC) for number in range(1, 1_000)]
    cursor.execute(ASK_MICROS, (floats(cursor, [moment.timestamp() for moment in moments]),))
    assert cursor.fetchall() != [([(moment - utc(0)) // timedelta(microseconds=1) for moment in moments],)]


def test_an_array_is_what_the_driver_itself_would_write() -> None:
    """Byte for byte the same as the driver's own list of doubles."""
    from psycopg.adapt import PyFormat, Transformer

    numbers = [0.0, -1.5, 1e300, 1_700_000_000.123456]
    written = Transformer().get_dumper(numbers, PyFormat.BINARY).dump(numbers)
    assert float8_array(array("d", numbers)) == written
