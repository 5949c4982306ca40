"""Clients that send events as fast as they are answered, and remember what they were told."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from typing import Any

import httpx

from tests.server.ingesting import RECORDED_KEY

NUMBERS = itertools.count()


def new_batch(size: int, visitors: int = 4) -> list[dict[str, Any]]:
    """Return events that nobody sent before; their ids say which batch they belong to, and how large it is."""
    number = next(NUMBERS)
    return [
        {
            "id": f"{number:06d}-{place}-of-{size}",
            "name": "$pageview" if place % 2 else "click",
            "distinct_id": f"v{(number + place) % visitors}",
            "at": 1_790_000_000 + 13 * number,
            "url": "https://shop.test/",
        }
        for place in range(size)
    ]


def body_of(events: Sequence[dict[str, Any]]) -> bytes:
    """Return the request that brings them."""
    return json.dumps({"write_key": RECORDED_KEY, "events": events}).encode()


class Clients:
    """Threads with a connection each; a batch that was not acknowledged is sent again until it is, or until the end.

    `statuses` counts the answers; `acknowledged` and `sent` hold the ids of events.
    """

    def __init__(self, address: str, threads: int = 4, size: int = 3, retries: bool = True) -> None:
        self.address = address
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.statuses: dict[int, int] = {}
        self._size = size
        self._retries = retries
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        # Whoever gave up would not know what the server has taken. One that is gone refuses the connection.
        with httpx.Client(timeout=150) as http:
            events = new_batch(self._size)
            while not self._ended.is_set():
                if self._send(http, events) or not self._retries:
                    events = new_batch(self._size)

    def _send(self, http: httpx.Client, events: list[dict[str, Any]]) -> bool:
        ids = {event["id"] for event in events}
        with self._lock:
            self.sent |= ids
        try:
            answer = http.post(f"{self.address}/api/v1/events", content=body_of(events), headers=JSON)
        except httpx.TransportError:
            self._ended.wait(0.05)  # the server is gone; the next try comes a little later
            return False
        with self._lock:
            self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 200:
                self.acknowledged |= ids
        return answer.status_code == 200

    def end(self) -> None:
        """Finish the requests under way and stop."""
        self._ended.set()
        for thread in self._threads:
            thread.join()


JSON = {"content-type": "application/json"}
