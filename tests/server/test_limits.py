"""What protects the server from too much: rates by client, a ceiling for what is under way, answers remembered once."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen.server.api.idempotency import MOST_REMEMBERED, REMEMBERED_FOR, IdempotentAnswers
from lastseen.server.body import MAX_JSON_BODY
from lastseen.server.ingest.gate import MOST_BYTES
from lastseen.server.limits import MOST_NAMES, InFlight, RateLimits, TokenBuckets
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.testing import ManualClock
from tests.server import people
from tests.server.running import DEADLINE, ServerProcess, eventually
from tests.server.world import FAR

ADA, BOB = Principal(name="ada"), Principal(name="bob")


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    """Ten at once, then two a second; who waits as long as told is let through; others are not held up."""
    clock = ManualClock()
    buckets = TokenBuckets(rate=2, burst=10, clock=clock)
    assert [buckets.take("a") for _ in range(10)] == [0.0] * 10
    assert buckets.take("a") == 0.5
    assert buckets.take("b") == 0.0
    clock.advance(0.5)
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == 0.5
    clock.advance(3_600)
    assert [buckets.take("a") for _ in range(11)] == [0.0] * 10 + [0.5]


def test_names_are_not_remembered_without_end() -> None:
    """The least recent one goes first."""
    buckets = TokenBuckets(rate=1, burst=1, clock=ManualClock())
    buckets.take("first")
    for number in range(MOST_NAMES):
        buckets.take(str(number))
    assert buckets.take("first") == 0.0


def test_an_activity_costs_a_tenth_and_zero_is_no_limit() -> None:
    """One request a second and client are ten activities; the answer says how long to wait."""
    limits = RateLimits(1, clock=ManualClock())
    assert [limits.problem("a", limits.ACTIVITY_COST) for _ in range(20)] == [None] * 20
    problem = limits.problem("a")
    assert problem is not None
    assert (problem.status_code, problem.headers) == (429, {"retry-after": "1"})
    unlimited = RateLimits(0, clock=ManualClock())
    assert {unlimited.problem("a") for _ in range(1_000)} == {None}
    assert {unlimited.failed("a") for _ in range(1_000)} == {None}


def test_no_more_is_under_way_than_may_be() -> None:
    """By number and by bytes; what ends, however it ends, makes room; too much is 503, never 429."""
    in_flight = InFlight(requests=2, size=100)
    with in_flight.one(60):
        with pytest.raises(Problem) as caught, in_flight.one(41):
            pass
        assert (caught.value.status_code, caught.value.headers) == (503, {"retry-after": "2"})
        with in_flight.one(40), pytest.raises(Problem, match="too much is under way"), in_flight.one(0):
            pass
        with pytest.raises(ZeroDivisionError), in_flight.one(40):
            _ = 1 / 0
        assert (in_flight.requests, in_flight.size) == (1, 60)
        in_flight.enter(10)
        in_flight.grow(30)
        with pytest.raises(Problem, match="too much is under way"):
            in_flight.grow(1)
        in_flight.leave(41)
        assert (in_flight.requests, in_flight.size) == (1, 60)
    assert (in_flight.requests, in_flight.size) == (0, 0)


def test_an_answer_is_remembered_for_its_key_and_its_request() -> None:
    """Made once for a person, a route and a key; with the same key another request is refused; then it is forgotten."""
    clock, made = ManualClock(), iter(range(100))
    answers = IdempotentAnswers(clock)

    def make() -> int:
        return next(made)

    assert [answers.once(ADA, "r", "k", {"a": 1}, make) for _ in range(3)] == [0, 0, 0]
    assert answers.once(BOB, "r", "k", {"a": 1}, make) == 1
    assert answers.once(ADA, "s", "k", {"a": 1}, make) == 2
    assert [answers.once(ADA, "r", None, {"a": 1}, make) for _ in range(2)] == [3, 4]
    with pytest.raises(Problem, match="another request"):
        answers.once(ADA, "r", "k", {"a": 2}, make)
    clock.advance(REMEMBERED_FOR.total_seconds())
    assert answers.once(ADA, "r", "k", {"a": 2}, make) == 5


def test_what_failed_may_be_tried_again() -> None:
    """A failure is not remembered."""
    answers = IdempotentAnswers(ManualClock())
    with pytest.raises(ZeroDivisionError):
        answers.once(ADA, "r", "k", {}, lambda: 1 // 0)
    assert answers.once(ADA, "r", "k", {}, lambda: 7) == 7


def test_of_two_at_once_one_makes_it() -> None:
    """The other is told to wait, not made twice."""
    answers, inside, go_on = IdempotentAnswers(), threading.Event(), threading.Event()

    def make() -> int:
        inside.set()
        assert go_on.wait(30)
        return 1

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(answers.once, ADA, "r", "k", {}, make)
        assert inside.wait(30)
        with pytest.raises(Problem, match="still under way"):
            answers.once(ADA, "r", "k", {}, make)
        go_on.set()
        assert first.result() == 1


def test_answers_are_not_remembered_without_end() -> None:
    """The oldest goes first."""
    answers = IdempotentAnswers(ManualClock())
    for number in range(MOST_REMEMBERED + 1):
        answers.once(ADA, "r", str(number), {}, lambda: 1)
    assert answers.once(ADA, "r", "0", {}, lambda: 2) == 2


def test_browsers_are_told_503_and_never_429(tmp_path: Path) -> None:
    """Whatever the limit of requests, events are taken; only when too much is under way at once there is 503.

    What is only announced is not under way: a few connections that send nothing would be in the way of all others.
    A page of any origin may read that, and when to come again. The API answers meanwhile; events are taken afterwards.
    """
    event = {"name": "$pageview", "url": "https://shop.example/"}
    with ServerProcess(tmp_path, None, "--rate-limit", "1") as server:
        ada = people.set_up(server)
        key = ada.get("/api/v1/sites").json()["sites"][0]["write_key"]
        address, headers = f"/api/v1/events?write_key={key}", {"origin": "https://shop.example"}
        for _ in range(50):
            assert server.http.post(address, json=event, headers=headers).status_code == 200
        # They send bodies that fill all the room, but for the last byte.
        number, rest = divmod(MOST_BYTES, MAX_JSON_BODY)
        with ExitStack() as held:

            def announce(size: int, sent: int) -> None:
                connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE))
                head = f"POST {address} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
                connection.sendall(head.encode() + b" " * sent)

            for _ in range(2 * number):
                announce(MAX_JSON_BODY, 0)
            assert server.http.post(address, json=event, headers=headers).status_code == 200
            held.close()
            for _ in range(number):
                announce(MAX_JSON_BODY, MAX_JSON_BODY - 1)

            def refused() -> Any:
                announce(rest, rest - 1)  # again, when the event was there first and left no room for it
                answer = server.http.post(address, json=event, headers=headers)
                return answer if answer.status_code == 503 else None

            answer = eventually(refused, "there is no room")
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert server.http.get("/health/ready").status_code == 200
        eventually(lambda: server.http.post(address, json=event, headers=headers).status_code == 200, "there is room")
        ada.close()


def test_a_client_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    """429 with Retry-After and problem details, for a key, a person and wrong keys; nobody else is held up."""
    with ServerProcess(tmp_path, None, "--rate-limit", "3") as server:
        ada = people.set_up(server)
        secret = ada.post("/api/v1/keys", json={"name": "a", "scopes": ["devices:read"]}).json()["secret"]
        other = ada.post("/api/v1/keys", json={"name": "b", "scopes": ["devices:read"]}).json()["secret"]

        def burst(headers: dict[str, str]) -> httpx.Response:
            assert server.http.get("/api/v1/devices", headers=headers).status_code != 429

            def refused() -> Any:
                # So many at once that they come faster than three a second also where each takes long.
                with ThreadPoolExecutor(8) as asking:
                    asked = [asking.submit(server.http.get, "/api/v1/devices", headers=headers) for _ in range(40)]
                return next((one.result() for one in asked if one.result().status_code == 429), None)

            limited: httpx.Response = eventually(refused, "a limit")
            assert limited.headers["content-type"] == "application/problem+json"
            assert int(limited.headers["retry-after"]) >= 1
            return limited

        assert "wait" in burst({"x-api-key": secret}).json()["detail"]
        assert server.http.get("/api/v1/devices", headers={"x-api-key": other}).status_code == 200
        burst({"x-api-key": "ls_wrong"})
        burst({"cookie": f"lastseen={ada.cookies['lastseen']}"})
        for _ in range(100):
            assert server.http.post("/api/v1/activity?client_id=here").status_code == 202
            assert server.http.get("/health/live", headers=FAR).status_code == 200
        ada.close()


def test_wrong_keys_for_events_are_counted_too(tmp_path: Path) -> None:
    """429 for a program and 503 for a page, both with Retry-After; keys that are right go on, from the same network."""
    path, event = "/api/v1/events", {"name": "$pageview", "distinct_id": "v", "url": "https://shop.example/"}
    page = {"origin": "https://shop.example"}
    with ServerProcess(tmp_path, None, "--rate-limit", "3") as server:
        ada = people.set_up(server)
        secret = ada.post("/api/v1/keys", json={"name": "a", "scopes": ["events:write"]}).json()["secret"]
        write_key = ada.get("/api/v1/sites").json()["sites"][0]["write_key"]

        def post(key: str, headers: dict[str, str] | None = None) -> httpx.Response:
            return server.http.post(path, json=event, headers={"x-api-key": key, **(headers or {})})

        def refused(status: int, headers: dict[str, str]) -> Any:
            answer = post("ls_wrong", headers)
            return answer if answer.status_code == status else None

        statuses = [post("ls_wrong").status_code for _ in range(40)]
        assert set(statuses[:20]) == {401}
        limited = eventually(lambda: refused(429, {}), "a limit")
        assert limited.headers["content-type"] == "application/problem+json"
        assert int(limited.headers["retry-after"]) >= 1
        assert limited.json()["code"] == "rate_limited"
        told = eventually(lambda: refused(503, page), "a limit")
        assert int(told.headers["retry-after"]) >= 1
        for _ in range(50):
            assert post(secret).status_code == 200
            assert server.http.post(f"{path}?write_key={write_key}", json=event).status_code == 200
        ada.close()
