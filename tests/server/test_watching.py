"""Health, metrics, logs and the OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.server.running import ServerProcess, eventually

# One server a module, and a module a process.


def samples(server: ServerProcess) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = server.http.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_of_recording_has_every_figure(server: ServerProcess) -> None:
    """The keys that monitoring reads are there, in snake_case, spans in seconds."""
    server.http.post("/api/v1/activity?client_id=healthy")

    def flushed() -> Any:
        answer = server.http.get("/health/activity")
        assert answer.status_code == 200
        found = answer.json()
        return found if found["last_successful_flush_at"] and not found["buffer_size"] else None

    body = eventually(flushed, "a flush")
    assert body["status"] == "ok"
    assert (body["flush_interval"], body["max_buffer_size"], body["buffer_size"]) == (1.0, 100, 0)
    assert set(body) == {
        "status",
        "reason",
        "buffer_size",
        "flush_interval",
        "max_buffer_size",
        "max_pending",
        "oldest_waiting_age",
        "last_successful_flush_at",
        "consecutive_failures",
        "dropped",
        "rejected",
        "poison",
    }


def test_liveness_and_readiness(server: ServerProcess) -> None:
    """Both answer 200 while all is well, HEAD too."""
    for path in ("/health/live", "/health/ready"):
        assert server.http.get(path).json() == {"status": "ok"}
        assert server.http.head(path).status_code == 200


def test_metrics_count_what_happened(server: ServerProcess) -> None:
    """Requests by route and status, what was received, flushes, and the process itself."""
    server.http.post("/api/v1/activity", json=[{"client_id": "m1"}, {}, {"client_id": "m2"}])
    server.http.get("/api/v1/clients/m1")
    server.http.get("/api/v1/clients/other")
    server.http.get("/made/up/by/somebody")
    rows = ("lastseen_activity_updated_rows_total", ())
    eventually(lambda: samples(server)[rows] >= 2, "a flush")
    found = samples(server)
    route = ("route", "/api/v1/clients/{client_id}")
    counted = "lastseen_http_request_duration_seconds_count"
    assert found[counted, (("method", "GET"), route, ("status", "200"))] >= 1
    assert found[counted, (("method", "GET"), route, ("status", "404"))] >= 1
    assert found[counted, (("method", "GET"), ("route", "unmatched"), ("status", "404"))] >= 1
    assert found[counted, (("method", "POST"), ("route", "/api/v1/activity"), ("status", "202"))] >= 1
    assert found["lastseen_received_activities_total", (("outcome", "accepted"),)] >= 2
    assert found["lastseen_received_activities_total", (("outcome", "rejected"),)] >= 1
    assert found["lastseen_flush_batch_size_sum", ()] >= 1
    assert found["lastseen_flush_duration_seconds_count", ()] >= 1
    assert found["lastseen_activity_health", (("status", "ok"),)] == 1
    assert found["process_resident_memory_bytes", ()] > 0


def test_metrics_do_not_grow_with_what_clients_make_up(server: ServerProcess) -> None:
    """A thousand addresses, methods and client ids make no thousand series."""
    before = len(samples(server))
    for index in range(100):
        server.http.request(f"METHOD{index}", f"/made/up/{index}")
        server.http.get(f"/api/v1/clients/made-up-{index}")
    assert len(samples(server)) < before + 100


def test_logs_are_json_when_asked(tmp_path: Path) -> None:
    """Every line is one object; a flush tells its figures as fields; requests are not logged."""
    with ServerProcess(tmp_path, None, "--log-format", "json") as server:
        server.http.post("/api/v1/activity", json=[{"client_id": "a"}, {"client_id": "b"}])
        eventually(lambda: "flushed activity batch" in server.log, "the flush is logged")
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.splitlines()]
    flushed = next(line for line in lines if line["message"].startswith("flushed"))
    assert (flushed["level"], flushed["logger"]) == ("info", "lastseen")
    assert (flushed["updated_count"], flushed["batch_size"]) == (2, 2)
    assert flushed["timestamp"].endswith("Z")
    assert not any("api/v1/activity" in line["message"] for line in lines)


def test_logs_are_for_people_by_default(new_server: ServerProcess) -> None:
    """One line a flush that wrote something, with its figures."""
    new_server.http.post("/api/v1/activity?client_id=a")
    eventually(lambda: "flushed activity batch updated_count=1 batch_size=1" in new_server.log, "the flush is logged")


def test_the_api_describes_itself(server: ServerProcess) -> None:
    """The OpenAPI document names every route, the hot one too."""
    document = server.http.get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {
        "/api/v1/activity",
        "/api/v1/activity/hours",
        "/api/v1/clients",
        "/api/v1/clients/count",
        "/api/v1/clients/counts",
        "/api/v1/clients/{client_id}",
        "/api/v1/clients/{client_id}/hours",
        "/api/v1/devices",
        "/api/v1/devices/{device_id}",
        "/api/v1/devices/{device_id}/seen",
        "/api/v1/groups",
        "/api/v1/groups/{group_id}",
        "/api/v1/keys",
        "/api/v1/keys/{key_id}",
        "/api/v1/keys/{key_id}/rotate",
        "/api/v1/sessions",
        "/api/v1/sessions/{session_id}",
        "/api/v1/sites",
        "/api/v1/sites/{site_id}",
        "/api/v1/sites/{site_id}/rotate-write-key",
        "/health/activity",
        "/health/live",
        "/health/ready",
    }
    posting = document["paths"]["/api/v1/activity"]["post"]
    assert set(posting["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    assert set(posting["responses"]) >= {"202", "400", "413", "415"}
    listing = document["paths"]["/api/v1/clients"]["get"]
    assert {parameter["name"] for parameter in listing["parameters"]} == {
        "active_within",
        "inactive_for",
        "status",
        "search",
        "order",
        "limit",
        "cursor",
        "format",
    }
