"""A package that writes on every request, in a Django of its own: django-online-users."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tests.servers import PostgresServer


def prepare(server: PostgresServer, clients: list[str]) -> Callable[[str], object]:
    """Return what the package's middleware does in the request of a logged-in user."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    address = urlsplit(server.create_database())
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "online_users"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": address.path[1:],
                "USER": address.username,
                "HOST": address.hostname,
                "PORT": address.port,
            }
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    from django.test import RequestFactory
    from online_users.middleware import OnlineNowMiddleware

    users = {user.username: user for user in User.objects.bulk_create([User(username=name) for name in clients])}
    factory = RequestFactory()

    def request(client: str) -> None:
        request = factory.get("/")
        request.user = users[client]
        OnlineNowMiddleware.process_request(request)

    return request
