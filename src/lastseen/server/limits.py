"""What protects the server from too much: a rate for each client, and a ceiling for what is under way at once."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.server.problem import Problem
from lastseen.sessions.address import anonymized

MOST_NAMES = 10_000
_TOO_MUCH = "too much is under way; send this again in a moment"


class TokenBuckets:
    """A bucket for each name: `burst` tokens at first and at most, `rate` more every second.

    At most 10,000 names are remembered; the least recent one goes first, and begins anew. For one thread at a time.
    """

    def __init__(self, *, rate: float, burst: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, cost: float = 1.0) -> float:
        """Take tokens and return 0, or return the seconds until there will be enough; then nothing was taken."""
        now = self._clock.monotonic()
        tokens, at = self._buckets.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        enough = tokens >= cost
        self._buckets[name] = (tokens - cost if enough else tokens, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > MOST_NAMES:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (cost - tokens) / self._rate


class RateLimits:
    """How often one client may ask, and how often one network may present what is no credential.

    For the event loop. An activity costs a tenth of a request that asks the store; 0 requests a second is no limit.
    """

    REQUEST_COST = 10.0
    ACTIVITY_COST = 1.0

    def __init__(self, requests_per_second: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        rate = requests_per_second * self.REQUEST_COST
        self._clients = TokenBuckets(rate=rate, burst=2 * rate, clock=clock) if rate else None
        self._failures = TokenBuckets(rate=1.0, burst=20.0, clock=clock)

    def problem(self, name: str, cost: float = REQUEST_COST) -> Problem | None:
        """Count a request of this client and return None, or the answer to one too many."""
        seconds = 0.0 if self._clients is None else self._clients.take(name, cost)
        return None if seconds <= 0 else too_many(seconds)

    def failed(self, address: str) -> Problem | None:
        """Count a wrong credential from this address and return None, or the answer to one too many."""
        seconds = 0.0 if self._clients is None else self._failures.take(address)
        return None if seconds <= 0 else too_many(seconds)


def network_of(address: str | None) -> str:
    """Return the name under which the wrong credentials of an address count: that of its network."""
    return f"network {anonymized(address) if address else ''}"


def too_many(seconds: float) -> Problem:
    """Return the answer to one request too many."""
    wait = max(1, math.ceil(seconds))
    return Problem(429, f"too many requests; wait {wait} s", headers={"retry-after": str(wait)}, code="rate_limited")


class InFlight:
    """A ceiling for requests, and the bytes of their bodies, that are under way at once.

    For what browsers send: they are told 503 with Retry-After, never 429, which their libraries take for a verdict on
    the page. For the event loop. `with in_flight.one(size):` around the whole request; raises `Problem` when full.
    """

    def __init__(self, *, requests: int, size: int) -> None:
        self._requests = requests
        self._size = size
        self.requests = 0
        self.size = 0

    @contextmanager
    def one(self, size: int) -> Iterator[None]:
        """Count one request and this many bytes of its body until the block ends; `grow` counts what comes beyond."""
        self.enter(size)
        try:
            yield
        finally:
            self.leave(size)

    def enter(self, size: int) -> None:
        """Count one request, as `one` does in several times the time; `leave` must follow, whatever happens."""
        if self.requests >= self._requests or self.size + size > self._size:
            raise Problem(503, _TOO_MUCH, headers={"retry-after": "2"})
        self.requests += 1
        self.size += size

    def leave(self, size: int) -> None:
        """Count the request no longer."""
        self.requests -= 1
        self.size -= size

    def grow(self, size: int) -> None:
        """Count more bytes of a request that is counted; `leave` must be told of them too, whatever happens."""
        self.size += size
        if self.size > self._size:
            raise Problem(503, _TOO_MUCH, headers={"retry-after": "2"})
