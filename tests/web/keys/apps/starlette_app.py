"""Starlette, with the middleware around it."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lastseen import LastSeen
from lastseen.web.keys.asgi import ApiKeyMiddleware, current_key
from tests.web.keys.apps.source import DEVICE

seen = LastSeen.open(os.environ["LASTSEEN_DATABASE_URL"])


async def report(request: Request) -> Response:
    """Take a position; 401 without a valid key."""
    key = current_key(request)
    return Response(status_code=401) if key is None else JSONResponse([key.name, await request.json()])


async def anyone(request: Request) -> Response:
    """Answer anybody."""
    return PlainTextResponse("hello")


app = ApiKeyMiddleware(
    Starlette(
        routes=[
            Route("/locations", report, methods=["POST"]),
            Route("/devices/{device_id}/location", report, methods=["POST"]),
            Route("/health", anyone),
            Route("/anyone", anyone, methods=["GET", "POST"]),
        ]
    ),
    seen.keys,
    seen.devices,
    device=DEVICE,
)
