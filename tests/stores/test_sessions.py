"""The stores on a database keep the contract of login sessions, and what only a database can break."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from lastseen import ActivityTracker, StoreUnavailable
from lastseen.errors import SessionNotFound, SessionRefused, UnknownUser
from lastseen.sessions.manager import Presented, SessionManager, activity_tracking
from lastseen.sessions.policy import SessionPolicy
from lastseen.sessions.store import SessionLimit, SessionStore
from lastseen.sessions.token import digest_of, new_token
from lastseen.stores import Store, open_store
from lastseen.stores.migrations import load_migrations
from lastseen.testing import ManualClock, SessionStoreContract, moment
from lastseen.testing.sessions import Login
from tests.servers import PostgresServer, ask

HOUR = timedelta(hours=1)

COUNT_WRITES = """
CREATE TABLE counted (at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO counted DEFAULT VALUES; RETURN NULL; END';
CREATE TRIGGER counted BEFORE INSERT OR UPDATE OR DELETE ON login_sessions FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER counted BEFORE INSERT OR UPDATE OR DELETE ON lastseen_users FOR EACH STATEMENT EXECUTE FUNCTION note();
"""

FORKING = """
import os, sys
from lastseen.stores import open_store
from lastseen.testing import moment
from lastseen.testing.sessions import Login

store = open_store(sys.argv[1])
store.migrate()
login = Login(store.sessions, store.sessions.upsert_user("provider|alice", moment()))
child = os.fork()
if child == 0:
    found = store.sessions.find_session(login.digest) == login.session
    os.write(1, b"child found it\\n" if found else b"child lost it\\n")
    os._exit(0)
os.waitpid(child, 0)
if store.sessions.find_session(login.digest) == login.session:
    os.write(1, b"parent found it\\n")
store.close()
"""


class TestSQLiteSessions(SessionStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SessionStore]:
        store = open_store(f"sqlite:///{tmp_path}/sessions.db")
        store.migrate()
        yield store.sessions
        store.close()


class TestPostgresSessions(SessionStoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SessionStore]:
        store = open_store(postgres_url)
        store.migrate()
        yield store.sessions
        store.close()


SOURCES = ["psycopg pool", "psycopg2 engine", "autocommit engine", "repeatable read engine", "sqlite engine"]


@pytest.fixture(params=SOURCES)
def lent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Make a store on connections that the application has, with unusual defaults where it has some."""
    with ExitStack() as stack:
        if request.param == "sqlite engine":
            source: Any = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/engine.db")
            stack.callback(source.dispose)
        else:
            source = stack.enter_context(_source(request.param, request.getfixturevalue("postgres_url")))
        store = open_store(source)
        store.migrate()
        yield store


@contextmanager
def _source(kind: str, url: str) -> Iterator[Any]:
    if kind == "psycopg pool":
        with ConnectionPool(url, kwargs={"row_factory": dict_row}, min_size=1, open=False) as pool:
            yield pool
        return
    driver = "psycopg2" if kind == "psycopg2 engine" else "psycopg"
    levels = {"autocommit engine": "AUTOCOMMIT", "repeatable read engine": "REPEATABLE READ"}
    engine = sqlalchemy.create_engine(
        url.replace("postgresql:", f"postgresql+{driver}:"), isolation_level=levels.get(kind, "READ COMMITTED")
    )
    yield engine
    engine.dispose()


def test_sessions_on_the_applications_own_connections(lent: Store) -> None:
    """One walk through everything, whatever the application made the default of its connections."""
    clock, sessions = ManualClock(), lent.sessions
    limit = SessionLimit(most=2)
    manager = SessionManager(sessions, clock=clock, limit=limit, tracking=activity_tracking())
    user_id = sessions.upsert_user("provider|alice", clock.utc())
    assert sessions.upsert_user("provider|alice", clock.utc()) == user_id
    first = manager.sign_in(user_id, device="Firefox")
    second = manager.sign_in(user_id, device="Safari", presented=first.token)
    clock.advance(minutes=55)
    assert manager.authenticate(second.token, refresh=True).extended
    third = manager.reauthenticate(second.token)
    assert manager.authenticate(second.token).presented is Presented.UNKNOWN
    clock.advance(minutes=1)
    assert manager.authenticate(third.token).session == third.session
    assert manager.tracker is not None
    assert manager.tracker.flush().updated_count == 1
    assert [session.last_activity_at for session in manager.sessions_of(user_id)] == [clock.utc()]
    assert manager.revoke_all(user_id) == 1
    assert manager.close() == 0
    assert manager.prune() == 0


def test_ending_all_is_not_overlooked_under_repeatable_read(postgres_url: str) -> None:
    """A login and the end of all sessions in the same instant: one of them may have to try again, but nobody stays."""
    with _source("repeatable read engine", postgres_url) as engine:
        store = open_store(engine)
        store.migrate()
        user_id = store.sessions.upsert_user("provider|alice", moment())
        for number in range(10):
            with ThreadPoolExecutor(2) as threads:
                login = threads.submit(_login, store, user_id, number)
                end = threads.submit(_end_all, store, user_id, number)
            login.result()
            if not end.result():
                assert _end_all(store, user_id, number)
            assert store.sessions.list_sessions(user_id, moment(number)) == []


def _login(store: Store, user_id: str, at: int) -> None:
    with suppress(StoreUnavailable, SessionRefused):
        Login(store.sessions, user_id, at=at)


def _end_all(store: Store, user_id: str, at: int) -> bool:
    try:
        store.sessions.delete_user_sessions(user_id, moment(at))
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
def test_what_cannot_be_stored_is_not_found(any_store: Store, text: str) -> None:
    """An id from an address may be anything; it is as unknown as any other."""
    sessions = any_store.sessions
    assert sessions.get_session(text) is None
    assert sessions.get_user(text) is None
    assert sessions.list_sessions(text, moment()) == []
    assert sessions.delete_user_sessions(text, moment()) == 0
    assert sessions.batch_record_activity({text: moment()}) == 0  # type: ignore[attr-defined] # both record
    with pytest.raises(SessionNotFound):
        sessions.extend_session(text, moment() + HOUR, moment())
    with pytest.raises(SessionNotFound):
        sessions.rotate_session(text, digest_of(new_token()), digest_of(new_token()), moment())
    with pytest.raises(SessionNotFound):
        sessions.delete_session(text)
    with pytest.raises(SessionNotFound):
        sessions.delete_session("session", user_id=text)
    with pytest.raises(UnknownUser):
        Login(sessions, text)


def test_a_session_survives_the_server(postgres: PostgresServer, postgres_url: str) -> None:
    """While the server is away every question is an error, never "not found"; afterwards the session is there."""
    store = open_store(postgres_url)
    store.migrate()
    clock = ManualClock()
    manager = SessionManager(store.sessions, clock=clock)
    issued = manager.sign_in(store.sessions.upsert_user("provider|alice", clock.utc()))
    postgres.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            manager.authenticate(issued.token)
        with pytest.raises(StoreUnavailable):
            manager.sign_out(issued.token)
    postgres.start()
    assert manager.authenticate(issued.token).session == issued.session
    postgres.restart()
    assert manager.authenticate(issued.token).session == issued.session
    assert manager.sign_out(issued.token)
    store.close()


def test_ten_thousand_sessions_are_two_statements(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Recorded as one batch, or through a tracker: two statements of 5,000, and each session gets its own time."""
    sessions: Any = any_store.sessions
    user_id = sessions.upsert_user("provider|alice", moment())
    Login(sessions, user_id)
    numbers = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9999)"
    postgres = not any_store.address.startswith("sqlite")
    name, digest = ("lpad(n::text, 5, '0')", "decode(md5(n::text), 'hex')") if postgres else ("printf('%05d', n)", "n")
    run(
        f"INSERT INTO login_sessions {'' if postgres else numbers} SELECT {name}, {digest}, user_id, idle_deadline, "
        "absolute_deadline, created_at, authenticated_at, last_activity_at, credential_kind, device, address, label "
        f"FROM login_sessions, {'generate_series(0, 9999) AS n' if postgres else 'n'}"
    )
    batch = {f"{number:05}": moment(1 + number / 1_000) for number in range(10_000)}
    with _updates_counted(any_store, run) as count:
        assert sessions.batch_record_activity(batch) == 10_000
        assert count() == 2
        assert sessions.batch_record_activity(batch) == 0
        assert count() == 4
        tracker = ActivityTracker(sessions, activity_tracking(), clock=ManualClock())
        for session_id, at in batch.items():
            tracker.record(session_id, at.timestamp() + 60)
        assert tracker.flush().updated_count == 10_000
        assert count() == 6
        tracker.close()
    for session_id in ("00000", "04999", "05000", "09999"):
        assert sessions.get_session(session_id).last_activity_at == batch[session_id] + timedelta(minutes=1)


@contextmanager
def _updates_counted(store: Any, run: Callable[..., list[tuple[Any, ...]]]) -> Iterator[Callable[[], int]]:
    """Count the statements that write sessions, whoever sends them."""
    if not store.address.startswith("sqlite"):
        run(COUNT_WRITES)
        yield lambda: int(run("SELECT count(*) FROM counted")[0][0])
        return
    written: list[str] = []

    def note(statement: str) -> None:
        if statement.strip().partition(" ")[0].upper() not in {"SELECT", "BEGIN", "COMMIT", "ROLLBACK"}:
            written.append(statement)

    connections = [database._connection("write") for database in (store._database, store._activity_database)]
    connections += [database._connection("read") for database in (store._database, store._activity_database)]
    for connection in connections:
        connection.set_trace_callback(note)
    yield lambda: len(written)
    for connection in connections:
        connection.set_trace_callback(None)


def test_default_tracking_adds_no_write(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """A thousand requests write nothing; with a refresh on every request each of them would."""
    clock = ManualClock()
    manager = SessionManager(any_store.sessions, clock=clock)
    eager = SessionManager(any_store.sessions, clock=clock, policy=SessionPolicy(refresh_threshold=timedelta(0)))
    issued = manager.sign_in(any_store.sessions.upsert_user("provider|alice", clock.utc()))
    with _updates_counted(any_store, run) as count:
        for _ in range(1_000):
            clock.advance(1)
            assert manager.authenticate(issued.token, refresh=True).presented is Presented.VALID
        assert count() == 0
        for _ in range(10):
            clock.advance(1)
            assert eager.authenticate(issued.token, refresh=True).extended
        assert count() == 10


@pytest.mark.parametrize("present", [1, 2])
def test_an_old_schema_is_brought_forward(tmp_path: Path, postgres_url: str, present: int) -> None:
    """With the first or the first two migrations and a client in it: nothing is lost, and sessions can begin."""
    for url in (f"sqlite:///{tmp_path}/old.db", postgres_url):
        sqlite = url.startswith("sqlite")
        migrations = load_migrations("sqlite" if sqlite else "postgres")
        statements = [migration.sql for migration in migrations[:present]]
        statements += ["CREATE TABLE lastseen_migrations (name TEXT PRIMARY KEY, applied_at TEXT)"]
        statements += [f"INSERT INTO lastseen_migrations (name) VALUES ('{one.name}')" for one in migrations[:present]]
        statements += ["INSERT INTO client_activity VALUES ('old', '2026-01-01 12:00:00', '2026-01-01 12:00:00')"]
        if sqlite:
            connection = sqlite3.connect(tmp_path / "old.db")
            connection.executescript(";\n".join(statements))
            connection.close()
        else:
            ask(url, "; ".join(["SET timezone = 'UTC'", *statements]))
        store = open_store(url)
        assert store.migrate() == [migration.name for migration in migrations[present:]]
        client = store.clients.get_client("old")
        assert client is not None
        assert client.last_seen_at == moment()
        assert Login(store.sessions, store.sessions.upsert_user("provider|alice", moment())).session.label == ""
        store.close()


def test_pruning_begins_at_the_deadline_itself(any_store: Store) -> None:
    """At its deadline a session has expired and may go; a microsecond before it may not."""
    login = Login(any_store.sessions, any_store.sessions.upsert_user("provider|alice", moment()))
    assert any_store.sessions.prune_sessions(login.session.idle_deadline - timedelta(microseconds=1)) == 0
    assert any_store.sessions.prune_sessions(login.session.idle_deadline) == 1


def test_recorded_activity_does_not_undo_a_logout(any_store: Store) -> None:
    """However a batch and a logout interleave, the session is gone in the end."""
    sessions: Any = any_store.sessions
    user_id = sessions.upsert_user("provider|alice", moment())
    for _ in range(20):
        login = Login(sessions, user_id)
        with ThreadPoolExecutor(2) as threads:
            recorded = threads.submit(sessions.batch_record_activity, {login.id: moment(60)})
            threads.submit(sessions.delete_session, login.id).result()
        assert recorded.result() in {0, 1}
        assert sessions.get_session(login.id) is None


def test_a_naive_recorder_undoes_a_logout(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """A recorder that read the session before and writes it as a whole brings it back; ours does not."""
    sessions: Any = any_store.sessions
    login = Login(sessions, sessions.upsert_user("provider|alice", moment()))
    run("CREATE TABLE read_before AS SELECT * FROM login_sessions")
    sessions.delete_session(login.id)
    assert sessions.batch_record_activity({login.id: moment(60)}) == 0
    assert sessions.find_session(login.digest) is None
    run(
        "INSERT INTO login_sessions SELECT * FROM read_before WHERE true "
        "ON CONFLICT (id) DO UPDATE SET last_activity_at = excluded.last_activity_at"
    )
    assert sessions.find_session(login.digest) is not None


def test_nobody_waits_in_a_circle(any_store: Store) -> None:
    """Batches, logins that replace each other's sessions, and the end of everything at once: none of them fails."""
    sessions: Any = any_store.sessions
    users = [sessions.upsert_user(name, moment()) for name in ("provider|alice", "provider|bob")]
    limit = SessionLimit(most=5)
    for at in range(0, 80, 10):
        logins = [Login(sessions, users[number % 2], at=at + 1) for number in range(20)]
        batches = [{login.id: moment(at + second) for login in logins} for second in (2, 3)]
        presented = [login.digest for login in logins[:2]]
        work: list[Callable[[], object]] = [
            *(partial(sessions.batch_record_activity, dict(sorted(batch.items()))) for batch in batches),
            *(partial(sessions.delete_user_sessions, user, moment(at)) for user in users),
            partial(Login, sessions, users[0], at + 5, replaces=presented[1], limit=limit),
            partial(Login, sessions, users[1], at + 5, replaces=presented[0], limit=limit),
            partial(sessions.prune_sessions, moment(at)),
        ]
        with ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(call) for call in work]
        assert [error for call in calls if (error := call.exception())] == []


def test_a_forked_child_reads_and_the_parent_goes_on(tmp_path: Path, postgres_url: str) -> None:
    """Both find the session; neither disturbs the other's connections."""
    # From 3.12 on Python warns whoever forks beside threads, as the pool has them.
    python = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORKING]
    for url in (f"sqlite:///{tmp_path}/forked.db", postgres_url):
        done = subprocess.run([*python, url], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "child found it\nparent found it\n", "")
