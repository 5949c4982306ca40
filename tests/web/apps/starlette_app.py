"""Starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from lastseen.web.asgi import ActivityMiddleware

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def echo(request: Request) -> Response:
    """Answer with the body."""
    return Response(await request.body())


async def unread(request: Request) -> Response:
    """Answer without reading the body."""
    return PlainTextResponse("ok")


async def stream(request: Request) -> Response:
    """Answer with the pieces of the body."""
    pieces = [piece async for piece in request.stream()]

    async def again() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return StreamingResponse(again())


routes = [Route("/echo", echo, methods=METHODS), Route("/unread", unread, methods=METHODS)]
app = ActivityMiddleware.from_env(Starlette(routes=[*routes, Route("/stream", stream, methods=METHODS)]), migrate=True)
