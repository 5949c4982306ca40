"""A real `lastseen serve`, as a process on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

import httpx

from tests import servers

DEADLINE = 60.0
"""Seconds: a busy machine takes ten times as long as a quiet one."""

T = TypeVar("T")


def environment(home: Path) -> dict[str, str]:
    """Return this process's environment without settings, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LASTSEEN_", "PG", "XDG_"))}
    return {**kept, "HOME": str(home)}


def eventually(question: Callable[[], T], what: str, within: float = DEADLINE) -> T:
    """Ask until the answer is true, and return it; fails when the deadline passes."""
    until = time.monotonic() + within
    while True:
        if answer := question():
            return answer
        assert time.monotonic() < until, f"never happened: {what}"
        threading.Event().wait(0.02)  # between two looks, so that the one looked at gets the processor


class ServerProcess:
    """One server. A context manager: it is stopped at the end, whatever happened.

    `measured`: what it runs counts as covered; see `servers.measured`.
    """

    program: ClassVar[Sequence[str]] = ("-m", "lastseen.cli")

    def __init__(self, home: Path, database: str | None = None, *options: str, measured: bool = False) -> None:
        self._log = (home / f"server-{time.monotonic_ns()}.log").open("w+")
        chosen = ("--database", database) if database else ()
        self._process = subprocess.Popen(
            [sys.executable, *self.program, "serve", "--port", "0", *chosen, *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(home) | (servers.measured() if measured else {}),
            cwd=home,
        )
        self.announcement = self._read_announcement()
        self.address = self.announcement.split()[4]
        self.port = int(self.address.rpartition(":")[2])
        # Servers close a connection that is idle for five seconds, which may be just when it is used again.
        limits = httpx.Limits(keepalive_expiry=2)
        self.http = httpx.Client(base_url=self.address, timeout=DEADLINE, limits=limits)

    def _read_announcement(self) -> str:
        lines = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                return "".join(lines)
        raise AssertionError(f"the server did not start: {''.join(lines)}{self.log}")

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def home(self) -> Path:
        """The folder that it takes for its home."""
        return Path(self._log.name).parent

    @property
    def log(self) -> str:
        """Everything it has logged so far."""
        return Path(self._log.name).read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(DEADLINE)

    def stop(self) -> int:
        """Stop it in an orderly way; the exit code. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> ServerProcess:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it and close what was opened."""
        self.http.close()
        try:
            self.stop()
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()
