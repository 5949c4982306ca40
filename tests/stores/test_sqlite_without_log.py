"""A file that can have no write-ahead log: who writes waits for those who read."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen.errors import StoreUnavailable
from lastseen.stores.sqlite.database import SQLiteDatabase


def without_log(file: Path, deadline: timedelta) -> SQLiteDatabase:
    """Open a file as where there is no log, with a table."""
    database = SQLiteDatabase(file, deadline=deadline)
    with database.write() as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")
    assert database._connection("write").execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    return database


def test_a_commit_waits_for_readers(tmp_path: Path) -> None:
    """It took them for a failure; whoever reads for too long is one."""
    database = without_log(tmp_path / "numbers.db", timedelta(seconds=30))
    with closing(sqlite3.connect(tmp_path / "numbers.db", check_same_thread=False, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
        is_done = threading.Event()

        def write() -> None:
            with database.write() as connection:
                connection.execute("INSERT INTO numbers VALUES (1)")
                # What follows within the block is the commit.
                threading.Thread(target=stop_reading).start()
            is_done.set()

        def stop_reading() -> None:
            # A reader that comes now finds the writer waiting for the first one: then that may go.
            with closing(sqlite3.connect(tmp_path / "numbers.db", timeout=0)) as other:
                while True:
                    try:
                        other.execute("SELECT count(*) FROM numbers").fetchall()
                    except sqlite3.OperationalError:
                        break
            reader.execute("ROLLBACK")

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(30)
        assert is_done.is_set()
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
    database.close()


def test_a_reader_that_stays_makes_the_database_unavailable(tmp_path: Path) -> None:
    """After the deadline, and nothing is written."""
    database = without_log(tmp_path / "numbers.db", timedelta(seconds=0.2))
    with closing(sqlite3.connect(tmp_path / "numbers.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM numbers").fetchone()
        with pytest.raises(StoreUnavailable), database.write() as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
        reader.execute("ROLLBACK")
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
    database.close()
