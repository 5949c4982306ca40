"""What the ingest counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lastseen.ingest.service import Ingest

_BATCH_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class IngestMetrics:
    """Histograms of the commits of one ingest; `committed` is for its `on_commit`, `watch` follows once it is there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._sizes = Histogram(
            "lastseen_event_commit_size", "Events a transaction.", buckets=_BATCH_SIZES, registry=registry
        )
        self._seconds = Histogram(
            "lastseen_event_commit_duration_seconds",
            "How long the transactions took.",
            buckets=_SECONDS,
            registry=registry,
        )

    def committed(self, events: int, seconds: float) -> None:
        """Count one transaction; any thread."""
        self._sizes.observe(events)
        self._seconds.observe(seconds)

    def watch(self, ingest: Ingest) -> None:
        """Read the figures of an ingest at every scrape."""
        self._registry.register(_IngestCollector(ingest))


class _IngestCollector(Collector):
    """Reads the ingest's own counts, so that nothing is counted twice."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def collect(self) -> Iterator[Metric]:
        figures, spool = self._ingest.figures, self._ingest.spool
        gauges = {
            "events_waiting": ("Events that wait for a commit.", self._ingest.commit.waiting),
            "spool_bytes": ("Size of the events on disk that wait for the database.", spool.size),
            "spool_events": ("Events on disk that wait for the database.", spool.waiting),
        }
        for name, (description, value) in gauges.items():
            yield GaugeMetricFamily(f"lastseen_{name}", description, value)
        counters = {
            "events_accepted": ("Events that were acknowledged, repeated ones too.", figures.accepted),
            "events_duplicate": ("Events that were there already.", figures.duplicates),
            "events_refused": ("Events answered 503.", figures.refused),
            "event_commits": ("Transactions that saved events.", figures.commits),
            "event_commit_failures": (
                "Transactions that failed because the database was away.",
                figures.failed_commits,
            ),
            "events_spooled": ("Events acknowledged from the disk.", figures.spooled),
            "events_drained": ("Events that went from the disk into the database.", figures.drained),
            "spool_damaged_bytes": ("Bytes of events on disk that could not be read.", figures.damaged_bytes),
        }
        for name, (description, value) in counters.items():
            yield CounterMetricFamily(f"lastseen_{name}", description, value)
        dropped = CounterMetricFamily("lastseen_events_dropped", "Events refused on purpose.", labels=["cause"])
        for cause, count in list(figures.dropped.items()):
            dropped.add_metric([cause], count)
        yield dropped
