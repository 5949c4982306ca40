"""The addresses that the libraries of Segment, Plausible and Umami call. Plain ASGI."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from lastseen.errors import StoreError
from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Overloaded, Unacceptable
from lastseen.ingest.posthog import Batch
from lastseen.ingest.segment import SHORT_NAMES, TYPES, decode_segment
from lastseen.ingest.service import Ingest
from lastseen.ingest.trackers import decode_plausible, decode_umami
from lastseen.ingest.unpack import decompress, parse
from lastseen.server.body import MAX_JSON_BODY, ClientGone, Receive, Scope, Send
from lastseen.server.ingest.events import IN_A_THREAD_FROM
from lastseen.server.ingest.replies import (
    CLIENT_GONE,
    Headers,
    SiteFinder,
    answer_preflight,
    failure_of,
    origin_of,
    problem_body,
    read_body,
    send_json,
)
from lastseen.web.sessions.threads import in_thread

SEGMENT_PATHS = frozenset(f"/v1/{name}" for name in ("batch", "b", "import", *TYPES, *SHORT_NAMES))
PLAUSIBLE_PATH = "/api/event"
UMAMI_PATHS = frozenset({"/api/send", "/api/collect"})

_Decode = Callable[[bytes, Headers, Origin], Batch]
_Road = Callable[[Scope, Headers, Receive, Send], Awaitable[int]]
_TEXT = b"text/plain"


class OtherClients:
    """Answers each library as it needs; `roads` says on which addresses."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._sites = SiteFinder(ingest.sites)
        self.roads: dict[str, _Road] = {path: self._segment(path) for path in SEGMENT_PATHS}
        self.roads[PLAUSIBLE_PATH] = self._road(_plausible, 202, b"ok", _TEXT)
        for path in UMAMI_PATHS:
            self.roads[path] = self._road(_umami, 200, b'{"cache":"","sessionId":"","visitId":""}')

    def _segment(self, path: str) -> _Road:
        name = path.removeprefix("/v1/")
        kind = SHORT_NAMES.get(name, name)
        single = kind if kind in TYPES else None

        def decode(body: bytes, headers: Headers, origin: Origin) -> Batch:
            return decode_segment(parse(body), origin, kind=single, key=_basic_user(headers))

        return self._road(decode, 200, b'{"success":true}')

    def _road(self, decode: _Decode, status: int, done: bytes, media_type: bytes = b"application/json") -> _Road:
        async def road(scope: Scope, headers: Headers, receive: Receive, send: Send) -> int:
            if scope["method"] == "OPTIONS":
                return await answer_preflight(send, headers)
            try:
                await self._take(decode, scope, headers, receive)
            except ClientGone:
                return CLIENT_GONE
            except (Unacceptable, Overloaded, StoreError) as error:
                code, detail = failure_of(error)
                return await send_json(send, headers, code, problem_body(code, HTTPStatus(code).phrase, detail))
            return await send_json(send, headers, status, done, media_type)

        return road

    async def _take(self, decode: _Decode, scope: Scope, headers: Headers, receive: Receive) -> None:
        ingest = self._ingest
        if scope["method"] != "POST":
            raise Unacceptable(405, "post events here")
        body = await read_body(headers, receive, MAX_JSON_BODY)
        origin = origin_of(scope, headers, ingest)
        if len(body) >= IN_A_THREAD_FROM or b"content-encoding" in headers:
            batch = await in_thread(_decoded, decode, body, headers, origin)
        else:
            batch = _decoded(decode, body, headers, origin)
        intake = await self._sites.find(batch.token)
        if intake is None:
            raise Unacceptable(401, "the key is missing, or no site has it")
        for dropped in batch.dropped:
            ingest.figures.dropped[dropped.cause] += 1
        if batch.events:
            await ingest.commit.save(intake.make, batch.events, batch.size)


def _decoded(decode: _Decode, body: bytes, headers: Headers, origin: Origin) -> Batch:
    if encoding := headers.get(b"content-encoding"):
        body = decompress(body, encoding.decode("latin-1"), MAX_JSON_BODY)
    batch = decode(body, headers, origin)
    batch.size = len(body)
    return batch


def _plausible(body: bytes, headers: Headers, origin: Origin) -> Batch:  # noqa: ARG001 - as all decoders
    return decode_plausible(parse(body), origin)


def _umami(body: bytes, headers: Headers, origin: Origin) -> Batch:  # noqa: ARG001 - as all decoders
    return decode_umami(parse(body), origin)


def _basic_user(headers: Headers) -> str | None:
    """Return the user of `Authorization: Basic`, where Segment's libraries put the write key."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(credentials).partition(b":")[0].decode("ascii") or None
    except (binascii.Error, UnicodeDecodeError):
        return None
