"""How SQLite's columns keep moments."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastseen.activity.updates import Updates
from lastseen.clock import utc
from lastseen.stores.sqlite.database import SQLiteDatabase
from lastseen.stores.sqlite.recorder import SQLiteTableRecorder
from lastseen.stores.sqlite.times import REAL_SECONDS, SECONDS, TEXT, TimeFormat
from lastseen.stores.table import ActivityTable, WriteMode

FORMATS = [pytest.param(kept, id=kept.name) for kept in (TEXT, SECONDS, REAL_SECONDS)]
TABLE = ActivityTable(table="seen", key_column="key", time_column="at", mode=WriteMode.UPSERT)
JUST_BEFORE = 1_769_860_800 - 2**-22


@pytest.mark.parametrize("kept", FORMATS)
@given(at=st.floats(min_value=0, max_value=utc(0).replace(year=9999).timestamp()))
@example(at=JUST_BEFORE)
@example(at=0.9999995)
@example(at=0.0000005)
@example(at=1.0000015)
def test_seconds_are_kept_as_their_datetime_is(kept: TimeFormat, at: float) -> None:
    """To the microsecond, rounded alike, also up to the next second."""
    assert kept.encode_seconds(at) == kept.encode(utc(at))


@pytest.mark.parametrize("column", ["TEXT", "INTEGER", "REAL"])
def test_a_batch_of_seconds_and_one_of_datetimes_write_the_same(tmp_path: Path, column: str) -> None:
    """Whoever writes a mapping of its own, and the tracker; with more rows than one statement takes."""
    batch = Updates.of({f"key {number:02}": JUST_BEFORE + number / 7 for number in range(21)}, 2e9)
    written = []
    for name, updates in (("seconds", batch), ("datetimes", dict(batch.items()))):
        database = SQLiteDatabase(tmp_path / f"{name}.db", deadline=timedelta(seconds=5))
        with database.write() as connection:
            connection.execute(f"CREATE TABLE seen (key TEXT PRIMARY KEY, at {column})")
        recorder = SQLiteTableRecorder(database, TABLE)
        assert (recorder.batch_record_activity(updates), recorder.batch_record_activity(updates)) == (21, 0)
        with database.read() as connection:
            written.append(connection.execute("SELECT key, at FROM seen ORDER BY key").fetchall())
        database.close()
    assert written[0] == written[1]
    assert len(written[0]) == 21
