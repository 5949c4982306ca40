"""FastAPI, with dependencies."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from lastseen.sessions.session import Session
from lastseen.web.sessions.asgi import (
    SessionMiddleware,
    reauthenticate,
    return_target,
    rotate,
    sign_in,
    sign_out,
)
from lastseen.web.sessions.fastapi import CurrentSession, RequiredSession, recent_session
from tests.web.sessions.world import RECENT, World


def build(world: World, **gate: Any) -> Any:
    """Return the application."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=world.sessions, **gate)

    @app.api_route("/public", methods=["GET", "POST"], response_class=PlainTextResponse)
    async def public() -> str:
        return "hello"

    @app.api_route("/who", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def who(session: CurrentSession) -> dict[str, Any]:
        return world.shown(session)

    @app.api_route("/private", methods=["GET", "POST"])
    async def private(session: RequiredSession) -> dict[str, Any]:
        return world.shown(session)

    @app.get("/shared", response_class=PlainTextResponse)
    def shared(session: RequiredSession, response: Response) -> str:
        response.headers.update({"Cache-Control": "private, max-age=60", "Vary": "Accept"})
        return "mine"

    @app.get("/login", response_class=PlainTextResponse)
    async def login_page() -> str:
        return "sign in"

    @app.post("/login")
    async def login(request: Request, name: str, kind: str | None = None) -> dict[str, Any]:
        issued = await sign_in(request, world.user(name), credential=kind)
        return world.handed_out(issued, return_target(request))

    @app.api_route("/logout", methods=["GET", "POST"])
    async def logout(request: Request) -> dict[str, Any]:
        return {"ended": await sign_out(request)}

    @app.post("/rotate")
    async def rotated(request: Request) -> dict[str, Any]:
        return world.handed_out(await rotate(request))

    @app.post("/reauthenticate")
    async def reauthenticated(request: Request) -> dict[str, Any]:
        return world.handed_out(await reauthenticate(request))

    @app.post("/sudo")
    async def sudo(session: Annotated[Session, recent_session(RECENT)]) -> dict[str, Any]:
        return world.shown(session)

    @app.post("/held")
    async def held(request: Request) -> dict[str, Any]:
        issued = None if "last" in request.query_params else await reauthenticate(request)
        await asyncio.to_thread(world.door.pass_through)
        issued = issued or await reauthenticate(request)
        return world.handed_out(issued)

    @app.get("/devices")
    async def devices(session: RequiredSession) -> list[dict[str, Any]]:
        return world.devices(session)

    @app.post("/revoke")
    async def revoke(session: RequiredSession, id: str) -> Response:  # noqa: A002 - the parameter's name
        return Response(status_code=world.revoke(session, id))

    return app
