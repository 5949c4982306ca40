"""B6: whose session is this? `SessionManager.authenticate` beside the bare read, and beside other session layers."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import ConnectionPool
from tests.servers import PostgresServer

from benchmarks.measure import Rounds, Row, microseconds, take_turns
from lastseen.sessions.manager import Presented, SessionManager
from lastseen.sessions.token import digest_of
from lastseen.stores import Store, open_store

SESSIONS = 1_000
ROUNDS = 15
MOST_ADDED = 15e-6
MOST_RATIO = 1.3
LEAST_PEER_RATIO = 2.0
NOT_INSTALLED = "not installed (pip install -r benchmarks/requirements.txt)"

BARE = """
SELECT id, user_id, idle_deadline, absolute_deadline, created_at, authenticated_at, last_activity_at, credential_kind,
       device, address, label
FROM login_sessions WHERE digest = {}
"""

Check = Callable[[], object]
"""Check every session once."""


def run() -> list[Row]:
    """Measure in a process of its own: Django takes its settings once a process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.sessions"], stdout=subprocess.PIPE, check=True)
    return [Row(**row) for row in json.loads(done.stdout)]


def _rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        if find_spec("flask_session") is None:
            yield Row(bar="B6", case=f"Flask-Session: {NOT_INSTALLED}", figure="not measured")
        if find_spec("starsessions") is None:
            yield Row(bar="B6", case=f"starsessions: {NOT_INSTALLED}", figure="not measured")
        django = _prepare_django(f"{folder}/django.db", server.create_database())
        yield from _memory()
        yield from _on_a_database(
            "SQLite",
            f"sqlite:///{folder}/sessions.db",
            f"sqlite:///{folder}/flask.db",
            partial(django, "default"),
        )
        yield from _on_a_database(
            "PostgreSQL",
            server.create_database(),
            server.create_database().replace("postgresql:", "postgresql+psycopg:"),
            partial(django, "postgres"),
        )


def _memory() -> Iterator[Row]:
    store = open_store("memory:")
    manager, tokens = _sign_in(store)
    held = {digest_of(token): token for token in tokens}
    contenders: dict[str, Check] = {
        "bare": lambda: [held.get(digest) for digest in held],
        "ours": partial(_authenticate, manager, tokens),
    }
    if find_spec("starsessions"):
        contenders["starsessions"] = _starsessions()
    rounds = _compare(contenders)
    yield _added("memory", "a dictionary", rounds)
    if "starsessions" in contenders:
        yield _beside(
            "memory", "starsessions 2.2: loads a dictionary of JSON; it keeps none in SQL", "starsessions", rounds
        )


def _on_a_database(name: str, url: str, flask_url: str, django: Callable[[], Check]) -> Iterator[Row]:
    store = open_store(url)
    store.migrate()
    manager, tokens = _sign_in(store)
    digests = [digest_of(token) for token in tokens]
    contenders: dict[str, Check] = {
        "bare": _bare(url, digests),
        "found": lambda: [store.sessions.find_session(digest) for digest in digests],
        "ours": partial(_authenticate, manager, tokens),
        "django": django(),
    }
    if find_spec("flask_session"):
        contenders["flask"] = _flask_session(flask_url)
    if name == "PostgreSQL":
        contenders["pooled"] = _pooled(url, digests)
    rounds = _compare(contenders)
    store.close()
    if name == "SQLite":
        yield _added(name, "the bare sqlite3 read", rounds)
    else:
        yield _times(name, "authenticate", "ours", rounds)
        yield _times(name, "the store's read alone", "found", rounds)
        yield _pool_alone(rounds)
    yield _beside(name, "Django's database sessions: read and verify the signed data", "django", rounds)
    if "flask" in contenders:
        yield _beside(name, "Flask-Session 0.8 over SQLAlchemy: open_session", "flask", rounds)


def _compare(contenders: Mapping[str, Check]) -> Rounds:
    return take_turns({name: partial(_timed, check) for name, check in contenders.items()}, ROUNDS)


def _timed(check: Check) -> float:
    began = time.perf_counter()
    check()
    return (time.perf_counter() - began) / SESSIONS


def _added(name: str, bare: str, rounds: Rounds) -> Row:
    added = rounds.median_difference("ours", "bare")
    differences = [mine - theirs for mine, theirs in zip(rounds.costs["ours"], rounds.costs["bare"], strict=True)]
    return Row(
        bar="B6",
        case=f"session check, {name}: authenticate",
        figure=f"{microseconds(added)} over {bare}",
        limit=f"at most {microseconds(MOST_ADDED)} over it",
        peer=f"{bare} {microseconds(rounds.median('bare'))}, ours {microseconds(rounds.median('ours'))}",
        spread=f"{microseconds(min(differences))} to {microseconds(max(differences))}",
        met=added <= MOST_ADDED,
    )


def _times(name: str, what: str, contender: str, rounds: Rounds) -> Row:
    ratio = rounds.ratio(contender, "bare")
    return Row(
        bar="B6",
        case=f"session check, {name}: {what}",
        figure=microseconds(rounds.median(contender)),
        limit=f"at most {MOST_RATIO:g} times the bare round trip",
        peer=f"one prepared read, psycopg, no pool {microseconds(rounds.median('bare'))}",
        ratio=f"{ratio:.2f}",
        spread=rounds.ratio_spread(contender, "bare"),
        met=ratio <= MOST_RATIO,
    )


def _pool_alone(rounds: Rounds) -> Row:
    return Row(
        bar="B6",
        case="the same bare read on a connection of psycopg's pool, for comparison",
        figure=microseconds(rounds.median("pooled")),
        peer=f"no pool {microseconds(rounds.median('bare'))}",
        ratio=f"{rounds.ratio('pooled', 'bare'):.2f}",
        spread=rounds.ratio_spread("pooled", "bare"),
    )


def _beside(name: str, peer: str, contender: str, rounds: Rounds) -> Row:
    ratio = rounds.ratio(contender, "ours")
    return Row(
        bar="B6",
        case=f"session check, {name}: beside others",
        figure=microseconds(rounds.median("ours")),
        limit=f"at least {LEAST_PEER_RATIO:g} times as fast",
        peer=f"{peer} {microseconds(rounds.median(contender))}",
        ratio=f"{ratio:.2f}",
        spread=rounds.ratio_spread(contender, "ours"),
        met=ratio >= LEAST_PEER_RATIO,
    )


def _sign_in(store: Store) -> tuple[SessionManager, list[str]]:
    manager = SessionManager(store.sessions)
    user_id = store.sessions.upsert_user("provider|alice", datetime.now(UTC))
    return manager, [manager.sign_in(user_id).token for _ in range(SESSIONS)]


def _authenticate(manager: SessionManager, tokens: list[str]) -> None:
    for token in tokens:
        assert manager.authenticate(token).presented is Presented.VALID


def _bare(url: str, digests: list[bytes]) -> Check:
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        read = BARE.format("?")
        return lambda: [file.execute(read, (digest,)).fetchone() for digest in digests]
    connection = psycopg.connect(url, autocommit=True)
    statement = BARE.format("%s").encode()
    return lambda: [connection.execute(statement, (digest,)).fetchone() for digest in digests]


def _pooled(url: str, digests: list[bytes]) -> Check:
    pool = ConnectionPool(url, kwargs={"autocommit": True}, min_size=1, max_size=1, open=True)
    statement = BARE.format("%s").encode()

    def read(digest: bytes) -> object:
        with pool.connection() as connection:
            return connection.execute(statement, (digest,)).fetchone()

    return lambda: [read(digest) for digest in digests]


def _starsessions() -> Check:
    """Load by the package's own handler, from its store in memory; nothing checks who the user is."""
    from starlette.requests import HTTPConnection
    from starsessions import InMemoryStore, JsonSerializer
    from starsessions.session import SessionHandler

    store, serializer, lifetime = InMemoryStore(), JsonSerializer(), 3_600
    connection = HTTPConnection({"type": "http", "headers": []})
    data = serializer.serialize({"user_id": "alice"})
    session_ids = [f"{number:032x}" for number in range(SESSIONS)]

    async def fill() -> None:
        for session_id in session_ids:
            await store.write(session_id, data, lifetime, lifetime)

    async def load() -> None:
        for session_id in session_ids:
            handler = SessionHandler(connection, session_id, store, serializer, lifetime)
            await handler.load()
            assert connection.scope["session"]["user_id"] == "alice"

    asyncio.run(fill())
    return lambda: asyncio.run(load())


def _flask_session(url: str) -> Check:
    """Open by the package's own interface, in an application's context as a request has one."""
    import flask
    from flask_session import Session
    from flask_sqlalchemy import SQLAlchemy

    app = flask.Flask("benchmark")
    app.config.update(SECRET_KEY="benchmark", SQLALCHEMY_DATABASE_URI=url, SESSION_TYPE="sqlalchemy")
    app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    Session(app)
    interface: Any = app.session_interface
    requests = []
    with app.app_context():
        for number in range(SESSIONS):
            held = interface.session_class({"user_id": "alice"}, sid=f"{number:043}")
            interface._upsert_session(timedelta(hours=1), held, interface._get_store_id(held.sid))
            requests.append(flask.Request({"HTTP_COOKIE": f"session={held.sid}"}))

    def check() -> None:
        for request in requests:
            with app.app_context():
                session = interface.open_session(app, request)
                assert session is not None
                assert session["user_id"] == "alice"

    return check


def _prepare_django(file: str, postgres_url: str) -> Callable[[str], Check]:
    """Set Django up on both databases, on a connection that stays open."""
    import django
    from django.conf import settings

    address = urlsplit(postgres_url)
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.sessions"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file},
            "postgres": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": address.path[1:],
                "USER": address.username,
                "HOST": address.hostname,
                "PORT": address.port,
            },
        },
        DATABASE_ROUTERS=[_Router()],
    )
    django.setup()
    return _django


class _Router:
    """Sends Django's sessions to the database that is measured."""

    alias = "default"

    def db_for_read(self, model: object, **hints: object) -> str:  # noqa: ARG002 - Django's protocol
        return _Router.alias

    def db_for_write(self, model: object, **hints: object) -> str:  # noqa: ARG002 - Django's protocol
        return _Router.alias


def _django(alias: str) -> Check:
    """Load as Django's middleware does when a view asks for the user's id."""
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    call_command("migrate", database=alias, verbosity=0)
    _Router.alias = alias
    keys = []
    for _ in range(SESSIONS):
        held = SessionStore()
        held["_auth_user_id"] = "alice"
        held.create()
        keys.append(held.session_key)

    def check() -> None:
        _Router.alias = alias
        for key in keys:
            assert SessionStore(session_key=key)["_auth_user_id"] == "alice"

    return check


if __name__ == "__main__":
    json.dump([asdict(row) for row in _rows()], sys.stdout)
