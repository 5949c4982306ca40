"""The token of a session, and what is kept of it, are told to nobody."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy

from lastseen import SchemaError, StoreUnavailable
from lastseen.errors import InvalidData, LastSeenError, SessionNotFound
from lastseen.sessions.manager import SessionManager
from lastseen.sessions.store import SessionDraft
from lastseen.sessions.token import digest_of, new_token
from lastseen.stores import Store, open_store
from lastseen.testing import ManualClock, moment
from lastseen.testing.sessions import Login
from tests.servers import ask

HOUR = timedelta(hours=1)


def test_the_secret_is_nowhere_but_in_its_column(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Neither the token nor its digest is in any other column of any table, in any spelling."""
    manager = SessionManager(any_store.sessions, clock=ManualClock())
    user_id = any_store.sessions.upsert_user("provider|alice", moment())
    old = manager.sign_in(user_id, device="Firefox", address="192.0.2.7", label="work")
    new = manager.rotate(old.token)
    digest_column = dict(run("SELECT id, digest FROM login_sessions"))
    assert bytes(digest_column[new.session.id]) == digest_of(new.token)
    columns = "id, user_id, idle_deadline, absolute_deadline, created_at, authenticated_at, last_activity_at, "
    columns += "credential_kind, device, address, label"
    rows = [
        *run(f"SELECT {columns} FROM login_sessions"),
        *run("SELECT * FROM lastseen_users"),
        *run("SELECT * FROM login_devices"),
    ]
    kept = repr([[bytes(value) if isinstance(value, memoryview) else value for value in row] for row in rows])
    assert "Firefox" in kept
    for secret in _spellings(old.token, new.token):
        assert secret not in kept


def _spellings(*tokens: str) -> list[str]:
    digests = [digest_of(token) for token in tokens]
    return [
        *tokens,
        *(digest.hex() for digest in digests),
        *(repr(digest)[2:-1] for digest in digests),
        *(base64.b64encode(digest).decode().rstrip("=") for digest in digests),
    ]


def test_no_error_tells_the_secret(any_store: Store, run: Callable[..., list[tuple[Any, ...]]]) -> None:
    """However a call with a digest fails, no error in the chain shows it, in its message, its repr or its traceback."""
    user_id = any_store.sessions.upsert_user("provider|alice", moment())
    login, other = Login(any_store.sessions, user_id), Login(any_store.sessions, user_id)
    draft = SessionDraft(id="another", digest=login.digest, authenticated_at=moment())
    unstorable = SessionDraft(id="\ud800", digest=digest_of(new_token()), authenticated_at=moment())
    deadlines = moment() + HOUR, moment() + HOUR, moment()
    create, rotate = any_store.sessions.create_session, any_store.sessions.rotate_session
    attempts: list[Callable[[], object]] = [
        lambda: create(user_id, *deadlines, draft),
        lambda: create(user_id, *deadlines, unstorable),
        lambda: rotate(other.id, other.digest, login.digest, moment()),
        lambda: rotate(other.id, login.digest, other.digest, moment() + 2 * HOUR),
    ]
    errors = [_error_of(attempt) for attempt in attempts]
    run("DROP TABLE login_sessions")
    errors += [_error_of(attempt) for attempt in [lambda: any_store.sessions.find_session(login.digest), *attempts]]
    assert {type(error) for error in errors} == {InvalidData, SessionNotFound, SchemaError}
    told = "".join("".join(traceback.format_exception(error)) + repr(error) for error in errors)
    for secret in _spellings(login.token, other.token):
        assert secret not in told


def _error_of(attempt: Callable[[], object]) -> BaseException:
    with pytest.raises(LastSeenError) as caught:
        attempt()
    return caught.value


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_no_error_tells_what_a_talkative_server_repeats(postgres_url: str, driver: str) -> None:
    """A server may be set to repeat the parameters of a statement that fails: the driver shows them, we do not."""
    name = postgres_url.rpartition("/")[2]
    ask(postgres_url, f"ALTER DATABASE {name} SET log_parameter_max_length_on_error = -1")
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql:", f"postgresql+{driver}:"))
    store = open_store(postgres_url if driver == "psycopg" else engine)
    store.migrate()
    login = Login(store.sessions, store.sessions.upsert_user("provider|alice", moment()))
    rotate = partial(store.sessions.rotate_session, login.id, login.digest, digest_of(new_token()), moment())
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT id FROM login_sessions FOR UPDATE")
        error = _error_of(rotate)
        with psycopg.connect(postgres_url, options="-c lock_timeout=1") as bare:
            delete = partial(bare.execute, "DELETE FROM login_sessions WHERE digest = %s", [login.digest])
            with pytest.raises(psycopg.errors.LockNotAvailable) as naive:
                delete()
    assert type(error) is StoreUnavailable
    assert any(secret in str(naive.value) for secret in _spellings(login.token))
    told = "".join(traceback.format_exception(error))
    assert "lock timeout" in told
    for secret in _spellings(login.token):
        assert secret not in told
    store.close()
    engine.dispose()


def test_a_naive_insert_tells_the_secret(postgres_url: str) -> None:
    """The check above sees a digest that PostgreSQL puts into its message of a duplicate."""
    store = open_store(postgres_url)
    store.migrate()
    login = Login(store.sessions, store.sessions.upsert_user("provider|alice", moment()))
    store.close()
    copy = "INSERT INTO login_sessions SELECT 'copy', digest, user_id, idle_deadline, absolute_deadline, created_at, "
    copy += "authenticated_at, last_activity_at, credential_kind, device, address, label FROM login_sessions"
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        ask(postgres_url, copy)
    assert any(secret in str(caught.value) for secret in _spellings(login.token))
