"""Django's settings for one test, whatever other tests of this process have configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from tests.web.sessions.world import World

if not settings.configured:
    settings.configure()
    django.setup()
if not settings._wrapped.SECRET_KEY:
    # Not among the settings below: Django does not let them go back to an empty one.
    settings.SECRET_KEY = "for the tests only"

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "lastseen.web.sessions.django.LoginSessionMiddleware",
]
APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]


@contextmanager
def django_project(
    world: World, database: Path, *, require: bool = False, public: Any = (), twice: bool = False, alone: bool = False
) -> Iterator[Any]:
    """Put the settings in force and make the tables; yields the module with the views."""
    before = connections.settings
    connections.settings = connections.configure_settings(
        {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database)}}
    )
    forget_connection()
    try:
        with override_settings(
            INSTALLED_APPS=APPS,
            MIDDLEWARE=MIDDLEWARE[-1:] if alone else [*MIDDLEWARE, *MIDDLEWARE[-1:]] if twice else MIDDLEWARE,
            ROOT_URLCONF="tests.web.sessions.apps.django_app",
            ALLOWED_HOSTS=["*"],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            LASTSEEN_SESSIONS=world.sessions,
            LASTSEEN_SESSIONS_REQUIRE=require,
            LASTSEEN_SESSIONS_PUBLIC=public,
        ):
            if not database.exists():
                call_command("migrate", verbosity=0)
            from tests.web.sessions.apps import django_app

            yield django_app
    finally:
        connections.close_all()
        connections.settings = before
        forget_connection()


def forget_connection() -> None:
    """Make this thread connect anew."""
    if hasattr(connections._connections, "default"):
        connections["default"].close()
        del connections["default"]
