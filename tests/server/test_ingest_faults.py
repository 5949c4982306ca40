"""Acknowledged means durable: servers are killed, disks filled, databases stopped, answers lost."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped] # it publishes no types
import pytest

from tests.server.event_load import JSON, Clients, body_of, new_batch
from tests.server.ingesting import (
    RECORDED_KEY,
    Eyes,
    HopefulServer,
    batch,
    check_stored,
    event_server,
    metric,
    prepare,
    sqlite_url,
)
from tests.server.running import DEADLINE, ServerProcess, eventually
from tests.servers import PostgresServer

FULL_DISK = 1
"""Bytes that no file may grow beyond: the disk is full for every file."""


def check_integrity(url: str) -> None:
    """Assert that SQLite finds nothing wrong with its file."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    return str(request.getfixturevalue("postgres").create_database())


# Killed


def survive(url: str, folder: Path, cycles: int) -> None:
    """Kill a server again and again under the load of four clients that never give up."""
    prepare(url)
    dice = random.Random(cycles)
    clients: Clients | None = None
    try:
        for cycle in range(cycles):
            with ServerProcess(folder, url) as server:
                if clients is None:
                    clients = Clients(server.address)
                clients.address = server.address
                before, more = len(clients.acknowledged), dice.randrange(30, 100)
                eventually(lambda: len(clients.acknowledged) >= before + more, f"cycle {cycle} gets on")  # noqa: B023 - asked at once
                server.send_signal(signal.SIGKILL)
                server.wait()
    finally:
        if clients is not None:
            clients.end()
    assert clients is not None
    assert clients.acknowledged
    check_integrity(url)
    with ServerProcess(folder, url), Eyes(url) as eyes:
        check_stored(eyes, clients.acknowledged, clients.sent)


def test_a_server_that_is_killed_loses_nothing_it_acknowledged(url: str, tmp_path: Path) -> None:
    """Killed under load: every acknowledged event is there, once, in whole batches, and the counts are right."""
    survive(url, tmp_path, 2 if url.startswith("sqlite") else 1)


@pytest.mark.faults
def test_a_server_that_is_killed_a_hundred_times_loses_nothing(url: str, tmp_path: Path) -> None:
    """The same, a hundred times."""
    survive(url, tmp_path, 100)


def stop_in_order(url: str, folder: Path, times: int) -> None:
    prepare(url)
    clients: Clients | None = None
    try:
        for _ in range(times):
            with ServerProcess(folder, url) as server:
                clients = clients or Clients(server.address)
                clients.address = server.address
                before = len(clients.acknowledged)
                eventually(lambda: len(clients.acknowledged) > before + 60, "the load runs")  # noqa: B023 - asked at once
                assert server.stop() == 0
                assert "Traceback" not in server.log
    finally:
        if clients is not None:
            clients.end()
    assert clients is not None
    with Eyes(url) as eyes:
        check_stored(eyes, clients.acknowledged, clients.sent)


def test_an_orderly_stop_under_load(tmp_path: Path) -> None:
    """Everything that was acknowledged is stored, the exit code is 0, and nobody's answer is a defect."""
    stop_in_order(sqlite_url(tmp_path), tmp_path, 1)


@pytest.mark.faults
def test_thirty_orderly_stops_under_load(url: str, tmp_path: Path) -> None:
    """The same, thirty times."""
    stop_in_order(url, tmp_path, 30)


def test_what_is_only_in_memory_is_lost(tmp_path: Path) -> None:
    """The negative control: with a store that forgets, the same check finds what is missing."""
    with ServerProcess(tmp_path, "memory:") as server:
        key = re.search(r"wk_[\w-]{22}", server.http.get("/api/v1/sites").text)
        assert key is not None
        events = new_batch(3)
        answer = server.http.post(f"/api/v1/events?write_key={key[0]}", json=events)
        assert answer.status_code == 200
        server.send_signal(signal.SIGKILL)
        server.wait()
    prepare(sqlite_url(tmp_path))
    with Eyes(sqlite_url(tmp_path)) as eyes, pytest.raises(AssertionError):
        check_stored(eyes, {event["id"] for event in events}, {event["id"] for event in events})


# Watched by strace

SYNC = re.compile(r" (fsync|fdatasync)\(")
ANSWER = re.compile(r'"HTTP/1\.1 200')


@pytest.fixture(scope="session")
def strace() -> str:
    """Return the program that sees and disturbs what a process asks of the system; without it the test is skipped."""
    path = shutil.which("strace")
    if path is None:
        message = "no strace; install your system's package strace"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


class Traced:
    """strace on a running server; a context manager."""

    def __init__(self, strace: str, server: ServerProcess, *options: str) -> None:
        self.log = Path(server.home) / "strace.log"
        self._process = subprocess.Popen(
            [strace, "-f", "-p", str(server.pid), "-o", str(self.log), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        assert "attached" in said, said

    def __enter__(self) -> Traced:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()


def synced_before_answers(log: Path) -> list[int]:
    """Return, for each answer, how many syncs ended between it and the answer before."""
    counts, since = [], 0
    for line in log.read_text(errors="replace").splitlines():
        if (SYNC.search(line) and "unfinished" not in line) or "sync resumed" in line or "datasync resumed" in line:
            since += 1
        if ANSWER.search(line):
            counts.append(since)
            since = 0
    return counts


def trace_answers(strace: str, server: ServerProcess, key: str, count: int) -> list[int]:
    with Traced(strace, server, "-s", "20", "-e", "trace=fsync,fdatasync,write,writev,sendto,sendmsg") as traced:
        for _ in range(count):
            answer = server.http.post(f"/api/v1/events?write_key={key}", json=new_batch(1))
            assert answer.status_code == 200
    return synced_before_answers(traced.log)


def test_every_answer_follows_a_sync(tmp_path: Path, strace: str) -> None:
    """Events one after the other: before each 200 the system has written something to the disk for good."""
    trace_every_answer(strace, tmp_path, 50)


@pytest.mark.faults
def test_every_one_of_two_hundred_answers_follows_a_sync(tmp_path: Path, strace: str) -> None:
    """The same, two hundred times."""
    trace_every_answer(strace, tmp_path, 200)


def trace_every_answer(strace: str, folder: Path, count: int) -> None:
    with event_server(folder) as (server, _):
        assert server.http.post("/api/v1/events", content=batch([1])).status_code == 200
        counts = trace_answers(strace, server, RECORDED_KEY, count)
    assert len(counts) == count
    assert min(counts) >= 1


def test_a_store_that_does_not_sync_is_seen(tmp_path: Path, strace: str) -> None:
    """The negative control: answers of a store in memory follow no sync."""
    with ServerProcess(tmp_path, "memory:") as server:
        key = re.search(r"wk_[\w-]{22}", server.http.get("/api/v1/sites").text)
        assert key is not None
        counts = trace_answers(strace, server, key[0], 20)
    assert counts == [0] * 20


POINTS = {
    "before the write": "pwrite64",
    "before the commit is on the disk": "fdatasync",
    "before the answer": "write,sendto,writev,sendmsg",
}


def kill_at(strace: str, folder: Path, point: str, rounds: int) -> None:
    url = sqlite_url(folder)
    prepare(url)
    sent: set[str] = set()
    acknowledged: set[str] = set()
    for round_ in range(rounds):
        with ServerProcess(folder, url) as server, httpx.Client(timeout=DEADLINE) as http:
            warm = new_batch(2)
            answer = http.post(f"{server.address}/api/v1/events", content=body_of(warm), headers=JSON)
            assert answer.status_code == 200
            acknowledged |= {event["id"] for event in warm}
            events = new_batch(5)
            sent |= {event["id"] for event in (*warm, *events)}
            calls = POINTS[point]
            when = 1 if point == "before the answer" else 1 + round_ % 3
            disturb = f"inject={calls}:signal=KILL:when={when}"
            with Traced(strace, server, "-e", f"trace={calls}", "-e", disturb):
                try:
                    answer = http.post(f"{server.address}/api/v1/events", content=body_of(events), headers=JSON)
                    assert answer.status_code == 200
                    acknowledged |= {event["id"] for event in events}
                except httpx.TransportError:
                    server.wait()
    check_integrity(url)
    with Eyes(url) as eyes:
        check_stored(eyes, acknowledged, sent)


def test_a_kill_at_the_worst_moment(tmp_path: Path, strace: str) -> None:
    """The server dies while it commits: no batch is stored by half, and the counts equal the events."""
    kill_at(strace, tmp_path, "before the commit is on the disk", 1)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
def test_thirty_kills_at_the_worst_moment(tmp_path: Path, strace: str, point: str) -> None:
    """The same, thirty times, also before the write and before the answer."""
    kill_at(strace, tmp_path, point, 30)


# Full disks


def fill_the_disk(folder: Path, kind: type[ServerProcess]) -> None:
    with event_server(folder, kind=kind) as (server, eyes):
        process = psutil.Process(server.pid)
        unlimited = process.rlimit(resource.RLIMIT_FSIZE)
        sent: set[str] = set()
        for _ in range(5):
            events = new_batch(4)
            sent |= {event["id"] for event in events}
            process.rlimit(resource.RLIMIT_FSIZE, (FULL_DISK, unlimited[1]))
            refused = server.http.post("/api/v1/events", content=body_of(events), headers=JSON)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert {event["id"] for event in events}.isdisjoint(event.id for event in eyes.events())
            process.rlimit(resource.RLIMIT_FSIZE, unlimited)
            again = server.http.post("/api/v1/events", content=body_of(events), headers=JSON)
            assert again.status_code == 200
        check_stored(eyes, sent, sent)


def test_a_full_disk(tmp_path: Path) -> None:
    """Five times: 503 while there is no room, nothing is acknowledged that is not kept, and it recovers by itself."""
    fill_the_disk(tmp_path, ServerProcess)


def test_a_server_that_takes_unwritten_events_for_saved_is_seen_on_a_full_disk(tmp_path: Path) -> None:
    """The negative control: it acknowledges what is nowhere."""
    with pytest.raises(AssertionError):
        fill_the_disk(tmp_path, HopefulServer)


# The database is away


def test_the_database_may_stop_under_load(tmp_path: Path, postgres: PostgresServer) -> None:
    """While it is away nobody sees an error, nothing is lost, nothing doubled; then everything is in the database."""
    with event_server(tmp_path, postgres.create_database()) as (server, eyes):
        clients = Clients(server.address)
        try:
            eventually(lambda: len(clients.acknowledged) > 100, "the load runs")
            postgres.stop()
            try:
                before = len(clients.acknowledged)
                eventually(lambda: len(clients.acknowledged) > before + 300, "events are taken without a database")
            finally:
                postgres.start()
            eventually(lambda: "the spool is empty" in server.log, "what waited is stored")
        finally:
            clients.end()
        eventually(lambda: metric(server, "lastseen_spool_events") == 0, "nothing waits")
        assert clients.statuses.keys() == {200}
        assert metric(server, "lastseen_events_spooled_total") > 0
        check_stored(eyes, clients.acknowledged, clients.sent)


def test_a_key_that_cannot_be_looked_up_may_come_again(tmp_path: Path, postgres: PostgresServer) -> None:
    """While the database is away: 503, which says so. The key of a site that is known is taken; back, 401 is final."""
    unknown = "wk_nobodynobodynobodyno"
    requests = {
        "/api/v1/events": {"write_key": unknown, "name": "x"},
        "/capture/": {"api_key": unknown, "event": "x", "distinct_id": "v"},
        "/v1/track": {"writeKey": unknown, "event": "x", "userId": "v"},
    }
    with event_server(tmp_path, postgres.create_database()) as (server, _):
        postgres.stop()
        try:
            for path, body in requests.items():
                answer = server.http.post(path, json=body)
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                assert "this key cannot be looked up" in answer.json()["detail"]
            assert server.http.post("/api/v1/events", content=body_of(new_batch(1)), headers=JSON).status_code == 200
        finally:
            postgres.start()
        eventually(lambda: "the spool is empty" in server.log, "what waited is stored")
        for path, body in requests.items():
            assert server.http.post(path, json=body).status_code == 401


@pytest.mark.faults
def test_a_database_that_hangs(tmp_path: Path, postgres: PostgresServer) -> None:
    """Connections stay open and nobody answers: after the deadline events go to the disk, and nothing is lost."""
    with event_server(tmp_path, postgres.create_database()) as (server, eyes):
        clients = Clients(server.address)
        try:
            eventually(lambda: len(clients.acknowledged) > 100, "the load runs")
            postgres.pause()
            try:
                before = len(clients.acknowledged)
                eventually(lambda: len(clients.acknowledged) > before + 300, "events are taken", within=60)
            finally:
                postgres.resume()
            eventually(lambda: metric(server, "lastseen_spool_events") == 0, "what waited is stored", within=90)
        finally:
            clients.end()
        eventually(lambda: metric(server, "lastseen_spool_events") == 0, "nothing waits", within=90)
        assert clients.statuses.keys() == {200}
        check_stored(eyes, clients.acknowledged, clients.sent)


def kill_with_a_full_spool(folder: Path, url: str, postgres: PostgresServer, requests: int) -> list[set[str]]:
    """Send while the database is away, kill the server, let the database return; give the ids of each request."""
    prepare(url)
    acknowledged = []
    with ServerProcess(folder, url) as server:
        postgres.stop()
        for _ in range(requests):
            events = new_batch(3)
            answer = server.http.post("/api/v1/events", content=body_of(events), headers=JSON)
            assert answer.status_code == 200
            acknowledged.append({event["id"] for event in events})
        server.send_signal(signal.SIGKILL)
        server.wait()
    postgres.start()
    return acknowledged


def test_a_server_that_is_killed_while_the_database_is_away(tmp_path: Path, postgres: PostgresServer) -> None:
    """What waited on disk is stored by the next start."""
    url = postgres.create_database()
    acknowledged = set().union(*kill_with_a_full_spool(tmp_path, url, postgres, 20))
    with ServerProcess(tmp_path, url) as server, Eyes(url) as eyes:
        eventually(lambda: eyes.event_count() == len(acknowledged), "everything is stored")
        check_stored(eyes, acknowledged, acknowledged)
        assert metric(server, "lastseen_spool_damaged_bytes_total") == 0
        eventually(lambda: metric(server, "lastseen_spool_events") == 0, "nothing waits")


def test_a_wrong_bit_in_what_waits_costs_one_request_and_is_told(tmp_path: Path, postgres: PostgresServer) -> None:
    """All others are stored, the file is kept beside, and log and figures say so."""
    url = postgres.create_database()
    acknowledged = kill_with_a_full_spool(tmp_path, url, postgres, 20)
    (file,) = tmp_path.rglob("*.spool")
    content = bytearray(file.read_bytes())
    content[content.index(min(acknowledged[7]).encode())] ^= 1
    file.write_bytes(content)
    with ServerProcess(tmp_path, url) as server, Eyes(url) as eyes:
        kept = set().union(*acknowledged) - acknowledged[7]
        eventually(lambda: eyes.event_count() == len(kept), "the others are stored")
        check_stored(eyes, kept, kept)
        eventually(lambda: metric(server, "lastseen_spool_damaged_bytes_total") > 0, "the damage is counted")
        assert "is damaged" in server.log
        assert list(tmp_path.rglob("*.damaged"))
