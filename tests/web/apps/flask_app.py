"""Flask."""

from __future__ import annotations

import os

from flask import Flask, Response, request

from lastseen.web.wsgi import ActivityMiddleware

app = Flask(__name__)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@app.route("/echo", methods=METHODS)
def echo() -> Response:
    """Answer with the body, and say which process answers."""
    return Response(request.get_data(), headers={"X-Process": str(os.getpid())})


@app.route("/unread", methods=METHODS)
def unread() -> str:
    """Answer without reading the body."""
    return "ok"


@app.route("/stream", methods=METHODS)
def stream() -> Response:
    """Answer with the pieces of the body."""
    return Response(list(iter(lambda: request.stream.read(1000), b"")))


app.wsgi_app = ActivityMiddleware.from_env(app.wsgi_app, migrate=True)  # type: ignore[method-assign]  # as Flask's documentation says
