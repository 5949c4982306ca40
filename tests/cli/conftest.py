"""The command line, in this process for breadth and as a real process for the main paths."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lastseen.cli.app import run

LASTSEEN = Path(sys.executable).with_name("lastseen")


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, as the one JSON document that it must be."""
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an environment without settings, and a home and a current folder of its own."""
    for name in list(os.environ):
        if name.startswith(("LASTSEEN_", "PG", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process."""

    def command(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with logging_of_its_own():
            code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code=code, out=captured.out, err=captured.err)

    return command


@contextmanager
def logging_of_its_own() -> Iterator[None]:
    """Take back how a command sets up logging for its process.

    Its handler writes to what is captured of one test: a later test's log line would be a complaint about that.
    """
    loggers = [logging.getLogger(name) for name in (None, *logging.Logger.manager.loggerDict)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers


@pytest.fixture
def process() -> Command:
    """Run a command as a process."""

    def command(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> Done:
        done = subprocess.run(
            [LASTSEEN, *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=60,
            check=False,
        )
        return Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    return command


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database of each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/lastseen.db"


def lines(*activities: tuple[str, object]) -> str:
    """Write activities as an import reads them."""
    return "".join(json.dumps({"client_id": client_id, "at": at}) + "\n" for client_id, at in activities)


def write(path: Path, content: str | bytes | Iterable[str]) -> Path:
    """Write a file and return its path."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else "".join(content), "utf-8")
    return path
