"""Django with its user model; imported only while its settings are in force (see `tests.web.sessions.django_setup`)."""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from lastseen.web.sessions.django import (
    current_session,
    reauthenticate,
    require_recent,
    require_session,
    return_target,
    rotate,
    sign_in,
    sign_out,
)
from tests.web.sessions.world import RECENT, World


class _Current:
    world: World


def name_of(request: HttpRequest) -> JsonResponse:
    """Answer with the name of Django's user."""
    user = request.user
    return JsonResponse({"user": user.username if user.is_authenticated else None})


def public(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def who(request: HttpRequest) -> HttpResponse:
    assert (current_session(request) is None) == (not request.user.is_authenticated)
    return name_of(request)


async def private(request: HttpRequest) -> HttpResponse:
    require_session(request)
    user = await request.auser() if hasattr(request, "auser") else request.user
    return JsonResponse({"user": user.username})


def shared(request: HttpRequest) -> HttpResponse:
    require_session(request)
    return HttpResponse("mine", headers={"Cache-Control": "private, max-age=60", "Vary": "Accept"})


def login(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return HttpResponse("sign in")
    user, _ = User.objects.get_or_create(username=request.GET["name"])
    issued = sign_in(request, user, credential=request.GET.get("kind"))
    return JsonResponse(_Current.world.handed_out(issued, return_target(request)))


def logout(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"ended": sign_out(request)})


def rotated(request: HttpRequest) -> HttpResponse:
    return JsonResponse(_Current.world.handed_out(rotate(request)))


def reauthenticated(request: HttpRequest) -> HttpResponse:
    return JsonResponse(_Current.world.handed_out(reauthenticate(request)))


def sudo(request: HttpRequest) -> HttpResponse:
    require_recent(request, RECENT)
    return name_of(request)


def held(request: HttpRequest) -> HttpResponse:
    issued = None if "last" in request.GET else reauthenticate(request)
    _Current.world.door.pass_through()
    issued = issued or reauthenticate(request)
    return JsonResponse(_Current.world.handed_out(issued))


def devices(request: HttpRequest) -> HttpResponse:
    return JsonResponse(_Current.world.devices(require_session(request)), safe=False)


def revoke(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=_Current.world.revoke(require_session(request), request.GET["id"]))


def django_login(request: HttpRequest) -> HttpResponse:
    """Log in the way the application did before."""
    user, _ = User.objects.get_or_create(username=request.GET["name"])
    auth.login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("in")


urlpatterns = [
    path("user", name_of),
    path("django-login", django_login),
    path("public", public),
    path("who", who),
    path("private", private),
    path("shared", shared),
    path("login", login),
    path("logout", logout),
    path("rotate", rotated),
    path("reauthenticate", reauthenticated),
    path("sudo", sudo),
    path("held", held),
    path("devices", devices),
    path("revoke", revoke),
]


def build_wsgi(world: World) -> Any:
    """Return the application for synchronous servers."""
    _Current.world = world
    return WSGIHandler()


def build_asgi(world: World) -> Any:
    """Return the application for asynchronous servers."""
    _Current.world = world
    return ASGIHandler()
