"""API keys as FastAPI dependencies, with or without the middleware of `lastseen.web.keys.asgi`.

```python
writes = RequiredKey(seen.keys, seen.devices, scopes=["activity:write"])

@app.post("/locations")
async def report(key: Annotated[ApiKey, Depends(writes)], location: Location) -> None: ...
```
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import HTTPException
from fastapi.security import HTTPBearer
from starlette.requests import Request

from lastseen.activity.identify import ClientSource
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.devices.key import ApiKey, Scope
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.web.facts import DEFAULT_PEEK_LIMIT, RequestTracking, is_json
from lastseen.web.keys.asgi import authenticated_by, credentials_in
from lastseen.web.keys.gate import DEFAULT_DEVICE, KEY, KeyGate, key_in, key_required
from lastseen.web.sessions.refusal import Refusal


class RequiredKey(HTTPBearer):
    """A dependency: the valid API key of the request, else 401, and 403 for one that lacks a scope.

    It does what `ApiKeyMiddleware` does, for the routes that depend on it. The OpenAPI document shows it.
    """

    def __init__(
        self,
        keys: ApiKeys,
        devices: Devices | None = None,
        *,
        device: ClientSource = DEFAULT_DEVICE,
        scopes: Iterable[Scope | str] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(scheme_name="API key", description="An API key: `ls_…`", auto_error=False)
        self._gate = KeyGate(keys, devices, device=device, scopes=scopes, exclude=(), clock=clock)
        sightings = self._gate.sightings(key_in)
        self._tracking = None if sightings is None else RequestTracking(sightings[0], **sightings[1])

    async def __call__(self, request: Request) -> ApiKey:  # type: ignore[override]
        """Authenticate, note what was used and seen, and return the key."""
        arrived_at = self._gate.clock.now()
        found = self._gate.let_in(await authenticated_by(self._gate, *credentials_in(request.scope)))
        if isinstance(found, Refusal) or found.key is None:
            refusal = found if isinstance(found, Refusal) else key_required(found)
            raise HTTPException(refusal.status, refusal.detail, dict(refusal.headers))
        request.scope[KEY] = found
        if self._tracking is not None and self._gate.must_look(found):
            body = await _json_of(request) if self._tracking.reads_body else None
            self._tracking.record(_Facts(request, arrived_at, body))
        return found.key


async def _json_of(request: Request) -> bytes | None:
    """Return the body that is JSON and not too large; FastAPI has read it before, and it can be read again."""
    if not is_json(request.headers.get("content-type", "")):
        return None
    body = await request.body()
    return body if len(body) <= DEFAULT_PEEK_LIMIT else None


class _Facts:
    """See `RequestFacts`."""

    principal: Any = None

    def __init__(self, request: Request, arrived_at: float, body: bytes | None) -> None:
        self._request = request
        self.arrived_at = arrived_at
        self.body = body
        self.native = request.scope
        self.method = request.method
        self.query_string: bytes = request.scope.get("query_string", b"")
        path: str = request.scope["path"]
        root: str = request.scope.get("root_path") or ""
        self.path = path.removeprefix(root) if root and path.startswith(f"{root}/") else path

    def header(self, name: str) -> str | None:
        """See `RequestFacts`."""
        return self._request.headers.get(name)
