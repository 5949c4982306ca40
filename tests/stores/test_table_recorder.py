"""Recorders for tables that the application already has, in PostgreSQL and in SQLite."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lastseen import (
    ActivityRecorder,
    ActivityTable,
    ActivityTracker,
    InvalidData,
    SchemaError,
    WriteMode,
    table_recorder,
)
from lastseen.errors import ConfigurationError
from lastseen.testing import ActivityRecorderContract, moment, updates
from tests.servers import ask

WEIRD = ActivityTable(table='my "100%" table', key_column="the key", time_column="%s {time}", mode=WriteMode.UPSERT)


class PostgresTable:
    """A table in PostgreSQL whose every name needs quoting."""

    columns = '"the key" text PRIMARY KEY, "%s {time}" timestamptz'
    mode = WriteMode.UPSERT

    @pytest.fixture
    def recorder(self, postgres_url: str) -> ActivityRecorder:
        self.url = postgres_url
        ask(postgres_url, f'CREATE TABLE "my ""100%"" table" ({self.columns})')
        return table_recorder(postgres_url, of_mode(self.mode), pool_size=4)

    def stored(self, recorder: Any, key: str) -> datetime | None:
        rows = ask(self.url, 'SELECT "%%s {time}" FROM "my ""100%%"" table" WHERE "the key" = %s', [key])
        return in_utc(rows[0][0]) if rows else None

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        ask(self.url, 'INSERT INTO "my ""100%%"" table" VALUES (%s, %s)', [key, at])


class SQLiteTable:
    """The same table in SQLite."""

    columns = '"the key" TEXT PRIMARY KEY, "%s {time}" TIMESTAMP'
    mode = WriteMode.UPSERT

    @pytest.fixture
    def recorder(self, tmp_path: Path) -> ActivityRecorder:
        self.path = tmp_path / "app.db"
        self.run(f'CREATE TABLE "my ""100%"" table" ({self.columns})')
        return table_recorder(f"sqlite:///{self.path}", of_mode(self.mode))

    def stored(self, recorder: Any, key: str) -> datetime | None:
        rows = self.run('SELECT "%s {time}" FROM "my ""100%"" table" WHERE "the key" = ?', key)
        return recorder.time_format.decode(rows[0][0]) if rows else None

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        self.run('INSERT INTO "my ""100%"" table" VALUES (?, ?)', key, recorder.time_format.encode(at))

    def run(self, statement: str, *parameters: object) -> list[Any]:
        connection = sqlite3.connect(self.path)
        with connection:
            rows = connection.execute(statement, parameters).fetchall()
        connection.close()
        return rows


def of_mode(mode: WriteMode) -> ActivityTable:
    return ActivityTable(table=WEIRD.table, key_column=WEIRD.key_column, time_column=WEIRD.time_column, mode=mode)


def in_utc(stored: datetime) -> datetime:
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


class TestPostgresUpsert(PostgresTable, ActivityRecorderContract):
    pass


class TestPostgresUpdateOnly(PostgresTable, ActivityRecorderContract):
    mode = WriteMode.UPDATE_ONLY
    upserts = False


class TestPostgresTimestampWithoutZone(PostgresTable, ActivityRecorderContract):
    columns = '"the key" varchar(255) PRIMARY KEY, "%s {time}" timestamp'

    def insert(self, recorder: Any, key: str, at: datetime) -> None:
        super().insert(recorder, key, at.replace(tzinfo=None))


class TestSQLiteUpsert(SQLiteTable, ActivityRecorderContract):
    pass


class TestSQLiteUpdateOnly(SQLiteTable, ActivityRecorderContract):
    mode = WriteMode.UPDATE_ONLY
    upserts = False


class TestSQLiteSeconds(SQLiteTable, ActivityRecorderContract):
    columns = '"the key" TEXT PRIMARY KEY, "%s {time}" INTEGER'
    precision = timedelta(seconds=1)


class TestSQLiteSecondsWithFraction(SQLiteTable, ActivityRecorderContract):
    columns = '"the key" TEXT UNIQUE, "%s {time}" REAL'


@pytest.fixture(params=["postgres", "sqlite"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """Return a database of either kind, and how to run a statement in it."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        yield url, lambda statement: ask(url, statement)
        return
    connection = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    yield f"sqlite:///{tmp_path}/app.db", lambda statement: connection.execute(statement).fetchall()
    connection.close()


def test_what_is_missing_is_named_at_once(tables: tuple[str, Any]) -> None:
    """A recorder for a table, column or unique key that is not there is refused when it is made, by name."""
    url, run = tables
    with pytest.raises(SchemaError, match=r"no table .*users"):
        table_recorder(url, ActivityTable(table="users"))
    run("CREATE TABLE users (id integer, email varchar(20), last_seen_at timestamp)")
    for table, problem in [
        (ActivityTable(table="users", key_column="uid"), "no column uid; it has email, id, last_seen_at"),
        (ActivityTable(table="users", time_column="seen"), "no column seen"),
        (ActivityTable(table="users", mode=WriteMode.UPSERT), "id of table .*users.* needs a unique key"),
    ]:
        with pytest.raises(SchemaError, match=problem) as caught:
            table_recorder(url, table)
        assert "lastseen migrate" not in str(caught.value)
    run("CREATE UNIQUE INDEX partly ON users (id) WHERE id > 5")
    run("CREATE UNIQUE INDEX pair ON users (id, email)")
    with pytest.raises(SchemaError, match="unique key"):
        table_recorder(url, ActivityTable(table="users", mode=WriteMode.UPSERT))
    run("CREATE UNIQUE INDEX one ON users (id)")
    table_recorder(url, ActivityTable(table="users", mode=WriteMode.UPSERT))


def test_names_are_never_run(tables: tuple[str, Any]) -> None:
    """A name that ends the statement and begins another is only the name of nothing."""
    url, run = tables
    run("CREATE TABLE users (id integer PRIMARY KEY, last_seen_at timestamp)")
    for name in ('users"; DROP TABLE users; --', "users; DROP TABLE users", "users'"):
        with pytest.raises(SchemaError):
            table_recorder(url, ActivityTable(table=name))
        with pytest.raises(SchemaError):
            table_recorder(url, ActivityTable(table="users", time_column=name))
    with pytest.raises(ConfigurationError):
        ActivityTable(table="us\0ers")
    assert run("SELECT count(*) FROM users")[0][0] == 0


def test_what_was_deleted_stays_deleted(tables: tuple[str, Any]) -> None:
    """Update only: an empty time counts as older, an unknown key is ignored, and a deleted row is not resurrected."""
    url, run = tables
    run("CREATE TABLE users (id integer PRIMARY KEY, last_seen_at timestamp)")
    run("INSERT INTO users (id) VALUES (1), (2)")
    tracker = ActivityTracker(table_recorder(url, ActivityTable(table="users")))
    tracker.record("1", moment())
    tracker.record("2", moment())
    run("DELETE FROM users WHERE id = 2")
    tracker.record("3", moment())
    result = tracker.flush()
    assert (result.updated_count, result.batch_size, result.poison) == (1, 3, ())
    assert tracker.close() == 0
    assert [row[0] for row in run("SELECT id FROM users WHERE last_seen_at IS NOT NULL")] == [1]


def test_one_poison_key_costs_no_other(postgres_url: str) -> None:
    """A key that is no number stands alone in the end; the other 99 are written."""
    ask(postgres_url, "CREATE TABLE users (id bigint PRIMARY KEY, last_seen_at timestamptz)")
    ask(postgres_url, "INSERT INTO users SELECT generate_series(0, 98)")
    tracker = ActivityTracker(table_recorder(postgres_url, ActivityTable(table="users")))
    for number in range(99):
        tracker.record(str(number), moment())
    tracker.record("no number", moment())
    result = tracker.flush()
    assert (result.updated_count, result.poison) == (99, ("no number",))
    assert tracker.close() == 0


@pytest.mark.parametrize(
    ("key_type", "spellings"),
    [
        ("bigint", ["1", "01", " 1"]),
        ("uuid", ["6f0c1f2e-0000-4000-8000-00000000000a", "6F0C1F2E-0000-4000-8000-00000000000A"]),
        ("char(5)", ["ab", "ab ", "ab  "]),
        ("varchar(5)", ["ab"]),
        ("numeric", ["1.0", "1"]),
    ],
)
@pytest.mark.parametrize("mode", list(WriteMode))
def test_keys_of_other_types(postgres_url: str, key_type: str, spellings: list[str], mode: WriteMode) -> None:
    """Text is cast to the key's type; several spellings of one key in a batch move its row once, to the latest time."""
    ask(postgres_url, f"CREATE TABLE things (id {key_type} PRIMARY KEY, last_seen_at timestamptz)")
    ask(postgres_url, f"INSERT INTO things (id) VALUES ('{spellings[0]}')")
    recorder = table_recorder(postgres_url, ActivityTable(table="things", mode=mode))
    batch = {spelling: moment(number) for number, spelling in enumerate(sorted(spellings))}
    assert recorder.batch_record_activity(batch) == 1
    assert ask(postgres_url, "SELECT last_seen_at FROM things") == [(moment(len(spellings) - 1),)]


def test_a_value_too_long_is_not_cut(postgres_url: str) -> None:
    """A key that does not fit is refused, not shortened to another key."""
    ask(postgres_url, "CREATE TABLE things (id varchar(3) PRIMARY KEY, last_seen_at timestamptz)")
    recorder = table_recorder(postgres_url, ActivityTable(table="things", mode=WriteMode.UPSERT))
    with pytest.raises(InvalidData, match="too long"):
        recorder.batch_record_activity(updates("abcd"))


def test_the_search_path_and_the_schema_option(postgres_url: str) -> None:
    """Without a schema the search path finds the table; with one, only that schema's table is meant."""
    ask(postgres_url, "CREATE SCHEMA app")
    for schema in ("public", "app"):
        ask(postgres_url, f"CREATE TABLE {schema}.users (id text PRIMARY KEY, last_seen_at timestamptz)")
        ask(postgres_url, f"INSERT INTO {schema}.users VALUES ('a')")
    for table, expected in [
        (ActivityTable(table="users"), [None, moment()]),
        (ActivityTable(table="users", schema="app"), [moment(), moment()]),
    ]:
        table_recorder(postgres_url, table).batch_record_activity(updates("a"))
        query = "SELECT last_seen_at FROM app.users UNION ALL SELECT last_seen_at FROM public.users"
        assert [row[0] for row in ask(postgres_url, query)] == expected
    by_path = table_recorder(f"{postgres_url}?options=-csearch_path%3Dapp", ActivityTable(table="users"))
    by_path.batch_record_activity(updates("a", at=moment(1)))
    assert ask(postgres_url, "SELECT last_seen_at FROM app.users") == [(moment(1),)]
    with pytest.raises(SchemaError, match=r'no table "nowhere"\."users"'):
        table_recorder(postgres_url, ActivityTable(table="users", schema="nowhere"))


def test_a_column_of_milliseconds(postgres_url: str) -> None:
    """The time is rounded before it is compared, so a retry finds nothing newer and rewrites nothing."""
    ask(postgres_url, "CREATE TABLE things (id text PRIMARY KEY, last_seen_at timestamptz(3))")
    recorder = table_recorder(postgres_url, ActivityTable(table="things", mode=WriteMode.UPSERT))
    for microseconds in (123_456, 123_501):
        batch = {"a": moment(microseconds=microseconds)}
        assert [recorder.batch_record_activity(batch) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("time_type", ["date", "bigint", "text", "time"])
def test_other_time_types_are_refused(postgres_url: str, time_type: str) -> None:
    """A column that cannot hold a moment is refused when the recorder is made, with the types that can."""
    ask(postgres_url, f"CREATE TABLE users (id text PRIMARY KEY, last_seen_at {time_type})")
    with pytest.raises(SchemaError, match="activity needs timestamp with time zone"):
        table_recorder(postgres_url, ActivityTable(table="users"))


def test_a_recorder_that_nobody_needs_any_more_leaves_nothing_open(tmp_path: Path) -> None:
    """A recorder for a file has no `close`; its connections end with it, also when its table was refused."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, last_seen_at TIMESTAMP)")
    with pytest.raises(SchemaError):
        table_recorder(f"sqlite:///{path}", ActivityTable(table="others"))
    recorder = table_recorder(f"sqlite:///{path}", ActivityTable(table="users", mode=WriteMode.UPSERT))
    assert recorder.batch_record_activity(updates("a")) == 1
    assert set(tmp_path.iterdir()) > {path}
    del recorder
    gc.collect()
    # The last connection to close takes the write-ahead log with it.
    assert set(tmp_path.iterdir()) == {path}
