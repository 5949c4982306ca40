"""The adapters read the environment when they are asked to, and only then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lastseen import ConfigurationError
from lastseen.activity.identify import header
from lastseen.web import asgi, wsgi
from tests.web.cases import Case
from tests.web.drivers import echo_asgi, echo_wsgi, request_asgi, request_wsgi

CASE = Case(name="", expected=None, method="GET", content_type=None, headers={"X-Client-ID": "till-7"})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Name a database in the environment."""
    monkeypatch.setenv("LASTSEEN_DATABASE_URL", f"sqlite:///{tmp_path / 'lastseen.db'}")
    return tmp_path / "lastseen.db"


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_from_env(kind: str, opened: Path) -> None:
    """The database and the tracking come from the environment, the options from the call."""
    app: Any
    if kind == "asgi":
        app = asgi.ActivityMiddleware.from_env(echo_asgi, migrate=True, source=header())
        asyncio.run(request_asgi(app, CASE))
    else:
        app = wsgi.ActivityMiddleware.from_env(echo_wsgi, migrate=True, source=header())
        request_wsgi(app, CASE)
    clients = app._tracking.tracker
    assert clients.flush().updated_count == 1
    assert opened.exists()
    clients.close()


def test_wrong_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting stops the start, with its name."""
    monkeypatch.setenv("LASTSEEN_FLUSH_INTERVAL", "soon")
    with pytest.raises(ConfigurationError, match="LASTSEEN_FLUSH_INTERVAL"):
        asgi.ActivityMiddleware.from_env(echo_asgi)
