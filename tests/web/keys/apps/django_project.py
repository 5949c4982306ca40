"""A whole Django project in one file, for synchronous and asynchronous servers."""

from __future__ import annotations

import json
import os

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="for the tests only",
        MIDDLEWARE=["lastseen.web.keys.django.ApiKeyMiddleware"],
        LASTSEEN={"DATABASE": os.environ["LASTSEEN_DATABASE_URL"]},
        LASTSEEN_KEYS={"DEVICE": "tests.web.keys.apps.source.DEVICE"},
    )
    django.setup()

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from lastseen.web.django import lastseen
from lastseen.web.keys.django import current_key
from lastseen.web.lifespan import SaveAtShutdown


def report(request: HttpRequest, _: str = "") -> HttpResponse:
    """Take a position; 401 without a valid key."""
    key = current_key(request)
    return HttpResponse(status=401) if key is None else JsonResponse([key.name, json.loads(request.body)], safe=False)


def anyone(request: HttpRequest) -> HttpResponse:
    """Answer anybody."""
    return HttpResponse("hello")


urlpatterns = [
    path("locations", report),
    path("devices/<_>/location", report),
    path("health", anyone),
    path("anyone", anyone),
]

wsgi_application = get_wsgi_application()
asgi_application = SaveAtShutdown(SaveAtShutdown(get_asgi_application(), lastseen().keys), lastseen().devices)
