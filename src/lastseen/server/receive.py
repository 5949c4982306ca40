"""`POST /api/v1/activity`: the hot route, plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

from lastseen.activity.buffer import Outcome
from lastseen.activity.clients import ClientActivity
from lastseen.server.body import (
    MAX_JSON_BODY,
    ClientGone,
    LineCutter,
    Message,
    Receive,
    Scope,
    Send,
    gunzip,
    read_pieces,
    read_whole,
    too_large,
)
from lastseen.server.problem import MEDIA_TYPE, Problem, problem_of
from lastseen.server.touches import Reception, Tally, decode_plain

PATH = "/api/v1/activity"
CLIENT_GONE = 499
"""Not sent to anybody: what the metrics call a request whose client left."""

_TEXT = b"text/plain"
_LINES = {
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/x-jsonlines",
    _TEXT,
}
_JSON = {b"application/json", b""}
_ONE_ACCEPTED = Tally(accepted=1)
_ONE_ACCEPTED_BODY = _ONE_ACCEPTED.body()
_NOSNIFF = (b"x-content-type-options", b"nosniff")


def _start(status: int, body: bytes, media_type: bytes = b"application/json") -> Message:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), _NOSNIFF]
    return {"type": "http.response.start", "status": status, "headers": headers}


_POST_ONLY = Problem(405, "post activity here; ask at /api/v1/clients", headers={"allow": "POST"})
_START_ONE = _start(202, _ONE_ACCEPTED_BODY)
_BODY_ONE: Message = {"type": "http.response.body", "body": _ONE_ACCEPTED_BODY}


class ActivityRoute:
    """Records what is posted and answers 202: held in memory, written by the next flush, saved at an orderly stop.

    `totals` counts what became of all activities since the start; it is touched on the event loop only.
    """

    def __init__(self, clients: ClientActivity) -> None:
        self._clients = clients
        self.totals = Tally()

    async def __call__(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> int:
        """Answer one request and return its status; never raises for what a client sends."""
        if scope["method"] != "POST":
            return await answer(_POST_ONLY, send)
        try:
            first = await receive()
            tally = self._receive_plain(scope, headers, first)
            if tally is None:
                tally = await self._receive(scope, headers, receive, first)
        except ClientGone:
            return CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - problem_of logs what is not the client's doing
            return await answer(problem_of(error), send)
        if tally is _ONE_ACCEPTED:
            await send(_START_ONE)
            await send(_BODY_ONE)
        else:
            body = tally.body()
            await send(_start(202, body))
            await send({"type": "http.response.body", "body": body})
        return 202

    def _receive_plain(self, scope: Scope, headers: dict[bytes, bytes], first: Message) -> Tally | None:
        """Record the usual request, one JSON object that names its client; None is: look closer, nothing was recorded.

        A third of the time of the general way, which every other request takes.
        """
        if (
            headers.get(b"content-type") != b"application/json"
            or first.get("more_body")
            or scope["query_string"]
            or b"content-encoding" in headers
        ):
            return None
        body = first.get("body")
        touch = decode_plain(body) if body and len(body) <= MAX_JSON_BODY else None
        if touch is None or not touch[0]:
            return None
        outcome = self._clients.record(*touch)
        if outcome is Outcome.ACCEPTED:
            self.totals.accepted += 1
            return _ONE_ACCEPTED
        reception = Reception(clients=self._clients)
        reception.count(outcome, touch[0], {"index": 0})
        self._add(reception.tally)
        return reception.tally

    async def _receive(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, first: Message) -> Tally:
        reception = Reception(clients=self._clients, client_id=_client_id_of(scope["query_string"]))
        media_type = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        try:
            if _is_empty(first):
                if not reception.client_id:
                    raise Problem(400, 'the body is empty; send {"client_id": "my-client"}, or name it as ?client_id=')
                reception.touch()
            elif media_type in _LINES:
                pieces = _decoded(headers, receive, first)
                await self._receive_lines(reception, pieces, is_text=media_type == _TEXT)
            elif media_type in _JSON:
                await self._receive_document(reception, headers, receive, first)
            else:
                raise Problem(415, "send application/json, or one JSON object a line as application/x-ndjson")
        finally:
            # What was recorded before a stream broke off stays recorded.
            self._add(reception.tally)
        return reception.tally

    async def _receive_document(
        self, reception: Reception, headers: dict[bytes, bytes], receive: Receive, first: Message
    ) -> None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_JSON_BODY:
            raise too_large(MAX_JSON_BODY)
        pieces = _decoded(headers, receive, first)
        for _ in reception.document(await read_whole(pieces)):
            await asyncio.sleep(0)

    async def _receive_lines(self, reception: Reception, pieces: AsyncIterator[bytes], *, is_text: bool) -> None:
        """Record one activity a line; one for a text that begins like none, where the query names its client."""
        cutter = LineCutter()
        may_be_prose = is_text and reception.client_id != ""
        async for piece in pieces:
            if may_be_prose and (start := piece.lstrip()[:1]):
                if start != b"{":
                    break
                may_be_prose = False
            for number, line in cutter.feed(piece):
                reception.line(number, line)
            await asyncio.sleep(0)
        if may_be_prose:
            reception.touch()
            async for _ in pieces:
                await asyncio.sleep(0)
            return
        for number, line in cutter.end():
            reception.line(number, line)

    def _add(self, tally: Tally) -> None:
        self.totals.accepted += tally.accepted
        self.totals.rejected += tally.rejected
        self.totals.dropped += tally.dropped


async def answer(problem: Problem, send: Send) -> int:
    """Send problem details and return the status."""
    body = problem.body()
    start = _start(problem.status_code, body, MEDIA_TYPE.encode())
    start["headers"] += [(name.encode(), value.encode()) for name, value in (problem.headers or {}).items()]
    await send(start)
    await send({"type": "http.response.body", "body": body})
    return problem.status_code


def _is_empty(first: Message) -> bool:
    return first["type"] == "http.request" and not first.get("body") and not first.get("more_body")


def _decoded(headers: dict[bytes, bytes], receive: Receive, first: Message) -> AsyncIterator[bytes]:
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    pieces = read_pieces(receive, first)
    if encoding in {b"gzip", b"x-gzip"}:
        return gunzip(pieces)
    if encoding not in {b"identity", b""}:
        # https://www.rfc-editor.org/rfc/rfc7694: a 415 with Accept-Encoding says which encodings there are.
        raise Problem(415, "the body may be compressed with gzip only", headers={"accept-encoding": "gzip"})
    return pieces


def _client_id_of(query_string: bytes) -> str:
    if not query_string:
        return ""
    # What is not UTF-8 becomes lone surrogates, which no client id may hold.
    fields = parse_qs(query_string.decode("utf-8", "surrogateescape"), errors="surrogateescape")
    return next(iter(fields.get("client_id", ())), "")
