"""The adapters read the environment when they are asked to, and only then."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lastseen import ConfigurationError
from lastseen.activity.identify import header
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import SiteNotFound
from lastseen.web import asgi, wsgi
from lastseen.web.environment import open_for_application, open_from_env
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


def test_the_first_site_is_made_with_the_tables(monkeypatch: pytest.MonkeyPatch, opened: Path) -> None:
    """Page views that an application counts have a site to belong to, with the rule that the settings name."""
    with open_for_application(f"sqlite:///{opened}") as bare:
        bare.store.migrate()
        with pytest.raises(SiteNotFound, match="lastseen migrate"):
            bare.visits.get_or_create("ann")
    monkeypatch.setenv("LASTSEEN_VISIT_TIMEOUT", "5m")
    with open_from_env(migrate=True) as seen:
        assert seen.visits.get_or_create("ann").site_id == "default"
        assert seen.sites.get("default").rule == VisitRule(timeout=timedelta(minutes=5))
