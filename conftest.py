"""Runs the documentation: every `python` block of docs/*.md and README.md, in the order of the page, in one namespace.

An `output` block is what the block before it prints. `sql` runs in `lastseen.db`, the file that the examples write;
`postgresql` in the database of `DATABASE_URL`, which an example that reads this variable gets empty and its own. Each
page runs in an empty folder that is removed afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from tests.servers import PostgresServer, ServerMissingError

PRINTED = "_printed"
FOLDER = "_folder"
DATABASE_URL = "DATABASE_URL"

_servers = contextlib.ExitStack()
_run_python = PythonEvaluator()


def run_python(example: Example) -> None:
    """Run a block and keep what it prints."""
    if DATABASE_URL in example.parsed:
        _provide_postgres()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        _run_python(example)
    example.namespace[PRINTED] = printed.getvalue()


def check_output(example: Example) -> None:
    """Compare with what the block before printed."""
    assert example.namespace.pop(PRINTED, None) == example.parsed  # noqa: S101 - pytest shows the difference


def run_sqlite(example: Example) -> None:
    """Run statements in the file of the examples and keep the rows as sqlite3 prints them."""
    with contextlib.closing(sqlite3.connect("file:lastseen.db?mode=rw", uri=True, isolation_level=None)) as connection:
        rows = [row for statement in _statements(example.parsed) for row in connection.execute(statement)]
    example.namespace[PRINTED] = _lines(rows)


def run_postgres(example: Example) -> None:
    """Run statements in the database of the examples and keep the rows as `psql -At` prints them."""
    import psycopg

    _provide_postgres()
    with psycopg.connect(os.environ[DATABASE_URL], autocommit=True) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in _statements(example.parsed):
            cursor = connection.execute(statement.encode())
            rows += cursor.fetchall() if cursor.description else []
    example.namespace[PRINTED] = _lines(rows)


def _statements(script: str) -> list[str]:
    return [statement for statement in script.split(";") if statement.strip()]


def _lines(rows: Iterable[Sequence[object]]) -> str:
    return "".join("|".join("" if value is None else str(value) for value in row) + "\n" for row in rows)


def _provide_postgres() -> None:
    """Set `DATABASE_URL` to an empty database, once a page; without a server: skip, under CI fail."""
    if DATABASE_URL in os.environ:
        return
    try:
        os.environ[DATABASE_URL] = _postgres().create_database()
    except ServerMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@functools.cache
def _postgres() -> PostgresServer:
    return _servers.enter_context(PostgresServer())


def enter_empty_folder(namespace: dict[str, Any]) -> None:
    """Begin a page."""
    folder = tempfile.mkdtemp(prefix="lastseen-docs-")
    namespace[FOLDER] = (folder, Path.cwd(), os.environ.pop(DATABASE_URL, None))
    os.chdir(folder)


def leave_folder(namespace: dict[str, Any]) -> None:
    """End a page, and remove whatever its examples left."""
    folder, previous, database_url = namespace[FOLDER]
    os.chdir(previous)
    shutil.rmtree(folder)
    os.environ.pop(DATABASE_URL, None)
    if database_url is not None:
        os.environ[DATABASE_URL] = database_url


def pytest_sessionfinish() -> None:
    """Stop the server that the examples needed."""
    _servers.close()


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", run_python),
        CodeBlockParser("output", check_output),
        CodeBlockParser("sql", run_sqlite),
        CodeBlockParser("postgresql", run_postgres),
        SkipParser(),
    ],
    patterns=["docs/*.md", "README.md"],
    path=str(Path(__file__).parent),
    setup=enter_empty_folder,
    teardown=leave_folder,
).pytest()
