"""API keys for ASGI: Starlette, FastAPI, Litestar, Quart and any other, on asyncio.

`request` is the framework's own request or websocket, or the scope.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Unpack

from lastseen.devices.key import ApiKey
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.web.asgi import ActivityMiddleware
from lastseen.web.asgi_types import ASGIApp, Receive, Scope, Send
from lastseen.web.keys.gate import ANONYMOUS, KEY, KeyGate, KeyOptions, RequestKey, key_in, secret_of
from lastseen.web.lifespan import serve_lifespan
from lastseen.web.sessions.asgi import head_of
from lastseen.web.sessions.refusal import Refusal
from lastseen.web.sessions.threads import in_thread


class ApiKeyMiddleware:
    """Authenticates every request that carries an API key: `Authorization: Bearer ls_…`, or `X-API-Key: ls_…`.

    After that, and only then, it notes that the key was used, and with `devices` that the device was seen: the key's
    own, or the one that the request names (see `KeyOptions`), within the key's group. Nothing of this reaches the
    request or its answer. The store is asked in a thread; a request without a key asks nothing.

    When the server shuts down, what waits is saved before the application's own shutdown and once more after it.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, devices: Devices | None = None, **options: Unpack[KeyOptions]
    ) -> None:
        self.app = app
        self._gate = KeyGate(keys, devices, **options)
        sightings = self._gate.sightings(key_in)
        self._tracked: ASGIApp = app if sightings is None else ActivityMiddleware(app, sightings[0], **sightings[1])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(self.app, self._gate, scope, receive, send)
        elif scope["type"] in {"http", "websocket"}:
            await self._serve(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[KEY] = ANONYMOUS
        if self._gate.excludes(_path_of(scope)):
            await self.app(scope, receive, send)
            return
        found = self._gate.let_in(await authenticated_by(self._gate, *credentials_in(scope)))
        if isinstance(found, Refusal):
            await _refuse(found, scope, send)
            return
        scope[KEY] = found
        await (self._tracked if self._gate.must_look(found) else self.app)(scope, receive, send)


async def authenticated_by(gate: KeyGate, authorization: str | None, api_key: str | None) -> RequestKey | Refusal:
    """Return what is known of the key in these two headers; the store is asked in a thread."""
    secret = secret_of(authorization, api_key)
    if secret is None:
        return ANONYMOUS
    if isinstance(secret, Refusal):
        return secret
    remembered = gate.remembered(secret)
    return await in_thread(gate.verify, secret) if remembered is None else remembered


def _path_of(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def credentials_in(scope: Scope) -> tuple[str | None, str | None]:
    """Return the two headers that may carry a key; a repeated one as WSGI servers join it, so that it is no key's.

    Whatever stands in front of the application may have looked at the first of them, or at the last.
    """
    found: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        if name in _CARRIERS:
            found.setdefault(name, []).append(value.decode("latin-1"))
    authorization, api_key = (", ".join(found[name]) if name in found else None for name in _CARRIERS)
    return authorization, api_key


_CARRIERS = (b"authorization", b"x-api-key")


async def _refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted, the server makes a 403 of it.
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
        return
    headers, body = refusal.answer(head_of(scope))
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def request_key(request: Any) -> RequestKey:
    """Return everything that is known of the request's key; `ConfigurationError` without the middleware."""
    return key_in(request if isinstance(request, MutableMapping) else request.scope)


def current_key(request: Any) -> ApiKey | None:
    """Return the valid API key of the request, or None."""
    return request_key(request).key
