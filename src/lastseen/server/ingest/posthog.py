"""The addresses that PostHog's client libraries call, answered as each of them needs. Plain ASGI."""

from __future__ import annotations

from typing import Any

import msgspec

from lastseen.errors import StoreError
from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Overloaded, Unacceptable
from lastseen.ingest.posthog import Batch, Hints, decode_batch
from lastseen.ingest.service import Ingest
from lastseen.ingest.unpack import decompress, form_key, is_json, parse, unwrap
from lastseen.server.body import ClientGone, Receive, Scope, Send
from lastseen.server.ingest.replies import (
    CLIENT_GONE,
    Headers,
    SiteFinder,
    answer_preflight,
    bearer_of,
    failure_of,
    origin_of,
    query_of,
    read_body,
    send_json,
)
from lastseen.web.sessions.threads import in_thread

MAX_BODY = 20 * 1024 * 1024
"""As it comes and decompressed; PostHog's own limit for /batch/."""

_IN_A_THREAD_FROM = 16 * 1024
_WRAPPED_IN_A_THREAD_FROM = 2 * 1024
"""What is compressed may become a thousand times as long."""
_DONE = b'{"status":1}'
_SCRIPT = b"application/javascript"
_REQUEST_ID = "00000000-0000-4000-8000-000000000000"

REMOTE_CONFIG: dict[str, Any] = {
    "supportedCompression": ["gzip", "gzip-js"],
    "analytics": {"endpoint": "/i/v0/e/"},
    # It has to be there, as false: without it nothing is captured automatically.
    "autocapture_opt_out": False,
    "autocaptureExceptions": False,
    "capturePerformance": False,
    "captureDeadClicks": False,
    "elementsChainAsString": True,
    "sessionRecording": False,
    "heatmaps": False,
    "surveys": False,
    "hasFeatureFlags": False,
    "defaultIdentifiedOnly": True,
    "isAuthenticated": False,
    "toolbarParams": {},
    "siteApps": [],
}
_FLAGS: dict[str, Any] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
    "requestId": _REQUEST_ID,
}
_CONFIG_BODY = msgspec.json.encode(REMOTE_CONFIG)
_FLAGS_BODY = msgspec.json.encode(_FLAGS)
_FLAGS_WITH_CONFIG_BODY = msgspec.json.encode({**REMOTE_CONFIG, **_FLAGS})
_NO_FLAG_DEFINITIONS = msgspec.json.encode({"flags": [], "group_type_mapping": {}, "cohorts": {}})
_CODES = {400: "invalid_payload", 401: "invalid_api_key", 413: "payload_too_large", 503: "unavailable"}

CAPTURE_PATHS = frozenset(
    {"/e", "/i/v0/e", "/capture", "/track", "/engage", "/batch", "/i/v0/ai/batch", "/s", "/i/v0/s"}
)
NEWEST_PATH = "/i/v1/analytics/events"


class PostHogRoutes:
    """Answers PostHog's libraries, whatever origin their page has. `find` says which paths are theirs."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._sites = SiteFinder(ingest.sites)

    async def capture(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:
        """Take events in the form of every library but the newest."""
        method = scope["method"]
        if method == "OPTIONS":
            return await answer_preflight(send, headers)
        try:
            await self._take(scope, headers, receive)
        except ClientGone:
            return CLIENT_GONE
        except (Unacceptable, Overloaded, StoreError) as error:
            return await _refuse(send, headers, *failure_of(error))
        # posthog for Python takes any other 2xx for a failure. The body never names a quota: one that does silences
        # posthog-js for a minute.
        return await send_json(send, headers, 200, _DONE)

    async def capture_newest(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:
        """Take events in the form that answers for each event by itself."""
        if scope["method"] == "OPTIONS":
            return await answer_preflight(send, headers)
        try:
            batch, refused = await self._take(scope, headers, receive)
        except ClientGone:
            return CLIENT_GONE
        except (Unacceptable, Overloaded, StoreError) as error:
            return await _refuse(send, headers, *failure_of(error))
        results = {uuid: {"result": "ok"} for uuid in batch.uuids if uuid is not None}
        for dropped in batch.dropped:
            if (uuid := batch.uuids[dropped.index]) is not None:
                results[uuid] = {"result": "drop", "details": dropped.reason}
        for event_id in refused:
            if event_id in results:
                results[event_id] = {"result": "drop", "details": "refused by the database"}
        return await send_json(send, headers, 200, msgspec.json.encode({"results": results}))

    async def flags(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:
        """Say that there are no feature flags; to a library that asks for the configuration too, both."""
        if scope["method"] == "OPTIONS":
            return await answer_preflight(send, headers)
        try:
            await read_body(headers, receive, MAX_BODY)
        except ClientGone:
            return CLIENT_GONE
        except Unacceptable as error:
            return await _refuse(send, headers, error.status, error.detail)
        wants_config = query_of(scope["query_string"]).get("config") == "true"
        return await send_json(send, headers, 200, _FLAGS_WITH_CONFIG_BODY if wants_config else _FLAGS_BODY)

    async def decide(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:
        """Answer older libraries, for which the configuration is part of the flags."""
        if scope["method"] == "OPTIONS":
            return await answer_preflight(send, headers)
        try:
            await read_body(headers, receive, MAX_BODY)
        except ClientGone:
            return CLIENT_GONE
        except Unacceptable as error:
            return await _refuse(send, headers, error.status, error.detail)
        return await send_json(send, headers, 200, _FLAGS_WITH_CONFIG_BODY)

    async def configuration(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:  # noqa: ARG002
        """Answer `/array/{token}/config` and its script form; it is the same for all sites."""
        if scope["method"] == "OPTIONS":
            return await answer_preflight(send, headers)
        path = scope["path"].rstrip("/")
        if path.endswith("/config"):
            return await send_json(send, headers, 200, _CONFIG_BODY)
        token = msgspec.json.encode(path.split("/")[2])
        script = (
            b"(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};"
            b"window._POSTHOG_REMOTE_CONFIG[" + token + b"]={config:" + _CONFIG_BODY + b",siteApps:[]}})();"
        )
        return await send_json(send, headers, 200, script, _SCRIPT)

    async def flag_definitions(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:  # noqa: ARG002
        """Say that there are no flags to a server that would evaluate them itself."""
        return await send_json(send, headers, 200, _NO_FLAG_DEFINITIONS)

    async def _take(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Batch, list[str]]:
        """Store the events of a request; return them, and the ids of those that the database refuses for ever."""
        ingest = self._ingest
        body = await read_body(headers, receive, MAX_BODY)
        query = query_of(scope["query_string"])
        origin = origin_of(scope, headers, ingest)
        hints = _hints(headers, query)
        body = body or query.get("data", "").encode()
        is_plain = b"content-encoding" not in headers and is_json(body)
        if len(body) >= (_IN_A_THREAD_FROM if is_plain else _WRAPPED_IN_A_THREAD_FROM):
            batch = await in_thread(_decode, body, headers, origin, hints)
        else:
            batch = _decode(body, headers, origin, hints)
        intake = await self._sites.find(batch.token)
        if intake is None:
            raise Unacceptable(401, "the project API key is missing, or no site has it as its write key")
        for dropped in batch.dropped:
            ingest.figures.dropped[dropped.cause] += 1
        if not batch.events:
            return batch, []
        make = intake.make_import if batch.is_import else intake.make
        refused = await ingest.commit.save(make, batch.events, batch.size)
        return batch, [batch.events[place].id or "" for place in refused]


def _decode(body: bytes, headers: Headers, origin: Origin, hints: Hints) -> Batch:
    if encoding := headers.get(b"content-encoding"):
        body = decompress(body, encoding.decode("latin-1"), MAX_BODY)
    is_form = headers.get(b"content-type", b"").lower().startswith(b"application/x-www-form-urlencoded")
    if is_form and (key := form_key(body)):
        hints = msgspec.structs.replace(hints, token=key)
    body = unwrap(body, is_form=is_form, limit=MAX_BODY)
    batch = decode_batch(parse(body), origin, hints)
    batch.size = len(body)
    return batch


def _hints(headers: Headers, query: dict[str, str]) -> Hints:
    sent_at = headers.get(b"posthog-request-timestamp")
    library = headers.get(b"posthog-sdk-info")
    return Hints(
        token=bearer_of(headers) or query.get("token") or query.get("api_key"),
        sent_at=sent_at.decode("latin-1") if sent_at else query.get("sent_at") or query.get("_"),
        library=library.decode("latin-1")[:100] if library else None,
    )


async def _refuse(send: Send, headers: Headers, status: int, detail: str) -> int:
    kind = "authentication_error" if status == 401 else "validation_error"  # noqa: PLR2004
    body = {"type": kind, "code": _CODES.get(status, "invalid"), "detail": detail, "attr": None}
    return await send_json(send, headers, status, msgspec.json.encode(body))
