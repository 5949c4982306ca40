"""The direct road and the ordinary one answer every request alike, byte by byte, and store the same."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from lastseen import LastSeen
from lastseen.ingest.service import Ingest
from lastseen.server.http_servers import StopSignals, run_uvicorn
from lastseen.server.ingest.gate import IngestGate
from lastseen.server.limits import RateLimits
from lastseen.server.metrics import Metrics
from lastseen.visits.proxies import TrustedProxies
from tests.server.ingesting import Eyes, prepare, sqlite_url
from tests.server.running import DEADLINE
from tests.server.test_direct_events import nothing_else

KEY = "phc_test"
ANSWER = re.compile(rb"(?:HTTP/1.1 100 .*?\r\n\r\n)?HTTP.*?\r\ncontent-length: (\d+)\r\n.*?\r?\n\r\n", re.DOTALL).match
LAST = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FIRST_LINES = [b"POST /api/v1/events HTTP/1.1"] * 12 + [
    b"POST /api/v1/events HTTP/1.0",
    b"POST /api/v1/events?write_key=phc_test HTTP/1.1",
    b"PUT /api/v1/events HTTP/1.1",
    b"POST  /api/v1/events HTTP/1.1",
]
TYPES = [b"Content-Type: application/json"] * 5 + [
    b"Content-Type: text/plain",
    b"content-type: application/x-www-form-urlencoded",
    b"Content-Type: application/xml",
]
GZIP = b"Content-Encoding: gzip"
ODD_FIELDS = [
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Expect: 100-continue",
    b"Origin: https://a.test",
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-For: 192.0.2.2, 127.0.0.1",
    b"X-Forwarded-For: 192.0.2.3\r\nX-Forwarded-For: 127.0.0.1",
    b"Authorization: Bearer phc_test",
    b"Authorization: Bearer ls_x",
    b"X-Api-Key: ls_x",
    GZIP,
    b"Content-Encoding: identity",
    b"X:",
    b"X: \xff",
    b"Cookie: a=b",
    b"X: " + b"q" * 5_000,
]
WRONG_FIELDS = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"X: a\r\n b",
    b"X : y",
    b"X: a\nY: b",
    b"X: a\rb",
    b"X: a\0b",
    b"Connection: close\nX: y",
    b":empty",
    b" X: y",
    b"X: \r\n\tContent-Length: 9",
    b"X: y\r\n\r\nContent-Length: 2",
]
ODD_LENGTHS = [
    b"content-length: %d",
    b"CONTENT-LENGTH: %d",
    b"Content-Length:%d",
    b"Content-Length: 0%d",
    b"Content-Length: +%d",
    b"Content-Length: %d ",
    b"Content-Length:  %d",
    b"Content-Length : %d",
    b"Content-Length: -%d",
    b"Content-Length: 0x%d",
    b"Content-Length: %d\r\nContent-Length: 2",
    b"Content-Length: 1\r\nX: %d",
    b"X: %d",
]


class Shop:
    """A server on a database of its own, with or without the direct road."""

    def __init__(self, folder: Path, stack: ExitStack, *, is_direct: bool) -> None:
        folder.mkdir()
        prepare(sqlite_url(folder), KEY)
        seen = stack.enter_context(LastSeen.open(sqlite_url(folder), migrate=True))
        self.metrics = Metrics()
        self.ingest = Ingest(seen, folder / "spool", 1_000_000, proxies=TrustedProxies(["127.0.0.1"]))
        stack.callback(self.ingest.close)
        self.eyes = stack.enter_context(Eyes(sqlite_url(folder)))
        self.gate = IngestGate(nothing_else, self.ingest, self.metrics, RateLimits(0))
        self.asked = 0
        listener = socket.create_server(("127.0.0.1", 0))
        self._port = int(listener.getsockname()[1])
        until: Future[None] = Future()

        async def app(scope, receive, send):  # type: ignore[no-untyped-def]  # as any ASGI application
            self.asked += scope["type"] == "http"
            await self.gate(scope, receive, send)

        def serve() -> None:
            direct = self.gate.direct if is_direct else None
            run_uvicorn(app, listener, lambda: None, StopSignals(), direct=direct, until=until)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(until.set_result, None)

    def talk(self, pieces: list[bytes], *, is_answered: bool) -> bytes:
        """Send a request, and when that is answered (if it certainly is), the last one; return all answers."""
        with socket.create_connection(("127.0.0.1", self._port), DEADLINE) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if is_answered:
                with suppress(ConnectionError):  # it was refused before it was whole
                    for piece in pieces:
                        client.sendall(piece)
                answers = first_answer(client)
                if b"connection: close" not in answers:
                    client.sendall(LAST)
            else:
                # In one piece, so that what is wrong is seen before anything is answered.
                client.sendall(b"".join(pieces) + LAST)
                answers = b""
            while received := received_from(client):
                answers += received
        return re.sub(rb"date: [^\r]*\r\n", b"", answers)


def received_from(client: socket.socket) -> bytes:
    """Receive something; nothing at the end, however it came."""
    try:
        return client.recv(65_536)
    except ConnectionResetError:
        return b""


def first_answer(client: socket.socket) -> bytes:
    """Receive up to the end of the first answer that is not interim."""
    answers = b""
    while not (found := ANSWER(answers)) or len(answers) < found.end() + int(found[1]):
        received = received_from(client)
        if not received:
            break
        answers += received
    return answers


def compressed(body: bytes) -> bytes:
    """Compress so that bodies of one length have one length."""
    return gzip.compress(body, compresslevel=0, mtime=0)


class Talker:
    """Makes up what clients say."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._number = 0

    def conversations(self, count: int) -> Iterator[Iterator[tuple[list[bytes], bool]]]:
        """Yield for each odd field one whose request is plain otherwise; then so many of any kind."""
        for field in ODD_FIELDS + WRONG_FIELDS:
            yield self._conversation(json.dumps(self._event()).encode(), [field])
        for _ in range(count):
            yield self._conversation(self._body(), None)

    def _conversation(self, body: bytes, odd: list[bytes] | None) -> Iterator[tuple[list[bytes], bool]]:
        """Yield a request several times, with other events: whole, and in pieces; and whether it is surely answered."""
        head, is_answered = self._head(body, odd)
        for turn in range(4):
            fresh = re.sub(rb"e\d{7}", self._fresh, body)
            whole = head + (compressed(fresh) if GZIP in head else fresh)
            # What comes behind a request that is wrong may come before it is answered, or not.
            in_pieces = turn > 1 and is_answered and not any(field in head for field in WRONG_FIELDS)
            yield self._cut(whole) if in_pieces else [whole], is_answered

    def _fresh(self, _: re.Match[bytes]) -> bytes:
        self._number += 1
        return b"e%07d" % self._number

    def _event(self, **more: object) -> dict[str, object]:
        visitor = {"distinct_id": "v1"} if self._chance.random() < 0.7 else {}
        at = f"2026-01-02T10:00:{self._chance.randrange(60):02}Z"
        return {"name": "sold", "id": "e0000000", "at": at, "write_key": KEY, **visitor, **more}

    def _body(self) -> bytes:
        made = [
            *[self._event()] * 6,
            [self._event(), self._event()],
            {"events": [self._event()], "write_key": KEY},
            self._event(name=""),
            self._event(name="a\0b", properties={"x\0": "\ud800"}),
            self._event(write_key="wrong"),
            self._event(write_key=None),
            [],
        ]
        texts = [*(json.dumps(each).encode() for each in made), b"", b"{", b"[" * 2_000]
        return self._chance.choice(texts)

    def _head(self, body: bytes, odd: list[bytes] | None) -> tuple[bytes, bool]:
        chance = self._chance
        is_odd = odd is None and chance.random() < 0.5
        fields = [b"Host: shop.test", b"User-Agent: Mozilla/5.0 (X11; Linux) Firefox/120.0"]
        fields.append(chance.choice(TYPES) if odd is None else TYPES[0])
        fields += odd or [field for field in ODD_FIELDS + WRONG_FIELDS if is_odd and chance.random() < 0.05]
        is_plain = not is_odd or chance.random() < 0.7
        length = b"Content-Length: %d" if is_plain else chance.choice(ODD_LENGTHS)
        size = len(compressed(body) if GZIP in fields else body)
        fields.insert(chance.randrange(len(fields) + 1), length % size)
        first = chance.choice(FIRST_LINES) if is_odd else FIRST_LINES[0]
        end = b"\n" if is_odd and chance.random() < 0.05 else b"\r\n"
        return first + end + end.join(fields) + end + end, is_plain

    def _cut(self, data: bytes) -> list[bytes]:
        places = sorted(self._chance.sample(range(1, len(data)), self._chance.randrange(0, 4)))
        return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@contextmanager
def two_shops(folder: Path) -> Iterator[tuple[Shop, Shop]]:
    with ExitStack() as stack:
        yield Shop(folder / "direct", stack, is_direct=True), Shop(folder / "ordinary", stack, is_direct=False)


def compare(folder: Path, seed: int, conversations: int) -> None:
    talker = Talker(seed)
    with two_shops(folder) as (direct, ordinary):
        for conversation in talker.conversations(conversations):
            for pieces, is_answered in conversation:
                answers = [shop.talk(pieces, is_answered=is_answered) for shop in (direct, ordinary)]
                assert answers[0] == answers[1], pieces
                assert answers[0]
        assert ordinary.asked - direct.asked > conversations // 4
        figures = direct.ingest.figures
        assert figures.accepted > conversations
        assert (figures.accepted, figures.dropped) == (
            ordinary.ingest.figures.accepted,
            ordinary.ingest.figures.dropped,
        )
        in_flight = direct.gate.direct.in_flight
        assert (in_flight.requests, in_flight.size) == (0, 0)
        counts = [re.findall(r"_count\{.*", shop.metrics.exposition().decode()) for shop in (direct, ordinary)]
        assert counts[0] == counts[1]
        told = [
            {one.id: (one.name, one.at, one.flags, one.device, one.properties) for one in shop.eyes.events()}
            for shop in (direct, ordinary)
        ]
        assert told[0] == told[1]


def test_both_roads_answer_alike_and_store_the_same(tmp_path: Path) -> None:
    """Requests in every form that clients and smugglers may think of: whole, in pieces, one behind another.

    The negative control is that a good part of them comes to no application.
    """
    compare(tmp_path, 20, 20)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
def test_both_roads_answer_alike_for_long(tmp_path: Path, seed: int) -> None:
    """The same with some thousand requests."""
    compare(tmp_path, seed, 400)
