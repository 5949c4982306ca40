"""Flask."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, Response, request

from lastseen import LastSeen
from lastseen.web.keys.wsgi import ApiKeyMiddleware, current_key
from tests.web.keys.apps.source import DEVICE

seen = LastSeen.open(os.environ["LASTSEEN_DATABASE_URL"])
app = Flask(__name__)


@app.post("/locations")
@app.post("/devices/<_>/location")
def report(_: str = "") -> Any:
    """Take a position; 401 without a valid key."""
    key = current_key(request)
    return Response(status=401) if key is None else [key.name, request.get_json()]


@app.get("/health")
@app.route("/anyone", methods=["GET", "POST"])
def anyone() -> str:
    """Answer anybody."""
    return "hello"


app.wsgi_app = ApiKeyMiddleware(app.wsgi_app, seen.keys, seen.devices, device=DEVICE)  # type: ignore[method-assign]  # as Flask's documentation says
