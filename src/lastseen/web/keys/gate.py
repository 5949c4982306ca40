"""What becomes of a request that carries an API key, whatever framework it came through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypedDict
from uuid import UUID

from lastseen.activity.identify import (
    ClientSource,
    RequestFacts,
    first_of,
    header,
    json_body,
    reads_body,
    reads_principal,
)
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.devices.key import ApiKey, Scope
from lastseen.devices.manager import ApiKeys, Devices
from lastseen.errors import ConfigurationError, FlushError, StoreError
from lastseen.web.exclude import excluded_paths
from lastseen.web.facts import TrackingOptions
from lastseen.web.sessions.refusal import CONFLICT, Refusal

KEY = "lastseen.api_key"
"""Where a request keeps its `RequestKey`."""

DEFAULT_DEVICE = first_of(header("X-Device-ID"), json_body("device_id"))
"""The device in the header, and where that names none, in the JSON body."""

OPEN_PATHS = (
    "/health",
    "/healthz",
    "/health/live",
    "/health/ready",
    "/livez",
    "/readyz",
    "/metrics",
    "/static/*",
    "/favicon.ico",
    "/robots.txt",
)
"""Probes, scrapers and static files, each by its whole name: what is guarded must not stand open because an
application calls it `/health-records` or `/metrics/revenue`."""

CHALLENGE = ("WWW-Authenticate", "Bearer")

UNAVAILABLE = Refusal(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="store_unavailable",
    detail="API keys cannot be looked up right now; try again in a moment.",
    headers=(("Retry-After", "5"),),
)

_BEARER = "bearer "
_OURS = "ls_"


class KeyOptions(TypedDict, total=False):
    """What can be chosen for a middleware; every option may be left out."""

    device: ClientSource
    """Names the device of a request whose key belongs to none, see `lastseen.activity.identify`: `DEFAULT_DEVICE`."""

    require: bool
    """Refuse every request without a valid key: 401. Otherwise it goes on, and the application decides."""

    scopes: Iterable[Scope | str]
    """Refuse a key that lacks one of these: 403."""

    exclude: Iterable[str]
    """Patterns of paths where keys are neither looked at nor asked for: `OPEN_PATHS`, health checks above all."""

    clock: Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestKey:
    """What is known of a request's key."""

    key: ApiKey | None = None
    """The key, when it is valid."""
    is_presented: bool = False
    """Whether the request carries something that looks like one."""


ANONYMOUS = RequestKey()


class KeyGate:
    """The options of a middleware, checked once, and its decisions. Blocks only in `verify`."""

    def __init__(
        self,
        keys: ApiKeys,
        devices: Devices | None,
        *,
        device: ClientSource = DEFAULT_DEVICE,
        require: bool = False,
        scopes: Iterable[Scope | str] = (),
        exclude: Iterable[str] = OPEN_PATHS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if isinstance(exclude, str) or isinstance(scopes, str):
            raise ConfigurationError("exclude and scopes must be lists, not one text")
        self.keys = keys
        self.devices = devices
        self.clock = clock
        self.excludes = excluded_paths(exclude)
        self.source = device
        self._require = require
        self._scopes = required_scopes(scopes)

    def verify(self, secret: str) -> RequestKey | Refusal:
        """Ask whether the secret is a key's; a store that does not answer is no reason to call it wrong."""
        try:
            return self._verified(self.keys.verify(secret))
        except StoreError:
            return UNAVAILABLE

    def remembered(self, secret: str) -> RequestKey | None:
        """Return what `verify` would, when that needs no question to the store."""
        key = self.keys.remembered(secret)
        return None if key is None else self._verified(key)

    def _verified(self, key: ApiKey | None) -> RequestKey:
        return RequestKey(key=key, is_presented=True)

    def let_in(self, found: RequestKey | Refusal) -> RequestKey | Refusal:
        """Return what was found, or the refusal of a request that may not go on.

        Notes that a valid key was used, and that its own device was seen.
        """
        if isinstance(found, Refusal):
            return found
        key = found.key
        if key is None:
            return key_required(found) if self._require else found
        now = self.clock.now()
        self.keys.record_used(key.id, now)
        if self._scopes and not self._scopes <= key.scopes:
            return missing_scopes(key, self._scopes) or found
        if key.device_id is not None and self.devices is not None:
            self.devices.record_seen(key.device_id, now)
        return found

    def must_look(self, found: RequestKey) -> bool:
        """Return whether the request itself may name the device: not when the key's own is noted already."""
        key = found.key
        return self.devices is not None and key is not None and key.device_id is None and key.site_id is None

    def sightings(self, key_of: Callable[[Any], RequestKey]) -> tuple[SeenDevices, TrackingOptions] | None:
        """Return what the tracking of requests needs to note the devices that they name; None where none are tracked.

        `key_of` finds what is known of the key in the framework's own request.
        """
        if self.devices is None:
            return None
        source = DeviceOfKey(self.source, key_of)
        return SeenDevices(self.devices), {"source": source, "exclude": (), "clock": self.clock}

    def flush(self) -> None:
        """Write what waits, at the shutdown of a server; raises `FlushError`."""
        problem: FlushError | None = None
        for tracked in (self.keys, self.devices):
            try:
                if tracked is not None:
                    tracked.flush()
            except FlushError as error:
                problem = error
        if problem is not None:
            raise problem


def key_in(place: Mapping[str, Any]) -> RequestKey:
    """Return what a middleware has put into the scope or the environ; `ConfigurationError` when there was none."""
    found: RequestKey | None = place.get(KEY)
    if found is None:
        raise ConfigurationError("ApiKeyMiddleware is not installed around this application")
    return found


def secret_of(authorization: str | None, api_key: str | None) -> str | Refusal | None:
    """Return the secret that a request's `Authorization` or `X-API-Key` carries, as it was sent.

    A bearer token without the beginning of our secrets is somebody else's. Two different ones are a conflict.
    """
    bearer = None
    if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
        token = authorization[len(_BEARER) :].strip()
        bearer = token if token.startswith(_OURS) else None
    plain = api_key.strip() if api_key else None
    if bearer is not None and plain and bearer != plain:
        return CONFLICT
    return bearer or plain or None


def required_scopes(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    """Return the scopes; raise `ConfigurationError` for one that there is not."""
    try:
        return frozenset(Scope(scope) for scope in scopes)
    except ValueError as error:
        raise ConfigurationError(f"scopes must be among {', '.join(Scope)}") from error


def key_required(request: RequestKey) -> Refusal:
    """Return the 401; a secret that was presented is called invalid (RFC 6750, 3.1)."""
    name, challenge = CHALLENGE
    return Refusal(
        status=HTTPStatus.UNAUTHORIZED,
        code="invalid_key" if request.is_presented else "key_required",
        detail="This API key is not valid." if request.is_presented else "Send an API key: Authorization: Bearer ls_…",
        headers=((name, challenge + (' error="invalid_token"' if request.is_presented else "")),),
    )


def missing_scopes(key: ApiKey, scopes: frozenset[Scope]) -> Refusal | None:
    """Return the 403 that names the scopes which the key lacks (RFC 6750, 3.1), or None."""
    missing = sorted(scopes - key.scopes)
    if not missing:
        return None
    return Refusal(
        status=HTTPStatus.FORBIDDEN,
        code="insufficient_scope",
        detail=f"This API key lacks the scope {' and '.join(missing)}.",
        headers=((CHALLENGE[0], f'Bearer error="insufficient_scope", scope="{" ".join(missing)}"'),),
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device that a request is about, and the group that its key may speak for (None: any)."""

    device_id: Any
    within: str | None = None


class DeviceOfKey:
    """A source of `Sighting`s: for a key that belongs to no device, the device that the request names."""

    def __init__(self, source: ClientSource, key_of: Callable[[Any], RequestKey]) -> None:
        self._source = source
        self._key_of = key_of
        self.reads_body = reads_body(source)
        self.reads_principal = reads_principal(source)

    def __call__(self, facts: RequestFacts) -> Any:
        """Return the sighting, or None: of a request without a valid key, always."""
        key = self._key_of(facts.native).key
        if key is None or key.site_id is not None or key.device_id is not None:
            return None
        named = self._source(facts)
        return None if named is None else Sighting(named, key.group_id)


class SeenDevices:
    """A tracker of `Sighting`s."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    def record(self, sighting: Any, at: float) -> object:
        """Note that the device was seen at this moment, in seconds since 1970."""
        device_id = sighting.device_id
        if isinstance(device_id, int | UUID):
            device_id = str(device_id)
        return self._devices.record_seen(device_id, at, within=sighting.within)
