"""API keys for Django, synchronous and asynchronous.

```python
MIDDLEWARE = [..., "lastseen.web.keys.django.ApiKeyMiddleware"]
LASTSEEN = {"DATABASE": "postgresql://…"}
LASTSEEN_KEYS = {"REQUIRE": True}
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse

from lastseen.devices.key import ApiKey
from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import RequestHead
from lastseen.web.django import ActivityMiddleware, lastseen
from lastseen.web.facts import RequestTracking
from lastseen.web.keys.gate import ANONYMOUS, DEFAULT_DEVICE, KEY, OPEN_PATHS, KeyGate, RequestKey
from lastseen.web.keys.wsgi import authenticated_by
from lastseen.web.sessions.refusal import Refusal
from lastseen.web.sessions.threads import in_thread

SETTING = "LASTSEEN_KEYS"
KEYS = ("LASTSEEN", "DEVICE", "REQUIRE", "SCOPES", "EXCLUDE", "DEVICES")


class ApiKeyMiddleware:
    """Authenticates every request that carries an API key: `Authorization: Bearer ls_…`, or `X-API-Key: ls_…`.

    After that, and only then, it notes that the key was used and the device was seen; see `KeyOptions`. The view finds
    the key with `current_key`. The setting `LASTSEEN_KEYS` is a dictionary; every key may be left out, another one
    raises `ConfigurationError`:

    - `LASTSEEN`: a `LastSeen`, or its dotted path; otherwise the one that the setting `LASTSEEN` describes.
    - `DEVICE`: a source, or its dotted path; `REQUIRE`: True; `SCOPES` and `EXCLUDE`: lists of texts.
    - `DEVICES`: False tracks the keys alone.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        options = _options()
        seen = _imported(options.get("LASTSEEN")) or lastseen()
        devices = seen.devices if options.get("DEVICES", True) else None
        self._gate = KeyGate(
            seen.keys,
            devices,
            device=_imported(options.get("DEVICE", DEFAULT_DEVICE)),
            require=bool(options.get("REQUIRE", False)),
            scopes=options.get("SCOPES", ()),
            exclude=options.get("EXCLUDE", OPEN_PATHS),
        )
        sightings = self._gate.sightings(request_key)
        self._tracked: Callable[[HttpRequest], Any] = get_response
        if sightings is not None:
            self._tracked = _DeviceTracking(get_response, RequestTracking(sightings[0], **sightings[1]))
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request, or return what awaits the answer."""
        if iscoroutinefunction(self):
            return self._answer_async(request)
        if self._is_excluded(request):
            return self.get_response(request)
        return self._go_on(request, authenticated_by(self._gate, request.META))

    async def _answer_async(self, request: HttpRequest) -> Any:
        if self._is_excluded(request):
            return await self.get_response(request)
        answer = self._go_on(request, await in_thread(authenticated_by, self._gate, request.META))
        return answer if isinstance(answer, HttpResponse) else await answer

    def _is_excluded(self, request: HttpRequest) -> bool:
        setattr(request, KEY, ANONYMOUS)
        return self._gate.excludes(request.path_info)

    def _go_on(self, request: HttpRequest, found: RequestKey | Refusal) -> Any:
        found = self._gate.let_in(found)
        if isinstance(found, Refusal):
            headers, body = found.answer(RequestHead(headers={"accept": request.headers.get("Accept", "")}))
            return HttpResponse(body, status=found.status, headers=dict(headers))
        setattr(request, KEY, found)
        return (self._tracked if self._gate.must_look(found) else self.get_response)(request)


class _DeviceTracking(ActivityMiddleware):
    """Notes the device of a request whose key is valid, around the rest of the application."""

    def __init__(self, get_response: Callable[[HttpRequest], Any], sightings: RequestTracking) -> None:
        self._sightings = sightings
        super().__init__(get_response)

    def make_tracking(self) -> RequestTracking:
        """Return the tracking of sightings."""
        return self._sightings


def request_key(request: HttpRequest) -> RequestKey:
    """Return everything that is known of the request's key; `ConfigurationError` without the middleware."""
    found: RequestKey | None = getattr(request, KEY, None)
    if found is None:
        raise ConfigurationError("lastseen.web.keys.django.ApiKeyMiddleware is not in MIDDLEWARE")
    return found


def current_key(request: HttpRequest) -> ApiKey | None:
    """Return the valid API key of the request, or None."""
    return request_key(request).key


def _options() -> Mapping[str, Any]:
    options: Mapping[str, Any] = getattr(django_settings, SETTING, {})
    for key in options:
        if key not in KEYS:
            raise ConfigurationError(f"unknown key {key!r} in the setting {SETTING}; there are: {', '.join(KEYS)}")
    return options


def _imported(given: Any) -> Any:
    """Return what a dotted path names, or what was given instead."""
    from django.utils.module_loading import import_string

    return import_string(given) if isinstance(given, str) else given
