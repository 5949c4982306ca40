"""A server whose database is not there yet: it lives, says what it waits for, and comes up by itself."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from lastseen import LastSeen
from lastseen.stores.postgres import MIGRATION_LOCK
from tests.server.running import DEADLINE, environment, eventually
from tests.servers import PostgresServer, ask, reserved_port


class Starting:
    """A server that was just started, ready or not."""

    def __init__(self, home: Path, database: str, port: int, *options: str) -> None:
        self._log = home / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lastseen.cli", "serve", "--port", str(port), "--database", database, *options],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(home),
                cwd=home,
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def status(self, path: str) -> int:
        """Return the status of an answer; 0 while nobody answers."""
        with suppress(httpx.TransportError):
            return self.http.get(path).status_code
        return 0

    def end(self) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@contextmanager
def starting(home: Path, database: str, *options: str) -> Iterator[Starting]:
    with reserved_port() as port:
        server = Starting(home, database, port, *options)
        try:
            yield server
        finally:
            server.http.close()
            server.process.kill()
            server.process.wait()


@pytest.mark.parametrize("http_server", ["uvicorn", "granian"])
def test_a_database_that_is_away_is_waited_for(tmp_path: Path, postgres: PostgresServer, http_server: str) -> None:
    """It lives and is not ready, says why, and takes nothing that it could lose; then it serves, migrated."""
    url = postgres.create_database()
    postgres.stop()
    try:
        with starting(tmp_path, url, "--http-server", http_server) as server:
            eventually(lambda: server.status("/health/live") == 200, "it lives")
            eventually(lambda: "refused" in server.http.get("/health/ready").json()["detail"], "it says why")
            assert server.status("/health/ready") == 503
            for refused in (
                server.http.get("/"),
                server.http.post("/api/v1/activity?client_id=early"),
                server.http.post("/api/v1/events", json={}, headers={"origin": "https://shop.example"}),
            ):
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["access-control-allow-origin"] == "https://shop.example"
            postgres.start()
            eventually(lambda: server.status("/health/ready") == 200, "it is ready")
            assert server.http.post("/api/v1/activity?client_id=late").status_code == 202
            assert server.end() == 0
            assert server.log.count("is not there yet") == 1
    finally:
        if not postgres.is_running():
            postgres.start()
    with LastSeen.open(url) as seen:
        assert [client.client_id for client in seen.clients.list().clients] == ["late"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://nobody:secret@127.0.0.1:{port}/postgres", "nobody"),
        ("postgresql://postgres:secret@127.0.0.1:{port}/missing", "missing"),
        ("postgresql://postgres:secret@nowhere.invalid:{port}/postgres", "nowhere.invalid"),
    ],
    ids=["role", "database", "host"],
)
def test_a_wrong_address_is_told_at_once(tmp_path: Path, postgres: PostgresServer, address: str, reason: str) -> None:
    """Waiting would change nothing: one line says what is wrong, without the password, and the process ends."""
    postgres.create_database()
    with starting(tmp_path, address.format(port=postgres.port)) as server:
        assert server.process.wait(DEADLINE) == 3
        assert reason in server.log
        assert "secret" not in server.log
        assert len(server.log.splitlines()) == 1


def test_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    """Whatever the database does, and that is no failure."""
    with (
        reserved_port() as nobody,
        starting(tmp_path, f"postgresql://postgres@127.0.0.1:{nobody}/none") as server,
    ):
        eventually(lambda: server.status("/health/live") == 200, "it lives")
        assert server.end() == 0


def test_a_signal_ends_a_migration(tmp_path: Path, postgres_url: str) -> None:
    """It is taken back as a whole, also on the server, which does not go on without anybody to tell."""
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastseen' AND datname = current_database()"
    )
    with psycopg.connect(postgres_url) as other, starting(tmp_path, postgres_url) as server:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        eventually(lambda: server.status("/health/ready") == 503, "the server answers")
        eventually(lambda: ask(postgres_url, sessions) == [(1,)], "the migration waits")
        assert server.end() == 0
        eventually(lambda: ask(postgres_url, sessions) == [(0,)], "the session is gone")
    assert ask(postgres_url, "SELECT to_regclass('lastseen_migrations')") == [(None,)]


def test_a_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    """Such as one that migrates it; a start that ended then would have to be repeated by hand."""
    with closing(sqlite3.connect(tmp_path / "held.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with starting(tmp_path, f"sqlite:///{tmp_path}/held.db") as server:
            eventually(lambda: "locked" in server.log, "it says what it waits for")
            assert server.status("/health/live") == 200
            other.execute("ROLLBACK")
            eventually(lambda: server.status("/health/ready") == 200, "it is ready")
            assert server.end() == 0
