"""More than the server can carry, and what nobody should send: refused, counted, and never a defect."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped] # it publishes no types
import pytest

from tests.server.event_load import JSON, Clients
from tests.server.ingesting import Eyes, TrustingServer, batch, event_server, metric
from tests.server.running import ServerProcess


def overload(folder: Path, enough: int) -> None:
    """Send large batches over many connections until enough were answered; nothing may vanish."""
    with event_server(folder) as (server, eyes):
        memory = psutil.Process(server.pid)
        clients = Clients(server.address, threads=24, size=1_000, retries=False)
        peak = 0
        try:
            while sum(clients.statuses.values()) < enough:
                peak = max(peak, memory.memory_info().rss)
                threading.Event().wait(0.05)  # between two looks
        finally:
            clients.end()
        assert clients.statuses.keys() <= {200, 503}
        accepted = metric(server, "lastseen_events_accepted_total")
        refused = metric(server, "lastseen_events_refused_total")
        assert accepted + refused == sum(clients.statuses.values()) * 1_000
        assert accepted == clients.statuses[200] * 1_000 == eyes.event_count()
        assert peak < 1_000_000_000
        assert metric(server, "lastseen_events_waiting") == 0


def test_more_than_it_can_carry(tmp_path: Path) -> None:
    """Two dozen clients with a thousand events each: what is accepted and what is refused add up to what was sent."""
    overload(tmp_path, 16)


@pytest.mark.faults
def test_more_than_it_can_carry_for_long(tmp_path: Path) -> None:
    """The same with a thousand requests."""
    overload(tmp_path, 1_000)


def hostile_bodies(count: int) -> Iterator[bytes]:
    """Make requests that nobody should send."""
    dice = random.Random(7)
    good = batch(range(3))
    pieces: list[Callable[[], bytes]] = [
        lambda: good[: dice.randrange(len(good))],
        lambda: dice.randbytes(dice.randrange(1, 300)),
        lambda: b"[" * dice.randrange(1, 20_000),
        lambda: good.replace(b'"n"', b'"\\u0000\\ud800"'),
        lambda: good.replace(b"e000001", b"x" * 100_000),
        lambda: good.replace(
            b'"v1"', dice.choice([b"null", b"{}", b"[]", b"1e400", b"-0", b"1" * 5_000, b'"\\udfff"'])
        ),
        lambda: good.replace(b"1790000060", dice.choice([b"-1", b"1e308", b"NaN", b'"0000-00-00"', b"[]", b"9" * 400])),
        lambda: bytes(one ^ (dice.random() < 0.01) for one in good),
        lambda: b"data=" + good,
        lambda: b"\x1f\x8b" + good,
        lambda: b'{"batch": [[[[]]], null, 5, {"event": {}}], "api_key": "phc_test", "sent_at": {}}',
    ]
    for _ in range(count):
        yield dice.choice(pieces)()


def attack(server: ServerProcess, eyes: Eyes, count: int) -> None:
    dice = random.Random(3)
    paths = (
        "/api/v1/events",
        "/e/",
        "/batch/",
        "/i/v1/analytics/events",
        "/s/",
        "/flags/",
        "/decide/",
        "/array/x/config",
    )
    types = (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
        "image/png",
        "",
    )
    encodings = (None, None, None, "gzip", "deflate", "br")
    statuses: Counter[int] = Counter()
    for body in hostile_bodies(count):
        headers = {
            "content-type": dice.choice(types),
            "authorization": dice.choice(["", "Bearer phc_test", "Bearer \x7f"]),
        }
        if encoding := dice.choice(encodings):
            headers["content-encoding"] = encoding
        path = dice.choice(paths) + dice.choice(["", "?_=NaN", "?data=%ff%00", "?write_key=phc_test", "?sent_at=1e999"])
        statuses[server.http.post(path, content=body, headers=headers).status_code] += 1
    assert statuses.keys() <= {200, 400, 401, 413, 415}
    assert statuses[400]
    assert "Traceback" not in server.log
    assert server.http.post("/api/v1/events", content=batch([1]), headers=JSON).status_code == 200
    eyes.check()


def test_a_server_that_trusts_every_body_is_seen(tmp_path: Path) -> None:
    """The negative control: the same requests find the server that believes what it is sent."""
    with event_server(tmp_path, kind=TrustingServer) as (server, eyes), pytest.raises(AssertionError, match="500"):
        attack(server, eyes, 100)


def test_hostile_requests(tmp_path: Path) -> None:
    """Whatever comes is answered with 4xx or taken as far as it makes sense: never a 5xx, never a traceback."""
    with event_server(tmp_path) as (server, eyes):
        attack(server, eyes, 300)


@pytest.mark.faults
def test_two_thousand_hostile_requests(tmp_path: Path) -> None:
    """The same, two thousand times."""
    with event_server(tmp_path) as (server, eyes):
        attack(server, eyes, 2_000)


def test_a_request_that_never_ends_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    """A body without a length is read up to the limit and no further."""
    with event_server(tmp_path) as (server, _), socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /e/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        raw.settimeout(30)
        with suppress(ConnectionError):  # it may close before the rest is sent
            for _ in range(22):
                raw.sendall(chunk)
        assert b" 413 " in raw.recv(4_096).split(b"\r\n")[0] + b" "
