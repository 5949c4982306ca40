"""A whole Django project in one file, for synchronous and asynchronous servers; with sessions and users."""

from __future__ import annotations

import os

import django
from asgiref.sync import sync_to_async
from django.conf import settings

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="for the tests only",
        MIDDLEWARE=[
            "lastseen.web.django.ActivityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("APP_DATABASE", ":memory:")}
        },
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LASTSEEN={
            "DATABASE": os.environ.get("LASTSEEN_DATABASE_URL", "memory:"),
            "MIGRATE": True,
            "TRACKING": {"max_buffer_size": None},
            "SOURCE": os.environ.get("APP_SOURCE", "lastseen.activity.identify.DEFAULT_SOURCE"),
        },
    )
    django.setup()

from django.contrib.auth import aauthenticate, alogin, authenticate, login
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from lastseen.activity.identify import principal
from lastseen.web.django import lastseen
from lastseen.web.lifespan import SaveAtShutdown

logged_in_user = principal()


def echo(request: HttpRequest) -> HttpResponse:
    """Answer with the body, and say which process answers."""
    return HttpResponse(request.body, headers={"X-Process": str(os.getpid())})


def unread(request: HttpRequest) -> HttpResponse:
    """Answer without reading the body."""
    return HttpResponse("ok")


async def stream(request: HttpRequest) -> HttpResponse:
    """Answer with the pieces of the body; an asynchronous view."""
    return HttpResponse(list(iter(lambda: request.read(1000), b"")))


def log_in(request: HttpRequest) -> HttpResponse:
    """Log in with what the query says; 401 when that is wrong."""
    user = authenticate(request, username=request.GET["name"], password=request.GET["password"])
    if user is None:
        return HttpResponse("no", status=401)
    login(request, user)
    return HttpResponse("in")


async def log_in_async(request: HttpRequest) -> HttpResponse:
    """Do the same in an asynchronous view."""
    user = await aauthenticate(request, username=request.GET["name"], password=request.GET["password"])
    if user is None:
        return HttpResponse("no", status=401)
    await alogin(request, user)
    return HttpResponse("in")


def anyone(request: HttpRequest) -> HttpResponse:
    """Answer without asking who it is."""
    return HttpResponse("hello", status=int(request.GET.get("status", "200")))


async def clients(request: HttpRequest) -> HttpResponse:
    """List the clients."""
    found = await sync_to_async(lastseen().clients.list)()
    return HttpResponse(" ".join(client.client_id for client in found))


urlpatterns = [
    path("echo", echo),
    path("unread", unread),
    path("stream", stream),
    path("login", log_in),
    path("alogin", log_in_async),
    path("anyone", anyone),
    path("clients", clients),
]

wsgi_application = get_wsgi_application()
asgi_application = SaveAtShutdown(get_asgi_application(), lastseen().clients)
