"""Web servers in processes of their own, on free ports."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import PROJECT, reserved_port

START_DEADLINE = 60.0
STOP_DEADLINE = 60.0

COMMANDS = {
    "uvicorn": "uvicorn {app} --port {port} --log-level warning",
    "granian": "granian {app} --interface asgi --port {port} --log-level warning --host 127.0.0.1",
    "gunicorn": "gunicorn {app} --preload --workers 3 --bind 127.0.0.1:{port} --log-level warning",
}


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_DEADLINE)

    def send_raw(self, *segments: bytes) -> bytes:
        """Send segments of a request one by one, and return all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_DEADLINE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for segment in segments:
                connection.sendall(segment)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def stop(self) -> str:
        """Ask the server to end (SIGTERM) and wait for it; return what it logged."""
        self.process.terminate()
        self.process.wait(STOP_DEADLINE)
        return self._log.read_text("utf-8")

    def wait_until_it_answers(self) -> None:
        """Poll the port until somebody listens; the server's log tells why nobody does."""
        until = time.monotonic() + START_DEADLINE
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                try:
                    self.process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                break
            else:
                return
        raise AssertionError(f"the server does not answer:\n{self._log.read_text('utf-8')}")


@contextmanager
def running(server: str, app: str, folder: Path, **environ: str) -> Iterator[Server]:
    """Run an application under a server; its database is `lastseen.db` in the folder, written only at the end."""
    log = folder / "server.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LASTSEEN_")}
    settings = {
        "LASTSEEN_DATABASE_URL": f"sqlite:///{folder / 'lastseen.db'}",
        "LASTSEEN_FLUSH_INTERVAL": "10m",
        "LASTSEEN_MAX_BUFFER_SIZE": "none",
    }
    with reserved_port() as port:
        command = [sys.executable, "-m", *COMMANDS[server].format(app=app, port=port).split()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env={**inherited, **settings, **environ},
            )
        try:
            running = Server(process, port, log)
            running.wait_until_it_answers()
            yield running
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
