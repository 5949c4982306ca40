"""What users may import from the package itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import lastseen


def test_the_public_names_are_those_and_each_is_described() -> None:
    """A new name at the top is a decision, made here."""
    assert len(lastseen.__all__) == 29
    assert sorted(lastseen.__all__) == lastseen.__all__
    for name in lastseen.__all__:
        assert getattr(lastseen, name).__doc__, name
        assert name in dir(lastseen)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lastseen.nonsense


def test_importing_loads_no_driver_and_no_framework() -> None:
    """The library alone needs next to nothing, and a store's driver is loaded when the store is opened."""
    script = "import sys, lastseen; lastseen.LastSeen, lastseen.ActivityTracker; print('\\n'.join(sys.modules))"
    # A measured process would load what the measuring needs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    heavy = {"psycopg", "sqlalchemy", "django", "litestar", "uvicorn", "msgspec", "typer", "rich", "sqlite3", "pytest"}
    assert not heavy & set(done.stdout.split())
