"""Reading what is posted from anywhere, and answering so that a page of any origin may read it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lastseen.errors import StoreError
from lastseen.ingest.known_sites import Intake, KnownSites
from lastseen.ingest.origin import Origin
from lastseen.ingest.outcome import Overloaded, Unacceptable
from lastseen.ingest.service import Ingest
from lastseen.ingest.unpack import too_large
from lastseen.server.body import ClientGone, Message, Receive, Send
from lastseen.visits.proxies import forwarded_for
from lastseen.web.sessions.threads import in_thread

JSON = b"application/json"
RETRY_AFTER = 5
BODY_WITHIN = 120
"""Seconds: ten mebibytes over less than a megabit a second."""
NO_KEY_NOW = "the database is away, so that this key cannot be looked up now; try again"
CLIENT_GONE = 499
"""Not sent to anybody: what the metrics call a request whose client left."""

_logger = logging.getLogger("lastseen.ingest")

Headers = dict[bytes, bytes]
Fields = dict[str, str]

_PREFLIGHT_AGE = (b"access-control-max-age", b"86400")
_METHODS = (b"access-control-allow-methods", b"GET, POST, OPTIONS")
_DEFAULT_HEADERS = b"content-type, content-encoding, authorization"
_CHALLENGE = (b"www-authenticate", b'Bearer realm="lastseen"')
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Return the body as it was sent; raises `ClientGone`, and `Unacceptable`: 413 as soon as it passes the limit.

    And 408 when it has not come within `BODY_WITHIN`: whoever went without a word would hold its place for ever.
    """
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
    task, is_late = asyncio.current_task(), False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        if task is not None:
            task.cancel()

    # As `asyncio.timeout` does, in a quarter of its time.
    timer = asyncio.get_running_loop().call_later(BODY_WITHIN, give_up)
    try:
        return await _received(receive, limit)
    except asyncio.CancelledError:
        if not is_late or task is None or task.uncancel():
            raise
        raise Unacceptable(408, f"the body did not come within {BODY_WITHIN} s; send it again") from None
    finally:
        timer.cancel()


async def _received(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _within(bytes(message.get("body", b"")), limit)
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise too_large(limit)
    return body


async def send_json(send: Send, headers: Headers, status: int, body: bytes, media_type: bytes = JSON) -> int:
    """Answer, with what lets the page that asked read it; returns the status."""
    await send(json_start(headers, status, body, media_type))
    await send({"type": "http.response.body", "body": body})
    return status


def json_start(headers: Headers, status: int, body: bytes, media_type: bytes = JSON) -> Message:
    """Return the head of an answer to a request with these headers."""
    fields = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *_ALWAYS]
    if b"origin" in headers:
        fields += _for_origin(headers[b"origin"])
    if status == 401:  # noqa: PLR2004
        fields.append(_CHALLENGE)
    if status in {429, 503}:
        fields.append((b"retry-after", str(RETRY_AFTER).encode()))
    if status == 405:  # noqa: PLR2004
        fields.append((b"allow", b"POST, OPTIONS"))
    if status in {408, 413}:  # the rest of the body is not read
        fields.append((b"connection", b"close"))
    return {"type": "http.response.start", "status": status, "headers": fields}


async def answer_preflight(send: Send, headers: Headers) -> int:
    """Tell a browser that a page of any origin may post here, with whatever headers its library sets."""
    asked = headers.get(b"access-control-request-headers", _DEFAULT_HEADERS)
    fields = [
        (b"content-length", b"0"),
        *_for_origin(headers.get(b"origin", b"*")),
        (b"access-control-allow-headers", asked),
        _METHODS,
        _PREFLIGHT_AGE,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b""})
    return 200


def _for_origin(origin: bytes) -> list[tuple[bytes, bytes]]:
    # Mirrored, not "*": libraries send with credentials, which the wildcard forbids. No route here looks at a cookie.
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After"),
        (b"vary", b"Origin"),
    ]


def failure_of(error: Exception) -> tuple[int, str]:
    """Return status and reason for what an ingest raises; anything else is raised again."""
    match error:
        case Unacceptable(status=status, detail=detail):
            return status, detail
        case Overloaded():
            return 503, str(error)
        case StoreError():
            return 503, "neither the database nor the disk can keep events now; try again"
    raise error


class SiteFinder:
    """Finds the site of a key; used by one event loop."""

    def __init__(self, sites: KnownSites) -> None:
        self._sites = sites
        self._reading: dict[str, asyncio.Task[Intake | None]] = {}

    async def find(self, key: str | None) -> Intake | None:
        """Return the site that a key names, None for one of no site; waits for the store when nothing fresh is known.

        One reading for each key, which all who need it wait for. While the store is away what was known is believed,
        and read again behind the request, so that a store that does not answer holds nobody up. Raises `Unacceptable`
        (503) when the store is away and no site is known for the key.
        """
        if not key:
            return None
        found = self._sites.recall(key)
        if found is not None and found.is_fresh:
            return found.intake
        reading = self._reading.get(key) or self._read(key)
        if found is not None and found.intake is not None and self._sites.is_store_away:
            return found.intake
        try:
            return await asyncio.shield(reading)
        except StoreError as error:
            raise Unacceptable(503, NO_KEY_NOW) from error

    def _read(self, key: str) -> asyncio.Task[Intake | None]:
        reading = asyncio.create_task(in_thread(self._sites.look_up, key))
        self._reading[key] = reading
        reading.add_done_callback(lambda done: self._end(key, done))
        return reading

    def _end(self, key: str, reading: asyncio.Task[Intake | None]) -> None:
        del self._reading[key]
        if not reading.cancelled() and reading.exception() is not None:
            _logger.warning("a site could not be read: %s", reading.exception())


def query_of(query: bytes) -> Fields:
    """Return the fields of a query, the first of several; what is no UTF-8 becomes replacement characters."""
    if not query:
        return {}
    fields: Fields = {}
    for name, value in parse_qsl(query.decode("utf-8", "replace"), errors="replace", max_num_fields=None):
        fields.setdefault(name, value)
    return fields


def origin_of(scope: Any, headers: Headers, ingest: Ingest) -> Origin:
    """Return what is known of a request beside its body, now."""
    client = scope.get("client")
    return Origin(
        received_at=round(ingest.clock.now() * 1_000_000),
        address=ingest.proxies.visitor(
            client[0] if client else None,
            # There may be several; of the headers only the last one is left.
            forwarded_for(scope["headers"]) if b"x-forwarded-for" in headers else None,
        ),
        user_agent=user_agent_of(headers),
    )


def user_agent_of(headers: Headers) -> str | None:
    """Return what calls itself the sender."""
    agent = headers.get(b"user-agent")
    return agent.decode("latin-1") if agent else None


def bearer_of(headers: Headers) -> str | None:
    """Return the token of `Authorization: Bearer`."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip().decode("latin-1") or None if scheme.lower() == b"bearer" else None


def api_key_of(headers: Headers, token: str | None) -> str | None:
    """Return what a request with this bearer token presents as an API key; the write key of a site is none."""
    given = headers.get(b"x-api-key")
    if given is not None:
        return given.strip().decode("latin-1")
    return token if token is not None and token.startswith("ls_") else None


def problem_body(status: int, title: str, detail: str, **members: Any) -> bytes:
    """Return problem details (RFC 9457)."""
    return msgspec.json.encode({"status": status, "title": title, "detail": detail, **members})
