"""`POST /api/v1/events`: events of the product's own form, acknowledged when they are durable. Plain ASGI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from lastseen.devices.key import Scope
from lastseen.errors import StoreError
from lastseen.ingest.known_sites import Intake
from lastseen.ingest.origin import Origin, is_browser
from lastseen.ingest.outcome import Dropped, Overloaded, Unacceptable
from lastseen.ingest.own import Received, decode_events, decode_form, decode_lines
from lastseen.ingest.service import Ingest
from lastseen.ingest.unpack import decompress
from lastseen.server.body import MAX_JSON_BODY, ClientGone, Receive, Send
from lastseen.server.body import Scope as Connection
from lastseen.server.ingest.replies import (
    CLIENT_GONE,
    JSON,
    NO_KEY_NOW,
    Headers,
    SiteFinder,
    answer_preflight,
    api_key_of,
    bearer_of,
    failure_of,
    json_start,
    origin_of,
    problem_body,
    query_of,
    read_body,
    send_json,
)
from lastseen.server.limits import RateLimits, network_of
from lastseen.server.problem import MEDIA_TYPE, problem_of
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.web.sessions.threads import in_thread

PATH = "/api/v1/events"
SHOWN_ERRORS = 10

IN_A_THREAD_FROM = 64 * 1024
"""Bytes; decoding more would hold all other requests up."""
_LONGEST_REMEMBERED = 200
"""Bytes of a header."""
_PROBLEM = MEDIA_TYPE.encode()
_LINES = {
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/x-jsonlines",
    b"text/plain",
}
_JSON = {b"", b"application/json"}
_FORM = b"application/x-www-form-urlencoded"
_WRONG_TYPE = (
    "send the events as application/json, one a line as application/x-ndjson, either of them as text/plain, or as the "
    "field data of application/x-www-form-urlencoded"
)
ONE = b'{"accepted":1,"dropped":0}'
"""What is told of one event that was taken."""
_START_ONE = json_start({}, 200, ONE)
_BODY_ONE = {"type": "http.response.body", "body": ONE}
"""The usual answer of a server's event, made once."""
_TWO_SITES = "the events name different write keys; send the events of each site by themselves"
_NO_KEY = (
    "the request names no site: send its write key as write_key in the body or the query, or as Authorization: Bearer; "
    "or send an API key with the scope events:write"
)

Decoder = Callable[[bytes, Origin], Received]


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    media_type: bytes = JSON


class EventsRoute:
    """Takes events of any client that knows a site's write key, from any origin."""

    def __init__(self, ingest: Ingest, limits: RateLimits) -> None:
        self._ingest = ingest
        self._limits = limits
        self._sites = SiteFinder(ingest.sites)

    async def __call__(self, scope: Connection, headers: Headers, receive: Receive, send: Send) -> int:
        """Answer one request and return its status; never raises for what a client sends."""
        method = scope["method"]
        if method == "OPTIONS":
            return await answer_preflight(send, headers)
        if method != "POST":
            return await _send(send, headers, _problem(405, "post events here"))
        try:
            received, refused = await self._take(scope, headers, receive)
        except ClientGone:
            return CLIENT_GONE
        except (Unacceptable, Overloaded, StoreError) as error:
            return await _send(send, headers, refusal_of(error))
        if len(received.events) == 1 and not received.dropped and not refused and b"origin" not in headers:
            await send(_START_ONE)
            await send(_BODY_ONE)
            return 200
        return await _send(send, headers, told(received, refused))

    async def _take(self, scope: Connection, headers: Headers, receive: Receive) -> tuple[Received, Sequence[int]]:
        """Return what a request brought when that is durable, and the places of what the database refuses."""
        ingest = self._ingest
        body = await read_body(headers, receive, MAX_JSON_BODY)
        origin = origin_of(scope, headers, ingest)
        if len(body) >= IN_A_THREAD_FROM or b"content-encoding" in headers:
            received = await in_thread(decode, body, headers, origin)
        else:
            received = decode(body, headers, origin)
        intake = ingest.sites.recall_fresh(plain_key(headers, received)) or await self._intake(scope, headers, received)
        for dropped in received.dropped:
            ingest.figures.dropped[dropped.cause] += 1
        if not received.events:
            return received, ()
        return received, await ingest.commit.submit(intake.make, received.events, received.size)

    async def _intake(self, scope: Connection, headers: Headers, received: Received) -> Intake:
        """Return the site that a request names in any of the ways there are; raises `Unacceptable`."""
        token = bearer_of(headers) if b"authorization" in headers else None
        secret = api_key_of(headers, token)
        if secret is not None:
            try:
                return await in_thread(self._of_api_key, secret, query_of(scope["query_string"]).get("site"))
            except StoreError as error:
                raise Unacceptable(503, NO_KEY_NOW) from error
            except Unacceptable as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    self._count_wrong_key(scope, headers)
                raise
        key = _key_of(scope, headers, token, received)
        intake = await self._sites.find(key)
        if intake is None:
            if key:
                raise Unacceptable(401, "no site has this write key", code="invalid_key")
            raise Unacceptable(401, _NO_KEY, code="credential_required")
        if received.other_key:
            raise Unacceptable(400, _TWO_SITES)
        return intake

    def _count_wrong_key(self, scope: Connection, headers: Headers) -> None:
        """Raise `Unacceptable` for one wrong key too many from a network; right keys from there are still right."""
        origin = origin_of(scope, headers, self._ingest)
        problem = self._limits.failed(network_of(origin.address))
        if problem is not None:
            # What browsers send takes 429 for final.
            is_page = b"origin" in headers or is_browser(origin.user_agent)
            raise Unacceptable(503 if is_page else 429, "too many wrong API keys; wait a moment", code="rate_limited")

    def _of_api_key(self, secret: str, site_id: str | None) -> Intake:
        """Return the site that an API key may write to: its own, or the one that is asked for."""
        key = self._ingest.keys.verify(secret)
        if key is None:
            raise Unacceptable(401, "this API key is unknown, expired or revoked", code="invalid_key")
        self._ingest.keys.record_used(key.id)
        if key.device_id is not None:
            self._ingest.devices.record_seen(key.device_id)
        if Scope.EVENTS_WRITE not in key.scopes:
            need = Scope.EVENTS_WRITE.value
            raise Unacceptable(403, f"this API key lacks the scope {need}", code="scope_missing", scope=need)
        if key.site_id is not None and site_id not in {None, key.site_id}:
            raise Unacceptable(403, "this API key belongs to another site", code="other_site")
        intake = self._ingest.sites.look_up_site(key.site_id or site_id or DEFAULT_SITE_ID)
        if intake is None:
            raise Unacceptable(404, "there is no such site")
        return intake


async def _send(send: Send, headers: Headers, reply: Reply) -> int:
    return await send_json(send, headers, reply.status, reply.body, reply.media_type)


def told(received: Received, refused: Sequence[int]) -> Reply:
    """Return what is said of a request whose events are durable, but for those that the database refuses."""
    accepted = len(received.events) - len(refused)
    dropped = _with_refused(received, refused) if refused else received.dropped
    if not dropped:
        return Reply(200, b'{"accepted":%d,"dropped":0}' % accepted)
    errors = [{"index": one.index, "reason": one.reason} for one in dropped[:SHOWN_ERRORS]]
    if accepted == 0:
        return _problem(400, f"no event of {len(dropped)} could be taken: {dropped[0].reason}", errors=errors)
    return Reply(200, msgspec.json.encode({"accepted": accepted, "dropped": len(dropped), "errors": errors}))


def refusal_of(error: Exception) -> Reply:
    """Return what is said of a request of which nothing was taken."""
    if isinstance(error, Unacceptable | Overloaded | StoreError):
        status, detail = failure_of(error)
        return _problem(status, detail, **(error.members if isinstance(error, Unacceptable) else {}))
    problem = problem_of(error)
    return Reply(problem.status_code, problem.body(), _PROBLEM)


def _problem(status: int, detail: str, **members: Any) -> Reply:
    return Reply(status, problem_body(status, HTTPStatus(status).phrase, detail, **members), _PROBLEM)


def decode(body: bytes, headers: Headers, origin: Origin) -> Received:
    """Return what the body holds. What browsers call text or a form is what they may send without asking first."""
    if encoding := headers.get(b"content-encoding"):
        body = decompress(body, encoding.decode("latin-1"), MAX_JSON_BODY)
    received = decoder_for(headers)(body, origin)
    received.size = len(body)
    return received


def decoder_for(headers: Headers) -> Decoder:
    """Return what reads a body of this type; raises `Unacceptable` for a type of which no event can be."""
    media_type = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if media_type in _JSON:
        return decode_events
    if media_type in _LINES:
        return decode_lines
    if media_type == _FORM:
        return decode_form
    raise Unacceptable(415, _WRONG_TYPE)


def plain_key(headers: Headers, received: Received) -> str | None:
    """Return the write key where it usually is; None: it takes a closer look."""
    if b"x-api-key" in headers or received.other_key:
        return None
    if received.write_key:
        # An API key goes first.
        return None if b"authorization" in headers else received.write_key
    given = headers.get(b"authorization")
    return None if given is None or len(given) > _LONGEST_REMEMBERED else _write_key_in(given)


@lru_cache(maxsize=1_000)
def _write_key_in(authorization: bytes) -> str | None:
    token = bearer_of({b"authorization": authorization})
    return None if token is None or api_key_of({}, token) is not None else token


def _key_of(scope: Connection, headers: Headers, token: str | None, received: Received) -> str | None:
    if received.write_key:
        return received.write_key
    if b"authorization" in headers:
        return token
    return query_of(scope["query_string"]).get("write_key")


def _with_refused(received: Received, refused: Sequence[int]) -> list[Dropped]:
    """Return all that was dropped, with the places in the request of what the database refused."""
    gone = {one.index for one in received.dropped}
    places = [index for index in range(len(received.events) + len(gone)) if index not in gone]
    cause = "refused by the database"
    return received.dropped + [Dropped(index=places[one], cause=cause, reason=cause) for one in refused]
