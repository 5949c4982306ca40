"""FastAPI, whose location report depends on a key."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI

from lastseen import LastSeen
from lastseen.devices.key import ApiKey
from lastseen.web.keys.fastapi import RequiredKey
from tests.web.keys.apps.source import DEVICE

seen = LastSeen.open(os.environ["LASTSEEN_DATABASE_URL"])
Key = Annotated[ApiKey, Depends(RequiredKey(seen.keys, seen.devices, device=DEVICE))]


@asynccontextmanager
async def save_at_shutdown(_: FastAPI) -> AsyncIterator[None]:
    """Nothing else does where there is no middleware."""
    yield
    seen.close()


app = FastAPI(lifespan=save_at_shutdown)


@app.post("/locations")
@app.post("/devices/{_}/location")
async def report(key: Key, position: dict[str, Any]) -> list[Any]:
    """Take a position; 401 without a valid key."""
    return [key.name, position]


@app.get("/health")
@app.api_route("/anyone", methods=["GET", "POST"])
async def anyone() -> str:
    """Answer anybody."""
    return "hello"
