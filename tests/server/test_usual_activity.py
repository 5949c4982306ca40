"""The usual activity takes a shorter way: whatever could make a difference still makes one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import people
from tests.server.running import DEADLINE, ServerProcess

# One server a module, and a module a process.

ACTIVITY = "/api/v1/activity"
ALLOWED = "seen.example.org"
TOUCH = {"client_id": "till"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that has an administrator and a host name, and has seen what is usual."""
    home: Path = tmp_path_factory.mktemp("usual")
    with ServerProcess(home, None, "--allowed-hosts", ALLOWED, measured=True) as process:
        people.set_up(process).close()
        for _ in range(2):
            assert process.http.post(ACTIVITY, json=TOUCH).status_code == 202
        yield process


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"sec-fetch-site": "same-origin"}, 202),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": ALLOWED}, 401),
        ({"host": "localhost"}, 202),
        ({"x-forwarded-for": "127.0.0.1"}, 401),
        ({"x-forwarded-host": "localhost"}, 401),
        ({"x-forwarded-proto": "http"}, 401),
        ({"x-real-ip": "127.0.0.1"}, 401),
        ({"forwarded": "for=127.0.0.1"}, 401),
        ({"via": "1.1 somebody"}, 401),
        ({"x-api-key": "ls_wrong"}, 401),
        ({"authorization": "Bearer ls_wrong"}, 401),
        ({"content-type": "application/xml"}, 415),
        ({"content-encoding": "br"}, 415),
    ],
)
def test_whatever_decides_is_asked_also_after_what_was_usual(
    server: ServerProcess, headers: dict[str, str], status: int
) -> None:
    """A header that refuses a request refuses it twice; the first row is the negative control."""
    for _ in range(2):
        answer = server.http.post(ACTIVITY, json=TOUCH, headers=headers)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (status, "nosniff")


@pytest.mark.parametrize(("hosts", "status"), [(("localhost", "evil.example"), 421), (("evil", "localhost"), 202)])
def test_the_last_host_counts_where_two_are_sent(server: ServerProcess, hosts: tuple[str, str], status: int) -> None:
    """As on every other way; the name of this machine beside another one opens no more than it alone."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    body = json.dumps(TOUCH).encode()
    connection.putrequest("POST", ACTIVITY, skip_host=True)
    for name, value in (("content-type", "application/json"), ("content-length", str(len(body)))):
        connection.putheader(name, value)
    for host in hosts:
        connection.putheader("host", host)
    connection.endheaders(body)
    assert connection.getresponse().status == status
    connection.close()


def test_a_compressed_body_is_read(server: ServerProcess) -> None:
    """As one that is not."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = server.http.post(ACTIVITY, content=gzip.compress(json.dumps(TOUCH).encode()), headers=headers)
    assert answer.json() == {"accepted": 1, "rejected": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("body", "status", "counts"),
    [
        (b'{"client_id": "till"}', 202, (1, 0)),
        (b'{"client_id": "till", "at": 1700000000}', 202, (1, 0)),
        (b'{"client_id": "till", "at": "nonsense"}', 202, (0, 1)),
        (b'{"client_id": "new\\nline"}', 202, (0, 1)),
        (b'{"client_id": 7}', 202, (1, 0)),
        (b'[{"client_id": "till"}, {}]', 202, (1, 1)),
        (b'{"client_id": ""}', 202, (0, 1)),
        (b"{", 400, None),
        (b"", 400, None),
        (b"\xff", 400, None),
    ],
)
def test_every_body_is_answered_and_counted_once(
    server: ServerProcess, body: bytes, status: int, counts: tuple[int, int] | None
) -> None:
    """What the short way cannot read the long way does; neither records or counts what the other has."""
    before = _figures(server)
    answer = server.http.post(ACTIVITY, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    if counts is not None:
        assert (answer.json()["accepted"], answer.json()["rejected"]) == counts
    after = _figures(server)
    assert after["requests", str(status)] - before["requests", str(status)] == 1
    accepted, rejected = counts or (0, 0)
    assert after["received", "accepted"] - before["received", "accepted"] == accepted
    assert after["received", "rejected"] - before["received", "rejected"] == rejected


def _figures(server: ServerProcess) -> dict[tuple[str, str], float]:
    found = {("requests", "202"): 0.0, ("requests", "400"): 0.0}
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "lastseen_http_request_duration_seconds_count" and labels["route"] == ACTIVITY:
                found["requests", labels["status"]] = sample.value
            elif sample.name == "lastseen_received_activities_total":
                found["received", labels["outcome"]] = sample.value
    return found
