"""Starlette."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lastseen.web.sessions.asgi import (
    SessionMiddleware,
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


def build(world: World, **gate: Any) -> Any:
    """Return the application."""

    async def public(request: Request) -> Response:
        return PlainTextResponse("hello")

    async def who(request: Request) -> Response:
        return JSONResponse(world.shown(current_session(request)))

    async def private(request: Request) -> Response:
        return JSONResponse(world.shown(require_session(request)))

    async def shared(request: Request) -> Response:
        require_session(request)
        return PlainTextResponse("mine", headers={"Cache-Control": "private, max-age=60", "Vary": "Accept"})

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return PlainTextResponse("sign in")
        user_id = world.user(request.query_params["name"])
        issued = await sign_in(request, user_id, credential=request.query_params.get("kind"))
        return JSONResponse(world.handed_out(issued, return_target(request)))

    async def logout(request: Request) -> Response:
        return JSONResponse({"ended": await sign_out(request)})

    async def rotated(request: Request) -> Response:
        return JSONResponse(world.handed_out(await rotate(request)))

    async def reauthenticated(request: Request) -> Response:
        return JSONResponse(world.handed_out(await reauthenticate(request)))

    async def sudo(request: Request) -> Response:
        return JSONResponse(world.shown(await require_recent(request, RECENT)))

    async def held(request: Request) -> Response:
        issued = None if "last" in request.query_params else await reauthenticate(request)
        await asyncio.to_thread(world.door.pass_through)
        issued = issued or await reauthenticate(request)
        return JSONResponse(world.handed_out(issued))

    async def devices(request: Request) -> Response:
        return JSONResponse(world.devices(require_session(request)))

    async def revoke(request: Request) -> Response:
        return Response(status_code=world.revoke(require_session(request), request.query_params["id"]))

    app = Starlette(
        routes=[
            Route("/public", public, methods=["GET", "POST"]),
            Route("/who", who, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route("/private", private, methods=["GET", "POST"]),
            Route("/shared", shared),
            Route("/login", login, methods=["GET", "POST"]),
            Route("/logout", logout, methods=["GET", "POST"]),
            Route("/rotate", rotated, methods=["POST"]),
            Route("/reauthenticate", reauthenticated, methods=["POST"]),
            Route("/sudo", sudo, methods=["POST"]),
            Route("/held", held, methods=["POST"]),
            Route("/devices", devices),
            Route("/revoke", revoke, methods=["POST"]),
        ]
    )
    app.add_middleware(SessionMiddleware, sessions=world.sessions, **gate)
    return app
