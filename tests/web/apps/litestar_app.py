"""Litestar."""

from __future__ import annotations

from typing import Any

from litestar import HttpMethod, Litestar, MediaType, Request, route
from litestar.response import Stream

from lastseen.web.asgi import ActivityMiddleware

METHODS = [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]


@route("/echo", http_method=METHODS, media_type=MediaType.TEXT, status_code=200)
async def echo(request: Request[Any, Any, Any]) -> bytes:
    """Answer with the body."""
    return await request.body()


@route("/unread", http_method=METHODS, media_type=MediaType.TEXT, status_code=200)
async def unread() -> str:
    """Answer without reading the body."""
    return "ok"


@route("/stream", http_method=METHODS, media_type=MediaType.TEXT, status_code=200)
async def stream(request: Request[Any, Any, Any]) -> Stream:
    """Answer with the pieces of the body."""
    return Stream([piece async for piece in request.stream()])


app = ActivityMiddleware.from_env(Litestar([echo, unread, stream], request_max_body_size=None), migrate=True)
