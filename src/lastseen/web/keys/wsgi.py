"""API keys for WSGI: Flask and any other (PEP 3333). `request` is the framework's own request, or the environ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from lastseen.devices.key import ApiKey
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.web.keys.gate import ANONYMOUS, KEY, KeyGate, KeyOptions, RequestKey, key_in, secret_of
from lastseen.web.sessions.refusal import Refusal
from lastseen.web.sessions.wsgi import head_of
from lastseen.web.wsgi import ActivityMiddleware, Environ, StartResponse, WSGIApp, native_text


class ApiKeyMiddleware:
    """Authenticates every request that carries an API key: `Authorization: Bearer ls_…`, or `X-API-Key: ls_…`.

    After that, and only then, it notes that the key was used, and with `devices` that the device was seen: the key's
    own, or the one that the request names (see `KeyOptions`), within the key's group. Nothing of this reaches the
    request or its answer. A request without a key asks the store nothing.
    """

    def __init__(
        self, app: WSGIApp, keys: ApiKeys, devices: Devices | None = None, **options: Unpack[KeyOptions]
    ) -> None:
        self.app = app
        self._gate = KeyGate(keys, devices, **options)
        sightings = self._gate.sightings(key_in)
        self._tracked: WSGIApp = app if sightings is None else ActivityMiddleware(app, sightings[0], **sightings[1])

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        environ[KEY] = ANONYMOUS
        if self._gate.excludes(native_text(environ.get("PATH_INFO", ""))):
            return self.app(environ, start_response)
        found = self._gate.let_in(authenticated_by(self._gate, environ))
        if isinstance(found, Refusal):
            return _refuse(found, environ, start_response)
        environ[KEY] = found
        return (self._tracked if self._gate.must_look(found) else self.app)(environ, start_response)


def authenticated_by(gate: KeyGate, environ: Environ) -> RequestKey | Refusal:
    """Return what is known of the key in the headers of an environ."""
    secret = secret_of(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY"))
    if secret is None:
        return ANONYMOUS
    return secret if isinstance(secret, Refusal) else gate.verify(secret)


def _refuse(refusal: Refusal, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    head = head_of(environ)
    headers, body = refusal.answer(head)
    start_response(f"{refusal.status.value} {refusal.status.phrase}", list(headers))
    return [] if head.method == "HEAD" else [body]


def request_key(request: Any) -> RequestKey:
    """Return everything that is known of the request's key; `ConfigurationError` without the middleware."""
    return key_in(request if isinstance(request, dict) else request.environ)


def current_key(request: Any) -> ApiKey | None:
    """Return the valid API key of the request, or None."""
    return request_key(request).key
