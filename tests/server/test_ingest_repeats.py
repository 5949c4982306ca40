"""Sent again, in any order, over any connection, after answers that got lost: there once."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen.visits.event import Event
from tests.server.event_load import JSON, body_of, new_batch
from tests.server.ingesting import RECORDED_KEY, Eyes, ForgetfulServer, batch, check_stored, event_server, metric
from tests.server.running import DEADLINE, ServerProcess
from tests.servers import Proxy


def test_events_that_nobody_knows_again_are_seen(tmp_path: Path) -> None:
    """The negative control: a server that stores each sending as new fails the same comparison."""
    with pytest.raises(AssertionError):
        repeat_shuffled(tmp_path, 20, ForgetfulServer)


def test_events_sent_three_times_shuffled(tmp_path: Path) -> None:
    """Over several connections, each time in another order: the tables equal those of one ordered send."""
    repeat_shuffled(tmp_path, 2_000)


@pytest.mark.faults
def test_ten_thousand_events_sent_three_times_shuffled(tmp_path: Path) -> None:
    """The same with ten thousand."""
    repeat_shuffled(tmp_path, 10_000)


def repeat_shuffled(folder: Path, count: int, kind: type[ServerProcess] = ServerProcess) -> None:
    numbers = list(range(count))
    folders = folder / "once", folder / "often"
    tables = []
    for place in folders:
        place.mkdir()
        with event_server(place, kind=kind) as (server, eyes):
            if place == folders[0]:
                sends = [numbers]
            else:
                sends = [random.Random(seed).sample(numbers, len(numbers)) for seed in range(3)]
            threads = [threading.Thread(target=post_all, args=(server, send)) for send in sends]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            visits = [
                (
                    one.id,
                    one.visitor_id,
                    one.start,
                    one.last_activity,
                    one.event_count,
                    one.page_views,
                    one.start_reason,
                )
                for one in eyes.all_visits()
            ]
            tables.append(([unreceived(event) for event in eyes.events()], visits))
    assert len(tables[0][0]) == count
    assert tables[0] == tables[1]


def unreceived(event: Event) -> tuple[Any, ...]:
    """Return all of an event but when it came, which differs."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    del fields["received_at"]
    return tuple(map(repr, fields.values()))


def post_all(server: ServerProcess, numbers: Sequence[int]) -> None:
    with httpx.Client(timeout=60) as http:
        for start in range(0, len(numbers), 500):
            body = batch(numbers[start : start + 500])
            assert http.post(f"{server.address}/api/v1/events", content=body, headers=JSON).status_code == 200


def lose_answers(server: ServerProcess, eyes: Eyes, count: int) -> None:
    sent: set[str] = set()
    with Proxy(server.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/api/v1/events"
        for _ in range(count):
            events = new_batch(2)
            sent |= {event["id"] for event in events}
            proxy.answers = "cut"
            with pytest.raises(httpx.TransportError):
                httpx.post(url, content=body_of(events), headers=JSON, timeout=DEADLINE)
            proxy.answers = "pass"
            again = httpx.post(url, content=body_of(events), headers=JSON, timeout=DEADLINE)
            assert again.status_code == 200
    check_stored(eyes, sent, sent)
    assert metric(server, "lastseen_events_duplicate_total") == len(sent)


def test_answers_that_get_lost(tmp_path: Path) -> None:
    """Twenty times: stored, the answer cut off, sent again: there once."""
    with event_server(tmp_path) as (server, eyes):
        lose_answers(server, eyes, 20)


@pytest.mark.faults
def test_five_hundred_answers_that_get_lost(tmp_path: Path) -> None:
    """The same, five hundred times."""
    with event_server(tmp_path) as (server, eyes):
        lose_answers(server, eyes, 500)


def test_without_ids_a_repetition_would_be_stored_twice(tmp_path: Path) -> None:
    """The negative control: events that have neither id nor moment cannot be recognised."""
    with event_server(tmp_path) as (server, eyes):
        for _ in range(2):
            body = {"write_key": RECORDED_KEY, "name": "x", "distinct_id": "v"}
            assert server.http.post("/api/v1/events", json=body).status_code == 200
        assert eyes.event_count() == 2
