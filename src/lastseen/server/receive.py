"""`POST /api/v1/activity`: the hot route, plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter
from urllib.parse import parse_qs

from lastseen.activity.buffer import Outcome
from lastseen.activity.clients import ClientActivity
from lastseen.ingest.unpack import is_json
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
from lastseen.server.metrics import Metrics
from lastseen.server.problem import MEDIA_TYPE, Problem, cut_off, problem_of, stopping
from lastseen.server.touches import NOT_DECODABLE, Reception, Tally, decode_touch, moment_of

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
_FORM = b"application/x-www-form-urlencoded"
"""What curl calls every body, JSON too."""
_ACCEPTED = Outcome.ACCEPTED
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

    def __init__(self, clients: ClientActivity, metrics: Metrics) -> None:
        self._clients = clients
        self._record = clients.record
        self._metrics = metrics
        self._usual_times = metrics.series("POST", PATH, 202)
        self.totals = Tally()

    async def __call__(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> int:
        """Answer one request and return its status; never raises for what a client sends."""
        if scope["method"] != "POST":
            return await answer(_POST_ONLY, send)
        first = await receive()
        is_usual = (
            headers.get(b"content-type") == b"application/json"
            and b"content-encoding" not in headers
            and not scope["query_string"]
        )
        tally = self._receive_plain(first) if is_usual else None
        if tally is None:
            return await self._look_closer(scope, headers, receive, send, first)
        return await _answer_tally(tally, send)

    async def answer_usual(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the usual request, and count it: a POST of JSON that is not compressed, without a query."""
        began = perf_counter()
        try:
            first = await receive()
        except asyncio.CancelledError:
            await cut_off(answer(stopping(), send))
            return
        tally = self._receive_plain(first)
        if tally is _ONE_ACCEPTED:
            await send(_START_ONE)
            await send(_BODY_ONE)
            self._usual_times.observe(perf_counter() - began)
            return
        if tally is None:
            status = await self._look_closer(scope, dict(scope["headers"]), receive, send, first)
        else:
            status = await _answer_tally(tally, send)
        self._metrics.request("POST", PATH, status, perf_counter() - began)

    async def _look_closer(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send, first: Message
    ) -> int:
        try:
            tally = await self._receive(scope, headers, receive, first)
        except ClientGone:
            return CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - problem_of logs what is not the client's doing
            return await answer(problem_of(error), send)
        return await _answer_tally(tally, send)

    def _receive_plain(self, first: Message) -> Tally | None:
        """Record one JSON object that names its client by a text; None is: look closer, nothing was recorded.

        A third of the time of the general way, which every other request takes.
        """
        body = first.get("body")
        if not body or first.get("more_body") or len(body) > MAX_JSON_BODY:
            return None
        try:
            touch = decode_touch(body)
        except NOT_DECODABLE:
            return None
        client_id, at = touch.client_id, touch.at
        if not client_id:
            return None
        outcome = self._record(client_id) if at is None else self._record(client_id, moment_of(at))
        if outcome is _ACCEPTED:
            self.totals.accepted += 1
            return _ONE_ACCEPTED
        reception = Reception(clients=self._clients)
        reception.count(outcome, client_id, {"index": 0})
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
            elif media_type in _JSON or (media_type == _FORM and is_json(first.get("body", b""))):
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


async def _answer_tally(tally: Tally, send: Send) -> int:
    if tally is _ONE_ACCEPTED:
        await send(_START_ONE)
        await send(_BODY_ONE)
    else:
        body = tally.body()
        await send(_start(202, body))
        await send({"type": "http.response.body", "body": body})
    return 202


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
