"""A request for events whose head came before takes a shorter way: nobody can tell but by the time."""

from __future__ import annotations

import gzip
import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lastseen import LastSeen
from lastseen.ingest.service import Ingest
from lastseen.server import direct_protocol, http_servers
from lastseen.server.body import Receive, Scope, Send
from lastseen.server.direct_protocol import protocol_with
from lastseen.server.http_servers import StopSignals, run_uvicorn
from lastseen.server.ingest import replies
from lastseen.server.ingest.direct import FIRST_LINE, LARGEST, LONGEST_KNOWN, MOST_KNOWN, DirectEvents, split
from lastseen.server.ingest.gate import IngestGate
from lastseen.server.limits import RateLimits
from lastseen.server.metrics import Metrics
from tests.server.ingesting import Eyes, prepare, sqlite_url
from tests.server.running import DEADLINE, eventually

KEY = "phc_test"
FIELDS = {"Host": "shop.test", "User-Agent": "till/1", "Content-Type": "application/json"}
NUMBERS = count()
EVENT = {"name": "sold", "distinct_id": "v1", "write_key": KEY}
Body = Callable[[], bytes]


class Shop:
    """A server in a thread of this process, that counts what comes to its application."""

    def __init__(self, gate: IngestGate, eyes: Eyes, ingest: Ingest) -> None:
        self.gate = gate
        self.eyes = eyes
        self.ingest = ingest
        self.asked = 0
        """How many requests came to the application."""
        self.until: Future[None] = Future()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        run_uvicorn(self._app, self._listener, lambda: None, StopSignals(), direct=self.gate.direct, until=self.until)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked += 1
        await self.gate(scope, receive, send)

    def connect(self) -> Client:
        return Client(self.port)

    def stop(self) -> None:
        if not self.until.done():
            self.until.set_result(None)
        self._thread.join()


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self._received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        self.socket.sendall(request)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return status, fields without the date, and what the JSON says; interim answers are passed over."""
        head = self._until(b"\r\n\r\n").decode()
        first, *lines = head.strip().split("\r\n")
        if first.split()[1] == "100":
            return self.answer()
        fields = dict(line.split(": ", 1) for line in lines)
        assert fields.pop("date")
        while len(self._received) < int(fields["content-length"]):
            self._more()
        body, self._received = (
            self._received[: int(fields["content-length"])],
            self._received[int(fields["content-length"]) :],
        )
        return int(first.split()[1]), fields, json.loads(body)

    def is_closed(self) -> bool:
        return self.socket.recv(1) == b""

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._more()
        head, _, self._received = self._received.partition(end)
        return head

    def _more(self) -> None:
        piece = self.socket.recv(65_536)
        assert piece, f"the server closed: {self._received!r}"
        self._received += piece


@contextmanager
def open_shop(folder: Path) -> Iterator[Shop]:
    url = sqlite_url(folder)
    prepare(url, KEY)
    with LastSeen.open(url, migrate=True) as seen:
        metrics = Metrics()
        ingest = Ingest(seen, folder / "spool", 1_000_000)
        with Eyes(url) as eyes:
            shop = Shop(IngestGate(nothing_else, ingest, metrics, RateLimits(0)), eyes, ingest)
            try:
                yield shop
            finally:
                shop.stop()
                ingest.close()


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run a server with one site."""
    with open_shop(tmp_path_factory.mktemp("direct")) as shop:
        yield shop


def event(**more: Any) -> dict[str, Any]:
    return {**EVENT, "id": f"e{next(NUMBERS):06d}", **more}


def new_case() -> str:
    """Return what makes a head that did not come before."""
    return f"case {next(NUMBERS)}"


def one() -> bytes:
    return json.dumps(event()).encode()


def request(body: bytes, path: str = "/api/v1/events", **more: str) -> bytes:
    fields = FIELDS | {name.replace("_", "-"): value for name, value in more.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param(one, {}, id="one"),
        pytest.param(lambda: json.dumps([event(), event()]).encode(), {}, id="two"),
        pytest.param(one, {"Connection": "keep-alive"}, id="kept"),
        pytest.param(one, {"Origin": "https://shop.test"}, id="page"),
        pytest.param(one, {"Content-Type": "text/plain"}, id="text"),
        pytest.param(
            lambda: json.dumps(event(write_key=None)).encode(), {"Authorization": f"Bearer {KEY}"}, id="bearer"
        ),
    ],
)
def test_what_is_plain_gets_the_same_answer_without_the_application(
    shop: Shop, body: Body, fields: dict[str, str]
) -> None:
    """The first request with a head is the application's, the next ones are not, and each of them is stored."""
    with shop.connect() as client:
        before, stored, case = shop.asked, shop.eyes.event_count(), new_case()
        answers = [client.ask(request(body(), X_Case=case, **fields)) for _ in range(3)]
    assert shop.asked - before == 1
    assert answers[0][0] == 200
    assert answers == [answers[0]] * 3
    assert shop.eyes.event_count() - stored == 3 * answers[0][2]["accepted"]


@pytest.mark.parametrize(
    ("body", "fields", "status"),
    [
        pytest.param(lambda: b"{", {}, 400, id="no-json"),
        pytest.param(lambda: json.dumps(event(name="")).encode(), {}, 400, id="no-name"),
        pytest.param(lambda: json.dumps([event(), event(at="never")]).encode(), {}, 200, id="one-dropped"),
        pytest.param(lambda: json.dumps([event(), event(write_key="phc_b")]).encode(), {}, 400, id="two-sites"),
        pytest.param(lambda: json.dumps(event(write_key="phc_wrong")).encode(), {}, 401, id="wrong-key"),
        pytest.param(lambda: b"[]", {}, 401, id="nothing"),
        pytest.param(one, {"X-Api-Key": "ls_wrong"}, 401, id="api-key"),
        pytest.param(one, {"Content-Type": "application/xml"}, 415, id="xml"),
        pytest.param(lambda: gzip.compress(one()), {"Content-Encoding": "gzip"}, 200, id="gzip"),
        pytest.param(one, {"Authorization": "Basic nobody"}, 200, id="other-scheme"),
        pytest.param(one, {"Connection": "keep-alive, close"}, 200, id="connection"),
        pytest.param(one, {"Expect": "100-continue"}, 200, id="expect"),
    ],
)
def test_what_is_not_plain_is_the_applications_each_time(
    shop: Shop, body: Body, fields: dict[str, str], status: int
) -> None:
    """However often its head came before, even with a body that was plain."""
    before, case = shop.asked, new_case()
    for _ in range(2):
        with shop.connect() as client:
            assert client.ask(request(body(), X_Case=case, **fields))[0] == status
    assert shop.asked - before == 2


def test_a_body_that_is_not_plain_is_seen_behind_a_head_that_was(shop: Shop) -> None:
    """The negative control is the plain one between them."""
    with shop.connect() as client:
        bodies = [one(), b"{", one(), b"[]", json.dumps(event(write_key="phc_wrong")).encode()]
        client.ask(request(one(), X_Case="seen"))
        before = shop.asked
        assert [client.ask(request(body, X_Case="seen"))[0] for body in bodies] == [200, 400, 200, 401, 401]
        assert shop.asked - before == 3


def test_pieces_and_queues_lose_and_disorder_nothing(shop: Shop) -> None:
    """Head and body apart, byte by byte, two requests at once, one sent before the answer to the last."""
    known = [request(json.dumps([event()] * size).encode(), X_Case="pieces") for size in range(1, 5)]
    with shop.connect() as client:
        client.ask(known[0])
        before = shop.asked
        for number, data in enumerate(known, 1):
            head, _, body = data.partition(b"\r\n\r\n")
            client.socket.sendall(head + b"\r\n\r\n")
            client.socket.sendall(body)
            assert client.answer()[2]["accepted"] == number
        assert shop.asked == before
        for place in range(len(known[1])):
            client.socket.sendall(known[1][place : place + 1])
        assert client.answer()[2]["accepted"] == 2
        client.socket.sendall(known[0] + known[1])
        assert [client.answer()[2]["accepted"] for _ in range(2)] == [1, 2]
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in known:
            client.socket.sendall(data)
        assert [client.answer()[2]["accepted"] for _ in known] == [1, 2, 3, 4]
        assert client.ask(known[2])[2]["accepted"] == 3


def test_another_request_on_the_connection_is_the_applications(shop: Shop) -> None:
    """Before and after one that was taken directly."""
    with shop.connect() as client:
        for _ in range(3):
            assert client.ask(request(one(), X_Case="mixed"))[0] == 200
            assert client.ask(request(b"", path="/nowhere"))[0] == 404
            assert client.ask(request(one(), path="/api/v1/events?write_key=x"))[0] == 200


def test_a_connection_that_is_to_be_closed_is(shop: Shop) -> None:
    """Also where the same head kept it open before."""
    with shop.connect() as client:
        for _ in range(2):
            assert client.ask(request(one(), X_Case="closing"))[0] == 200
        status, fields, _ = client.ask(request(one(), X_Case="closing", Connection="close"))
        assert (status, fields["connection"], client.is_closed()) == (200, "close", True)


def test_who_leaves_before_the_answer_costs_nobody_else_anything(shop: Shop) -> None:
    """Neither the events, which are stored, nor the room for requests."""
    stored = shop.eyes.event_count()
    for _ in range(3):
        with shop.connect() as client:
            client.socket.sendall(request(one(), X_Case="leaving"))
            assert client.answer()[0] == 200
            client.socket.sendall(request(one(), X_Case="leaving"))
    eventually(lambda: shop.eyes.event_count() == stored + 6, "all events are stored")
    with shop.connect() as client:
        assert client.ask(request(one(), X_Case="leaving"))[0] == 200
    in_flight = shop.gate.direct.in_flight
    eventually(lambda: (in_flight.requests, in_flight.size) == (0, 0), "nothing is under way")


@pytest.mark.parametrize("wish", ["h2c", "websocket", "h2c\r\nupgrade: x"])
@pytest.mark.parametrize("piece", [0, 1, 10])
def test_a_wish_for_another_protocol_costs_no_body(shop: Shop, wish: str, piece: int) -> None:
    """Java's own client asks for HTTP/2 with every request; what a body says of that is left as it is."""
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": wish, "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    stored = shop.eyes.event_count()
    with shop.connect() as client:
        for _ in range(2):
            body = json.dumps(event(properties={"a": "\r\nUpgrade: h2c\r\n"}), indent=1).encode()
            head, end, _ = request(body, X_Case=new_case(), **fields).partition(b"\r\n\r\n")
            client.socket.sendall(head + end + body[:piece] if piece else head + end + body)
            if piece:
                client.socket.sendall(body[piece:])
            assert client.answer()[0] == 200
    with shop.connect() as client:
        lines = b"\r\nUpgrade: h2c\r\n".join([one().replace(b"\n", b""), one()])
        assert client.ask(request(lines, Content_Type="text/plain", X_Case=new_case()))[2]["dropped"] == 1
    assert shop.eyes.event_count() == stored + 4


def test_a_wish_that_is_cut_leaves_the_head_as_it_is(shop: Shop) -> None:
    """Of a head in pieces nothing is taken out: what stands before that line would go on with the rest of it."""
    with shop.connect() as client:
        fields = {"Origin": "https://a.test", "Upgrade": "h2c"}
        for place in range(len("\r\nUpgrade: h2c\r\n")):
            head, end, body = request(one(), X_Case=new_case(), **fields).partition(b"\r\n\r\n")
            cut = head.index(b"\r\nUpgrade: ") + place
            client.socket.sendall(head[:cut])
            client.socket.sendall(head[cut:] + end + body)
            status, told, _ = client.answer()
            assert (status, told["access-control-allow-origin"]) == (200, "https://a.test")


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("sent", [0, 20])
def test_who_goes_without_a_word_holds_no_place_for_ever(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, is_known: bool, sent: int
) -> None:
    """A body that does not come is given up, on both roads; the negative control is one that came in time."""
    monkeypatch.setattr(direct_protocol, "HELD_FOR", 0.05)
    monkeypatch.setattr(replies, "BODY_WITHIN", 0.2)
    case = new_case()
    with shop.connect() as client:
        if is_known:
            assert client.ask(request(one(), X_Case=case))[0] == 200
        head, end, body = request(one(), X_Case=case).partition(b"\r\n\r\n")
        client.socket.sendall(head + end + body[:sent])
        status, fields, said = client.answer()
        assert (status, fields["connection"], client.is_closed()) == (408, "close", True)
        assert "did not come" in said["detail"]
    in_flight = shop.gate.direct.in_flight
    eventually(lambda: (in_flight.requests, in_flight.size) == (0, 0), "nothing is under way")
    with shop.connect() as client:
        assert client.ask(request(one(), X_Case=case))[0] == 200


def test_what_has_begun_is_answered_when_the_server_stops(tmp_path: Path) -> None:
    """A known head without its body, while the server waits for what is under way."""
    with open_shop(tmp_path) as shop, shop.connect() as client, shop.connect() as idle:
        assert client.ask(request(one()))[0] == 200
        assert idle.ask(request(one()))[0] == 200
        head, _, body = request(one()).partition(b"\r\n\r\n")
        before = shop.asked
        client.socket.sendall(head + b"\r\n\r\n")
        shop.until.set_result(None)
        assert idle.is_closed()
        client.socket.sendall(body)
        status, fields, _ = client.answer()
        assert (status, fields["connection"], client.is_closed()) == (200, "close", True)
        assert shop.asked == before + 1
        assert shop.eyes.event_count() == 3


def test_what_takes_longer_than_the_end_waits_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events may be saved all the same: nothing was acknowledged, and an id counts once."""
    monkeypatch.setattr(http_servers, "FINISH_WITHIN", 0.1)
    with open_shop(tmp_path) as shop, shop.connect() as client:
        assert client.ask(request(one()))[0] == 200
        before = shop.asked
        with closing(sqlite3.connect(tmp_path / "events.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            client.socket.sendall(request(one()))
            eventually(lambda: shop.gate.direct.in_flight.requests == 1, "it is under way")
            shop.until.set_result(None)
            status, fields, said = client.answer()
            assert (status, fields["retry-after"], fields["connection"]) == (503, "5", "close")
            assert "stopping" in said["detail"]
            assert client.is_closed()
        assert shop.asked == before
        shop.stop()
        eventually(lambda: shop.eyes.event_count() == 2, "it was saved")


def test_a_server_that_can_keep_nothing_says_so(tmp_path: Path) -> None:
    """A request is refused, counted once, and may come again."""
    with open_shop(tmp_path) as shop, shop.connect() as client:
        assert client.ask(request(one()))[0] == 200
        shop.ingest.close()
        before = shop.asked
        status, fields, said = client.ask(request(one()))
        assert (status, fields["retry-after"], said["detail"]) == (503, "5", "the server is stopping")
        assert shop.asked == before
        assert shop.ingest.figures.refused == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FIRST_LINE[:-1],
        FIRST_LINE + b"Content-Length: 0\r\n",
        FIRST_LINE + b"\r\n",
        FIRST_LINE + b"A: b\r\n\r\n{}",
        FIRST_LINE + b"Content-Length: 1\r\n\r\n{}",
        FIRST_LINE + b"Content-Length: +2\r\n\r\n{}",
        FIRST_LINE + b"Content-Length: 2 \r\n\r\n{}",
        FIRST_LINE + b"Content-Length: %d\r\n\r\n{}" % (LARGEST + 1),
        FIRST_LINE + b"A: %b\r\nContent-Length: 2\r\n\r\n{}" % (b"a" * LONGEST_KNOWN),
        FIRST_LINE.replace(b"POST", b"PUT") + b"Content-Length: 2\r\n\r\n{}",
        FIRST_LINE.replace(b"1.1", b"1.0") + b"Content-Length: 2\r\n\r\n{}",
    ],
)
def test_only_one_whole_head_with_a_plain_length_is_looked_up(data: bytes) -> None:
    """Everything else is nothing; the negative control is the usual one."""
    assert split(data) is None
    usual = split(FIRST_LINE + b"A: b\r\ncontent-length: 2\r\nC: d\r\n\r\n{")
    assert usual == (FIRST_LINE + b"A: b\r\ncontent-length: \r\nC: d", b"{", 1)


@pytest.mark.parametrize("name", ["Content-Length", "content-length"])
@pytest.mark.parametrize("behind", ["", "\r\nC: d"])
def test_the_same_head_again_is_found_as_any_head_is(shop: Shop, name: str, behind: str) -> None:
    """Whatever arrives: body and missing bytes are those of `split` where that finds this head, and nothing else."""
    direct = DirectEvents(shop.ingest, Metrics(), shop.gate.direct.in_flight)
    head = FIRST_LINE + f"A: b\r\n{name}: {behind}".encode()
    fields = [(b"a", b"b"), (b"content-length", b"2"), *([(b"c", b"d")] if behind else [])]
    direct.learn(head, fields)
    known = direct.recall(head)
    assert known is not None
    found = 0
    for before in (f"A: b\r\n{name}: ", f"A: c\r\n{name}: ", "A: b\r\nContent-length: "):
        for digits in ("", "0", "2", "02", "+2", " 2", "2 ", str(LARGEST), str(LARGEST + 1), "1" * 9):
            for after in (behind, "\r\nC: e", "\r\nC: d\r\nE: f", "\r\n"):
                for body in ("", "{", "{}", "{}\r\n", "{}\r\n\r\n"):
                    data = FIRST_LINE + f"{before}{digits}{after}\r\n\r\n{body}".encode()
                    parts = split(data)
                    expected = parts[1:] if parts is not None and parts[0] == head else None
                    assert known.rest_of(data) == expected
                    assert known.rest_of(data[:-1]) == (
                        cut[1:] if (cut := split(data[:-1])) is not None and cut[0] == head else None
                    )
                    found += expected is not None
    assert found


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("A: b\r\nContent-Length: ", [(b"a", b"c"), (b"content-length", b"2")]),
        ("A: b\r\nContent-Length: ", [(b"a", b"b")]),
        ("A: b\r\n c\r\nContent-Length: ", [(b"a", b"b c"), (b"content-length", b"2")]),
        ("A: b\nD: e\r\nContent-Length: ", [(b"a", b"b"), (b"d", b"e"), (b"content-length", b"2")]),
        ("Content-Length: \r\nContent-Length: 2", [(b"content-length", b"2"), (b"content-length", b"2")]),
        ("A: b\r\nA: c\r\nContent-Length: ", [(b"a", b"b"), (b"a", b"c"), (b"content-length", b"2")]),
        ("Transfer-Encoding: x\r\nContent-Length: ", [(b"transfer-encoding", b"x"), (b"content-length", b"2")]),
    ],
)
def test_no_head_is_learnt_that_may_mean_something_else(
    shop: Shop, lines: str, fields: list[tuple[bytes, bytes]]
) -> None:
    """What is read from it must be what is written in it; the negative control is."""
    direct = DirectEvents(shop.ingest, Metrics(), shop.gate.direct.in_flight)
    head = FIRST_LINE + lines.encode()
    direct.learn(head, fields)
    assert direct.recall(head) is None
    plain = FIRST_LINE + b"A: b\r\nContent-Length: "
    direct.learn(plain, [(b"a", b"b"), (b"content-length", b"2")])
    assert direct.recall(plain) is not None


def test_so_many_heads_are_known_and_no_more(shop: Shop) -> None:
    """The oldest is forgotten."""
    direct = DirectEvents(shop.ingest, Metrics(), shop.gate.direct.in_flight)
    heads = [FIRST_LINE + b"A: %d\r\nContent-Length: " % number for number in range(MOST_KNOWN + 1)]
    for number, head in enumerate(heads):
        direct.learn(head, [(b"a", b"%d" % number), (b"content-length", b"2")])
    assert [direct.recall(head) is None for head in heads] == [True] + [False] * MOST_KNOWN


def test_a_version_of_the_server_that_was_not_tested_goes_without(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is installed here was tested."""
    assert protocol_with(shop.gate.direct) != "auto"
    major, minor = direct_protocol.NEWEST_TESTED
    monkeypatch.setattr(uvicorn, "__version__", f"{major}.{minor + 1}.0")
    assert protocol_with(shop.gate.direct) == "auto"


def test_the_metrics_count_both_ways_alike(shop: Shop) -> None:
    """Each request once, by its answer."""
    with shop.connect() as client:
        for _ in range(2):
            client.ask(request(one(), X_Case="counted"))
    text = shop.gate.direct.metrics.exposition().decode()
    counts = re.findall(r'_seconds_count\{method="POST",route="/api/v1/events",status="200"\} ([\d.]+)', text)
    with shop.connect() as client:
        for _ in range(2):
            client.ask(request(one(), X_Case="counted"))
    again = shop.gate.direct.metrics.exposition().decode()
    after = re.findall(r'_seconds_count\{method="POST",route="/api/v1/events",status="200"\} ([\d.]+)', again)
    assert [float(after[0]) - float(counts[0])] == [4.0 - 2.0]
