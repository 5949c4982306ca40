"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lastseen.activity.clients import ClientActivity
from lastseen.activity.flush import FlushResult
from lastseen.activity.health import HealthStatus
from lastseen.server.touches import Tally

_LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FLUSH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH_SIZES = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 10_000, 50_000)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """One server's figures, in a registry of their own. Requests are counted on the event loop, flushes anywhere."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _RequestCollector()
        self.registry.register(self._requests)
        self._flush_seconds = Histogram(
            "lastseen_flush_duration_seconds",
            "How long flushes took that had something to write.",
            buckets=_FLUSH_SECONDS,
            registry=self.registry,
        )
        self._batch_sizes = Histogram(
            "lastseen_flush_batch_size", "Keys a flush.", buckets=_BATCH_SIZES, registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is a template, never an address that a client made up."""
        self.series(method if method in _METHODS else "other", route, status).observe(seconds)

    def series(self, method: str, route: str, status: int) -> RequestTimes:
        """Return where requests of one kind are counted: who has many of a kind finds the place once."""
        return self._requests.series(method, route, status)

    def flushed(self, result: FlushResult) -> None:
        """Count one flush; hand this to `LastSeen.open` as `on_flush`."""
        self._flush_seconds.observe(result.duration)
        self._batch_sizes.observe(result.batch_size)

    def watch(self, clients: ClientActivity, received: Tally) -> None:
        """Read these at every scrape."""
        self.registry.register(_ActivityCollector(clients, received))

    def exposition(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)


class RequestTimes:
    """How long requests of one method, route and status took.

    Plain counters, a fifth of the cost of the library's locked ones: only the event loop counts, a scrape may be one
    request behind.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(_LATENCIES) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.counts[bisect_left(_LATENCIES, seconds)] += 1
        self.seconds += seconds


class _RequestCollector(Collector):
    """The histogram of requests by method, route and status."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, int], RequestTimes] = {}

    def series(self, method: str, route: str, status: int) -> RequestTimes:
        key = (method, route, status)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = RequestTimes()
        return found

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "lastseen_http_request_duration_seconds",
            "How long requests took; its count is how many there were.",
            labels=("method", "route", "status"),
        )
        bounds = [*map(str, _LATENCIES), "+Inf"]
        for (method, route, status), times in list(self._series.items()):
            buckets = list(zip(bounds, accumulate(times.counts), strict=True))
            family.add_metric((method, route, str(status)), buckets, times.seconds)
        yield family


class _ActivityCollector(Collector):
    """Reads the tracker's own counts, so that nothing is counted twice."""

    def __init__(self, clients: ClientActivity, received: Tally) -> None:
        self._clients = clients
        self._received = received

    def collect(self) -> Iterator[Metric]:
        health = self._clients.health()
        age = health.oldest_waiting_age
        last = health.last_successful_flush_at
        gauges = {
            "buffer_size": ("Keys that wait to be written.", health.buffer_size),
            "buffer_limit": ("Keys that may wait; further new ones are dropped.", health.max_pending),
            "oldest_waiting_seconds": ("Age of the oldest waiting key.", age.total_seconds() if age else 0.0),
            "last_successful_flush_timestamp_seconds": ("When.", last.timestamp() if last else 0.0),
            "consecutive_flush_failures": ("Flushes that failed since the last good one.", health.consecutive_failures),
        }
        for name, (description, value) in gauges.items():
            yield GaugeMetricFamily(f"lastseen_activity_{name}", description, value)
        counters = {
            "flushes": ("Flushes that wrote something.", health.flushes),
            "updated_rows": ("Rows inserted or moved forward.", health.updated),
            "dropped": ("New keys refused because the buffer was full.", health.dropped),
            "rejected": ("Keys and times that can never be stored.", health.rejected),
            "poison": ("Keys that the database refused for ever.", health.poison),
        }
        for name, (description, value) in counters.items():
            yield CounterMetricFamily(f"lastseen_activity_{name}", description, value)
        yield self._status(health.status)
        yield self._items()

    def _status(self, current: HealthStatus) -> Metric:
        family = GaugeMetricFamily("lastseen_activity_health", "1 for the status it has.", labels=["status"])
        for status in HealthStatus:
            family.add_metric([status.value], float(status is current))
        return family

    def _items(self) -> Metric:
        family = CounterMetricFamily("lastseen_received_activities", "Activities posted.", labels=["outcome"])
        for outcome in ("accepted", "rejected", "dropped"):
            family.add_metric([outcome], getattr(self._received, outcome))
        return family
