"""Starting and stopping: what was answered 202 is saved."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.running import DEADLINE, ServerProcess, environment, eventually


class Load:
    """Threads that post clients, each with its own id, until the server is gone; remembers what was answered 202."""

    def __init__(self, address: str, threads: int = 4) -> None:
        self.acknowledged: set[str] = set()
        self._address = address
        self._threads = [threading.Thread(target=self._post, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self, number: int) -> None:
        with httpx.Client(base_url=self._address, timeout=DEADLINE) as http:
            for count in range(1_000_000):
                client_id = f"{number}-{count}"
                try:
                    answer = http.post("/api/v1/activity", json={"client_id": client_id})
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    self.acknowledged.add(client_id)

    def join(self) -> None:
        """Wait until every thread has noticed."""
        for thread in self._threads:
            thread.join()


def stored(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        return {client_id for (client_id,) in connection.execute("SELECT client_id FROM client_activity")}
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("http_server", ["uvicorn", "granian"])
def test_a_signal_under_load_loses_nothing(tmp_path: Path, number: int, http_server: str) -> None:
    """Whatever was answered 202 before the end is in the database after it; the exit code is 0."""
    database = tmp_path / "load.db"
    # A long interval: what is saved is saved by the orderly stop.
    options = ("--flush-interval", "1h", "--max-buffer-size", "none", "--http-server", http_server)
    with ServerProcess(tmp_path, f"sqlite:///{database}", *options) as server:
        load = Load(server.address)
        eventually(lambda: len(load.acknowledged) > 200, "the load runs")
        server.send_signal(number)
        assert server.wait() == 0, server.log
        load.join()
        assert "everything is saved" in server.log
    assert stored(database) >= load.acknowledged


def test_a_kill_loses_what_waited(tmp_path: Path) -> None:
    """The negative control: killed without warning, the server cannot have saved what waited in memory."""
    database = tmp_path / "killed.db"
    options = ("--flush-interval", "1h", "--max-buffer-size", "none")
    with ServerProcess(tmp_path, f"sqlite:///{database}", *options) as server:
        load = Load(server.address)
        eventually(lambda: len(load.acknowledged) > 200, "the load runs")
        server.send_signal(signal.SIGKILL)
        server.wait()
        load.join()
    assert not stored(database) >= load.acknowledged


@pytest.mark.parametrize("http_server", ["uvicorn", "granian"])
def test_a_stream_that_never_ends_does_not_hold_the_stop_up(tmp_path: Path, http_server: str) -> None:
    """A client in the middle of its body is cut off; what it had sent is saved."""
    database = tmp_path / "stream.db"
    with (
        ServerProcess(tmp_path, f"sqlite:///{database}", "--http-server", http_server) as server,
        socket.create_connection(("127.0.0.1", server.port)) as raw,
    ):
        line = b'{"client_id": "streamed"}\n'
        raw.sendall(
            b"POST /api/v1/activity HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(line):x}\r\n".encode() + line + b"\r\n"
        )
        eventually(lambda: server.http.get("/api/v1/clients/streamed").status_code == 200, "the line is recorded")
        assert server.stop() == 0
    assert stored(database) == {"streamed"}


def test_a_connection_waits_longer_for_its_next_request_than_clients_keep_it(new_server: ServerProcess) -> None:
    """Most forget one after five seconds: a server that closed it just then would lose what is being sent."""
    with closing(HTTPConnection("127.0.0.1", new_server.port, timeout=DEADLINE)) as connection:
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        connection.sock.settimeout(6)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)


HALF = [
    ("/api/v1/activity", b'{"client_id": "half'),
    ("/api/v1/activity?client_id=x", b'{"client_id": "half'),
    ("/api/v1/events", b'{"write_key": "half'),
    ("/e/", b'{"api_key": "half'),
    ("/api/v1/devices", b'{"id": "half'),
]


def test_a_request_that_is_cut_off_is_told_to_come_again(tmp_path: Path) -> None:
    """Whoever is still sending when the server ends gets 503 with Retry-After, and nothing of it is an error."""
    with ServerProcess(tmp_path) as server, contextlib.ExitStack() as connections:
        opened = []
        for path, body in HALF:
            raw = connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            raw.settimeout(30)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            )
            raw.sendall(head.encode() + b"\r\n" + body)
            opened.append(raw)
        assert server.http.get("/health/live").status_code == 200
        assert server.stop() == 0
        answers = [b"".join(iter(lambda raw=raw: raw.recv(4096), b"")) for raw in opened]  # type: ignore[misc]
        assert "Traceback" not in server.log
    for (path, _), answer in zip(HALF, answers, strict=True):
        told, _, reason = answer.partition(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 503 "), (path, answer)
        assert b"retry-after: 5" in told.lower()
        assert b"stopping" in reason


def test_it_starts_with_nothing_and_says_where(tmp_path: Path) -> None:
    """On a fresh machine the folder and the database are made; the printed line works when pasted into a shell."""
    with ServerProcess(tmp_path) as server:
        assert (tmp_path / ".local/share/lastseen/lastseen.db").exists()
        line = server.announcement.split("try it")[1].splitlines()[0].strip()
        pasted = subprocess.run(["bash", "-c", f"{line} --silent"], capture_output=True, text=True, check=True)
        assert pasted.stdout == '{"accepted":1,"rejected":0,"dropped":0}'
        assert server.http.get("/api/v1/clients/hello").status_code == 200


def serve(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lastseen.cli", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment(home), cwd=home, check=False)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The message names the address and what to do; there is no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(tmp_path, "--port", str(port))
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_address_is_refused(tmp_path: Path) -> None:
    """Without an account `--host 0.0.0.0` ends with the reason, before anything is answered."""
    done = serve(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode != 0
    assert "no account yet" in " ".join(done.stderr.split())
    assert "listening" not in done.stdout


def test_the_database_may_go_and_come_back(tmp_path: Path, postgres: Any) -> None:
    """While PostgreSQL is away activity is still answered 202; when it is back, everything is written."""
    with ServerProcess(tmp_path, postgres.create_database()) as server:
        assert server.http.post("/api/v1/activity?client_id=before").status_code == 202
        postgres.stop()
        try:
            for count in range(20):
                assert server.http.post(f"/api/v1/activity?client_id=away-{count}").status_code == 202
            assert server.http.get("/health/ready").status_code == 503
            assert server.http.get("/api/v1/clients").status_code == 503
            assert server.http.get("/health/live").status_code == 200
            eventually(lambda: server.http.get("/health/activity").json()["status"] == "degraded", "it is degraded")
            assert server.http.get("/health/activity").status_code == 200
        finally:
            postgres.start()
        eventually(lambda: server.http.get("/api/v1/clients/away-19").status_code == 200, "the store answers")
        counting = "/api/v1/clients/count"
        eventually(lambda: server.http.get(counting).json() == {"count": 21}, "everything is written")
