"""`lastseen prune`: what expired long ago goes, what is valid or fresh stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lastseen.sessions.manager import SessionManager
from lastseen.stores import open_store
from lastseen.testing import ManualClock
from tests.cli.conftest import Command


def test_only_sessions_that_expired_long_ago_are_removed(call: Command, tmp_path: Path) -> None:
    """A week by default, any other span on request; a second run finds nothing."""
    database = f"sqlite:///{tmp_path}/sessions.db"
    assert call("migrate", "--database", database).code == 0
    store = open_store(database)
    tokens = []
    for age in (timedelta(days=30), timedelta(days=3), timedelta(0)):
        clock = ManualClock((datetime.now(UTC) - age).timestamp())
        sessions = SessionManager(store.sessions, clock=clock)
        tokens.append(sessions.sign_in(sessions.upsert_user("provider|alice")).token)
    assert call("prune", "--database", database).out == "removed 1 login sessions\n"
    assert call("prune", "--older-than", "1d", "--database", database, "--json").document == {"login_sessions": 1}
    assert call("prune", "--database", database, "--older-than", "1s").out == "removed 0 login sessions\n"
    assert SessionManager(store.sessions).authenticate(tokens[-1]).session is not None
    store.close()


def test_a_senseless_span_is_a_usage_error(call: Command) -> None:
    """The message says how spans are written."""
    done = call("prune", "--older-than", "soon")
    assert done.code == 2
    assert "30s" in done.err
