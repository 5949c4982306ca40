"""Django's user model beside login sessions, and Django's own sessions beside both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.sessions.browser import Browser
from tests.web.sessions.django_setup import django_project
from tests.web.sessions.serving import Switch
from tests.web.sessions.world import World


@pytest.fixture
def project(tmp_path: Path, django_database: Path, wsgi_switch: Switch) -> Iterator[World]:
    """Serve the Django application synchronously."""
    world = World()
    database = tmp_path / "django.sqlite3"
    shutil.copy(django_database, database)
    with django_project(world, database) as django_app:
        wsgi_switch.app = django_app.build_wsgi(world)
        yield world


@pytest.fixture
def browser(project: World, wsgi_switch: Switch) -> Browser:
    return Browser(wsgi_switch.port)


def users() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects


def test_signing_in_tells_django(browser: Browser) -> None:
    """The signal that Django's own login sends is sent, so that `last_login` is kept."""
    browser.post("/login?name=alice")
    assert users().get(username="alice").last_login is not None


def test_a_user_who_was_disabled_is_nobody_at_once(browser: Browser, project: World) -> None:
    """So is one who is gone; the session itself is the application's to end."""
    browser.post("/login?name=alice")
    users().filter(username="alice").update(is_active=False)
    assert browser.get("/user").json() == {"user": None}
    users().filter(username="alice").delete()
    assert browser.get("/user").json() == {"user": None}


def test_who_is_logged_in_through_django_stays_so(browser: Browser) -> None:
    """An existing application moves over as people sign in; signing out ends both."""
    browser.strict = False
    browser.post("/django-login?name=bob")
    assert browser.get("/user").json() == {"user": "bob"}
    browser.post("/login?name=bob")
    assert set(browser.jar) >= {"__Host-id", "sessionid"}
    assert browser.get("/user").json() == {"user": "bob"}
    browser.post("/logout")
    assert browser.get("/user").json() == {"user": None}


def test_without_djangos_own_sessions(tmp_path: Path, django_database: Path, wsgi_switch: Switch) -> None:
    """Neither they nor their middleware are needed: sign in, be known, be anonymous, sign out."""
    database = tmp_path / "django.sqlite3"
    shutil.copy(django_database, database)
    with django_project(World(), database, alone=True) as django_app:
        wsgi_switch.app = django_app.build_wsgi(World())
        browser = Browser(wsgi_switch.port)
        anonymous = browser.get("/user")
        assert (anonymous.json(), anonymous.vary) == ({"user": None}, {"cookie", "authorization"})
        browser.post("/login?name=alice")
        assert browser.get("/user").json() == {"user": "alice"}
        assert browser.post("/logout").json() == {"ended": True}
        assert browser.post("/logout").json() == {"ended": False}
        assert browser.get("/user").json() == {"user": None}


def test_the_middleware_is_needed() -> None:
    """Asking without it is a mistake of the application, and says so."""
    from lastseen.errors import ConfigurationError
    from lastseen.web.sessions import django as adapter

    with pytest.raises(ConfigurationError, match="LoginSessionMiddleware"):
        adapter.current_session(object())


def test_the_settings_must_name_the_sessions() -> None:
    """A missing or wrong setting is an error at the start."""
    from django.test import override_settings

    from lastseen.errors import ConfigurationError
    from lastseen.web.sessions import django as adapter

    for wrong in ({}, {"LASTSEEN_SESSIONS": object()}, {"LASTSEEN_SESSIONS": "tests.web.sessions.world.ORIGIN"}):
        with override_settings(**wrong), pytest.raises(ConfigurationError, match="LASTSEEN_SESSIONS"):
            adapter.LoginSessionMiddleware(lambda request: request)
