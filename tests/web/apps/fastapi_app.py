"""FastAPI, with the middleware added its own way."""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from lastseen import LastSeen
from lastseen.web.asgi import ActivityMiddleware

seen = LastSeen.open(os.environ["LASTSEEN_DATABASE_URL"], migrate=True)
app = FastAPI()
app.add_middleware(ActivityMiddleware, tracker=seen.clients)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@app.api_route("/echo", methods=METHODS)
async def echo(request: Request) -> Response:
    """Answer with the body."""
    return Response(await request.body())


@app.api_route("/unread", methods=METHODS)
def unread() -> str:
    """Answer without reading the body."""
    return "ok"


@app.api_route("/stream", methods=METHODS)
async def stream(request: Request) -> Response:
    """Answer with the pieces of the body."""
    return StreamingResponse(iter([piece async for piece in request.stream()]))
