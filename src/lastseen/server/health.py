"""`/health/…`: for whoever keeps the server running."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec

from lastseen.activity.health import ActivityHealth, HealthStatus
from lastseen.app import LastSeen
from lastseen.errors import LastSeenError
from lastseen.server.problem import Problem
from lastseen.server.rights import Right


class Liveness(msgspec.Struct, kw_only=True):
    """The process runs."""

    status: str = "ok"


class ActivityReport(msgspec.Struct, kw_only=True):
    """How recording feels; spans are seconds."""

    status: HealthStatus
    reason: str | None
    buffer_size: int
    flush_interval: float
    max_buffer_size: int | None
    max_pending: int
    oldest_waiting_age: Annotated[float | None, msgspec.Meta(description="seconds; null when nothing waits")]
    last_successful_flush_at: datetime | None
    consecutive_failures: int
    dropped: int
    rejected: int
    poison: int

    @classmethod
    def of(cls, health: ActivityHealth) -> ActivityReport:
        """Return what is shown of a tracker's health."""
        age = health.oldest_waiting_age
        return cls(
            status=health.status,
            reason=health.reason,
            buffer_size=health.buffer_size,
            flush_interval=health.flush_interval.total_seconds(),
            max_buffer_size=health.max_buffer_size,
            max_pending=health.max_pending,
            oldest_waiting_age=None if age is None else age.total_seconds(),
            last_successful_flush_at=health.last_successful_flush_at,
            consecutive_failures=health.consecutive_failures,
            dropped=health.dropped,
            rejected=health.rejected,
            poison=health.poison,
        )


class HealthController(Controller):
    """Liveness, readiness, and how recording feels; readiness never depends on the latter."""

    path = "/health"
    tags = ("health",)

    @get("/live", needs=Right.PUBLIC, sync_to_thread=False, summary="The process runs", operation_id="GetLiveness")
    def live(self) -> Liveness:
        """Answer while the process runs, whatever the database does."""
        return Liveness()

    @get(
        "/ready",
        needs=Right.PUBLIC,
        sync_to_thread=True,
        summary="The store answers and its schema is current",
        operation_id="GetReadiness",
        raises=[Problem],
    )
    def ready(self, seen: LastSeen) -> Liveness:
        """Answer 200 when the store can be asked and has no schema change before it, else 503."""
        try:
            pending = seen.store.pending_migrations()
            seen.store.clients.check_schema()
        except LastSeenError as error:
            raise Problem(503, f"the store is not ready: {error}") from error
        if pending:
            raise Problem(503, f"schema changes are pending ({', '.join(pending)}); run: lastseen migrate")
        return Liveness()

    @get(
        "/activity",
        needs=Right.MONITORING,
        sync_to_thread=False,
        summary="How recording feels: 200 for ok and degraded, 503 for red",
        operation_id="GetActivityHealth",
        responses={503: ResponseSpec(data_container=ActivityReport, description="Recording is in trouble")},
    )
    def activity(self, seen: LastSeen) -> Response[ActivityReport]:
        """Answer what waits, what failed, and what was refused."""
        report = ActivityReport.of(seen.clients.health())
        return Response(report, status_code=503 if report.status is HealthStatus.RED else 200)
