"""A start loads what the first answers need; what nobody asked for comes later, or with the first who asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.server.ingesting import batch, event_server, sqlite_url
from tests.server.running import ServerProcess, eventually

ASKERS = 4
RANGE = {"from": "2026-09-01", "to": "2026-10-01", "metrics": "events"}


def loaded_libraries(server: ServerProcess) -> str:
    """Return the names of the files that the process has mapped, as Linux tells them."""
    return Path(f"/proc/{server.pid}/maps").read_text()


def test_a_server_loads_the_engine_of_reports_by_itself(new_server: ServerProcess) -> None:
    """Behind the first answers, and before anybody asks for a report."""
    assert new_server.http.get("/api/v1/clients").status_code == 200
    eventually(lambda: "_duckdb" in loaded_libraries(new_server), "the engine of reports")


def test_reports_may_be_asked_for_from_the_first_moment(tmp_path: Path) -> None:
    """While the copy is opened each who asks waits for it: nobody gets an error, and there is one copy, not two."""
    url = sqlite_url(tmp_path)
    with event_server(tmp_path, url, "--data-folder", str(tmp_path)) as (server, _):
        assert server.http.post("/api/v1/events", content=batch(range(200))).status_code == 200
    with event_server(tmp_path, url, "--data-folder", str(tmp_path)) as (server, _):

        def ask(_: int) -> tuple[int, bool]:
            answer = server.http.get("/api/v1/reports/visits", params=RANGE)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            return found["totals"]["events"], found["is_complete"]

        with ThreadPoolExecutor(ASKERS) as asking:
            answers = list(asking.map(ask, range(5 * ASKERS)))
        assert {events for events, is_complete in answers if is_complete} <= {200}
        eventually(lambda: ask(0) == (200, True), "the copy is complete")
        assert len(list(tmp_path.glob("reports-*.duckdb"))) == 1


def test_the_first_answers_are_as_good_as_the_second(new_server: ServerProcess) -> None:
    """Nothing that is made later is missing in them."""
    for path in ("/health/ready", "/", "/visits", "/devices", "/metrics", "/static/app.css", "/api/v1/docs"):
        first, second = (new_server.http.get(path) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 200), path
        assert first.headers["content-type"] == second.headers["content-type"]
        assert bool(first.content) == bool(second.content)
