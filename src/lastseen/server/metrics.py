"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
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
        self._requests = Histogram(
            "lastseen_http_request_duration_seconds",
            "How long requests took; its count is how many there were.",
            ("method", "route", "status"),
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._flush_seconds = Histogram(
            "lastseen_flush_duration_seconds",
            "How long flushes took that had something to write.",
            buckets=_FLUSH_SECONDS,
            registry=self.registry,
        )
        self._batch_sizes = Histogram(
            "lastseen_flush_batch_size", "Keys a flush.", buckets=_BATCH_SIZES, registry=self.registry
        )
        self._observers: dict[tuple[str, str, int], Histogram] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is a template, never an address that a client made up."""
        key = (method, route, status)
        observer = self._observers.get(key)
        if observer is None:
            known = method if method in _METHODS else "other"
            observer = self._requests.labels(known, route, str(status))
            if known == method:
                self._observers[key] = observer
        observer.observe(seconds)

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
