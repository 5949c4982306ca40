"""Litestar."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import HttpMethod, Litestar, MediaType, Request, Response, get, post, route

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

AnyRequest = Request[Any, Any, Any]
GET_AND_POST = [HttpMethod.GET, HttpMethod.POST]


def build(world: World, **gate: Any) -> Any:
    """Return the application."""

    @route("/public", http_method=GET_AND_POST, status_code=200, media_type=MediaType.TEXT)
    async def public() -> str:
        return "hello"

    @route("/who", http_method=[*GET_AND_POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE], status_code=200)
    async def who(request: AnyRequest) -> dict[str, Any]:
        return world.shown(current_session(request))

    @route("/private", http_method=GET_AND_POST, status_code=200)
    async def private(request: AnyRequest) -> dict[str, Any]:
        return world.shown(require_session(request))

    @get("/shared", media_type=MediaType.TEXT)
    async def shared(request: AnyRequest) -> Response[str]:
        require_session(request)
        return Response("mine", headers={"Cache-Control": "private, max-age=60", "Vary": "Accept"})

    @get("/login", media_type=MediaType.TEXT)
    async def login_page() -> str:
        return "sign in"

    @post("/login", status_code=200)
    async def login(request: AnyRequest) -> dict[str, Any]:
        user_id = world.user(request.query_params["name"])
        issued = await sign_in(request, user_id, credential=request.query_params.get("kind"))
        return world.handed_out(issued, return_target(request))

    @route("/logout", http_method=GET_AND_POST, status_code=200)
    async def logout(request: AnyRequest) -> dict[str, Any]:
        return {"ended": await sign_out(request)}

    @post("/rotate", status_code=200)
    async def rotated(request: AnyRequest) -> dict[str, Any]:
        return world.handed_out(await rotate(request))

    @post("/reauthenticate", status_code=200)
    async def reauthenticated(request: AnyRequest) -> dict[str, Any]:
        return world.handed_out(await reauthenticate(request))

    @post("/sudo", status_code=200)
    async def sudo(request: AnyRequest) -> dict[str, Any]:
        return world.shown(await require_recent(request, RECENT))

    @post("/held", status_code=200)
    async def held(request: AnyRequest) -> dict[str, Any]:
        issued = None if "last" in request.query_params else await reauthenticate(request)
        await asyncio.to_thread(world.door.pass_through)
        issued = issued or await reauthenticate(request)
        return world.handed_out(issued)

    @get("/devices")
    async def devices(request: AnyRequest) -> list[dict[str, Any]]:
        return world.devices(require_session(request))

    @post("/revoke")
    async def revoke(request: AnyRequest) -> Response[None]:
        status = world.revoke(require_session(request), request.query_params["id"])
        return Response(None, status_code=status)

    handlers = [public, who, private, shared, login_page, login, logout, rotated, reauthenticated, sudo, held]
    app = Litestar([*handlers, devices, revoke], openapi_config=None)
    return SessionMiddleware(app, world.sessions, **gate)
