"""Flask."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request

from lastseen.web.sessions import RequestRefused
from lastseen.web.sessions.wsgi import (
    SessionMiddleware,
    answer,
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
    app = Flask("app")
    app.register_error_handler(RequestRefused, answer)
    app.wsgi_app = SessionMiddleware(app.wsgi_app, world.sessions, **gate)  # type: ignore[method-assign]  # as Flask's documentation says

    @app.route("/public", methods=["GET", "POST"])
    def public() -> str:
        return "hello"

    @app.route("/who", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def who() -> dict[str, Any]:
        return world.shown(current_session(request))

    @app.route("/private", methods=["GET", "POST"])
    def private() -> dict[str, Any]:
        return world.shown(require_session(request))

    @app.get("/shared")
    def shared() -> Response:
        require_session(request)
        return Response("mine", headers={"Cache-Control": "private, max-age=60", "Vary": "Accept"})

    @app.get("/login")
    def login_page() -> str:
        return "sign in"

    @app.post("/login")
    def login() -> dict[str, Any]:
        issued = sign_in(request, world.user(request.args["name"]), credential=request.args.get("kind"))
        return world.handed_out(issued, return_target(request))

    @app.route("/logout", methods=["GET", "POST"])
    def logout() -> dict[str, Any]:
        return {"ended": sign_out(request)}

    @app.post("/rotate")
    def rotated() -> dict[str, Any]:
        return world.handed_out(rotate(request))

    @app.post("/reauthenticate")
    def reauthenticated() -> dict[str, Any]:
        return world.handed_out(reauthenticate(request))

    @app.post("/sudo")
    def sudo() -> dict[str, Any]:
        return world.shown(require_recent(request, RECENT))

    @app.post("/held")
    def held() -> dict[str, Any]:
        issued = None if "last" in request.args else reauthenticate(request)
        world.door.pass_through()
        issued = issued or reauthenticate(request)
        return world.handed_out(issued)

    @app.get("/devices")
    def devices() -> list[dict[str, Any]]:
        return world.devices(require_session(request))

    @app.post("/revoke")
    def revoke() -> Response:
        return Response(status=world.revoke(require_session(request), request.args["id"]))

    return app
