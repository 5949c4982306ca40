"""Hostile input: never a 500, never a traceback, and the server goes on."""

from __future__ import annotations

import gzip
import json
import random
import socket

from tests.server.running import ServerProcess

REQUESTS = 2_000
SEED = 18
PATHS = ("/api/v1/activity",) * 6 + (
    "/api/v1/clients",
    "/api/v1/clients/count",
    "/",
    "/rows",
    "/health/ready",
    "/static/",
)
TYPES = (
    ("application/json",) * 5
    + ("application/x-ndjson",) * 4
    + ("text/plain", "", "application/xml", "a" * 5_000, "\x01")
)
SCRAPS = (
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'{"client_id": "\\ud800"}',
    b'{"client_id": "\\u0000"}',
    b'{"client_id": "' + b"i" * 100_000 + b'"}',
    b'{"client_id": ' + b"9" * 10_000 + b"}",
    b'{"client_id": {}}',
    b'{"client_id": "x", "at": 1e999}',
    b'{"client_id": "x", "at": -1}',
    b'{"client_id": "x", "at": 1e308}',
    b'{"client_id": "x", "at": "9999-99-99T00:00:00Z"}',
    b'{"client_id": "x", "at": "0001-01-01T00:00:00+14:00"}',
    b'{"client_id": "x", "client_id": []}',
    b'{"a":' * 20_000,
    b"[" * 50_000,
    b"[]",
    b"{}",
    b"null",
    b"[null, true, 1, [], {}]",
    b"\n\n\n",
    b"\xef\xbb\xbf{}",
)
QUERIES = (
    "",
    "client_id=%00",
    "client_id=%ff",
    "client_id=%ed%a0%80",
    "client_id=" + "q" * 3_000,
    "client_id",
    "limit=99999999999999999999",
    "limit=1e3",
    "cursor=" + "A" * 999,
    "cursor=WyJuZXdlc3QiLDk5OTk5OTk5OTk5OTk5OTk5OTk5LCJ4Il0",
    "cursor=WyJuZXdlc3QiLDEsIlx1MDAwMCJd",
    "active_within=1e400s",
    "search=%ed%a0%80",
    "search=%25%27;--",
    "status=online&status=idle",
    "%" * 100,
    "&" * 500,
    "order=" + "%F0%9F%92%A9",
)


def body_of(dice: random.Random) -> bytes:
    """Return a body: a scrap, several, a mutated one, or noise."""
    kind = dice.randrange(5)
    scrap = dice.choice(SCRAPS)
    if kind == 0:
        return scrap
    if kind == 1:
        return b"\n".join(dice.choices(SCRAPS, k=3))
    if kind == 2:
        broken = bytearray(scrap)
        for _ in range(3):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        return bytes(broken)
    if kind == 3:
        return gzip.compress(scrap)[: dice.randrange(1, 60)]
    return dice.randbytes(dice.randrange(300))


def hostile_request(dice: random.Random) -> tuple[bytes, bool]:
    """Return the bytes of one request, some of them not HTTP at all, and whether the server must wait for more."""
    body = body_of(dice)
    method = dice.choice(("POST",) * 7 + ("GET",) * 3 + ("PUT", "BREW", "HEAD"))
    query = dice.choice(QUERIES)
    target = dice.choice(PATHS) + (f"?{query}" if query else "")
    encoding = dice.choice(("",) * 9 + ("gzip", "br", "gzip, gzip"))
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {dice.choice(TYPES)}\r\nConnection: close\r\n"
    )
    if encoding:
        head += f"Content-Encoding: {encoding}\r\n"
    framed, unfinished = dice.choice(
        (
            (f"Content-Length: {len(body)}\r\n\r\n".encode() + body, False),
            (b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body, len(body)) + b"0\r\n\r\n", False),
            (f"Content-Length: {len(body) + 10}\r\n\r\n".encode() + body, True),
            (b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body, len(body) + 5), True),
            (b"Content-Length: -1\r\n\r\n" + body, False),
            (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body, False),
        )
    )
    return head.encode() + framed, unfinished


def chunk(body: bytes, length: int) -> bytes:
    """Return the body as a chunk that claims this length."""
    return f"{length:x}\r\n".encode() + body + b"\r\n"


def exchange(server: ServerProcess, request: bytes, *, breaks_off: bool) -> bytes:
    """Send the bytes, perhaps say that nothing follows, and return what comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        try:
            raw.sendall(request)
            if breaks_off:
                raw.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := raw.recv(65_536):
                answer += piece
        except OSError:
            # The server may refuse a request before it has read all of it.
            return b""
        return answer


def test_two_thousand_malformed_requests(new_server: ServerProcess) -> None:
    """Whatever arrives is answered with a status below 500, or not at all; nothing is logged as a defect."""
    dice = random.Random(SEED)
    statuses: dict[int, int] = {}
    for _ in range(REQUESTS):
        request, unfinished = hostile_request(dice)
        answer = exchange(new_server, request, breaks_off=unfinished)
        if answer:
            status = int(answer.split(b" ", 2)[1])
            assert status < 500, (request[:300], answer[:300])
            statuses[status] = statuses.get(status, 0) + 1
    # Both roads were taken: a good part was refused, a good part got through.
    assert statuses[400] > 100
    assert statuses[202] > 25
    assert "Traceback" not in new_server.log
    assert new_server.http.get("/health/activity").json()["status"] == "ok"
    assert new_server.http.post("/api/v1/activity", json={"client_id": "fine"}).json()["accepted"] == 1


def test_a_stream_of_a_hundred_megabytes_needs_no_memory(new_server: ServerProcess) -> None:
    """Lines are recorded as they pass: the server's memory does not grow with the stream."""
    lines = b"".join(
        json.dumps({"client_id": f"c{number % 1_000}", "pad": "x" * 1_000}).encode() + b"\n" for number in range(1_000)
    )

    def peak() -> int:
        text = new_server.http.get("/metrics").text
        line = next(line for line in text.splitlines() if line.startswith("process_resident_memory_bytes "))
        return int(float(line.split()[1]))

    # The engine of reports is loaded a second after the start, or now: half as much as may be needed here.
    assert new_server.http.get("/api/v1/reports/visits").status_code == 200
    before = peak()
    answer = new_server.http.post(
        "/api/v1/activity", content=(lines for _ in range(100)), headers={"content-type": "application/x-ndjson"}
    )
    assert answer.json() == {"accepted": 100_000, "rejected": 0, "dropped": 0}
    assert peak() - before < 40_000_000
