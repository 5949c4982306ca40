"""`GET /api/v1/reports/…` of a real server that takes events at the same time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from lastseen import LastSeen
from lastseen.devices.key import Scope
from tests.reports.plain import check_sums, expected, truth_of
from tests.server.ingesting import Eyes, batch, event_server, sqlite_url
from tests.server.running import ServerProcess, eventually

REPORTS = "/api/v1/reports"
RANGE = {"from": "2026-09-01", "to": "2026-10-01"}
Served = tuple[ServerProcess, Eyes]


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """Hold the secrets of the keys that `served` makes."""
    return {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, str]) -> Iterator[Served]:
    """Run a server with an empty other site and some keys, and send it events."""
    folder = tmp_path_factory.mktemp("reports")
    url = sqlite_url(folder)
    with LastSeen.open(url, migrate=True) as seen:
        seen.sites.create("other")
        for name, scopes, site in (
            ("reader", {Scope.REPORTS_READ}, None),
            ("other", {Scope.REPORTS_READ}, "other"),
            ("wrong", {Scope.VISITS_READ}, None),
        ):
            secrets[name] = seen.keys.create(name, scopes=scopes, site_id=site)[1].reveal()
    with event_server(folder, url, "--data-folder", str(folder), measured=True) as (server, eyes):
        assert server.http.post("/api/v1/events", content=batch(range(200))).status_code == 200
        eventually(lambda: has_followed(server, 200), "the copy follows")
        yield server, eyes


def ask(server: ServerProcess, secret: str = "", **options: Any) -> httpx.Response:
    """Ask for events and visits of the month in which they are."""
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    params = {"metrics": "visitors,visits,page_views,events", **RANGE, **options}
    return server.http.get(f"{REPORTS}/visits", params={k: v for k, v in params.items() if v}, headers=headers)


def has_followed(server: ServerProcess, events: int) -> bool:
    """Whether reports count so many events, and know that this is all."""
    answer = ask(server).json()
    return answer["totals"]["events"] == events and answer["is_complete"] is True


def totals(server: ServerProcess, **options: Any) -> dict[str, Any]:
    """Return the totals of an answer."""
    answer = ask(server, **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["totals"]
    return found


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Read a Parquet file."""
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM '{file}'")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_an_answer_equals_the_truth(served: Served) -> None:
    """The rows of the API are those of a slow loop over what the server stored."""
    from lastseen.reports.text import read_question

    server, eyes = served
    metrics = ["visitors", "visits", "page_views", "events"]
    question = read_question("visits", metrics=metrics, by=["page"], since="2026-09-01", until="2026-10-01")
    rows, whole, _ = expected(question, truth_of(eyes.visits))
    answer = ask(server, by="page").json()
    assert [tuple(row.values()) for row in answer["rows"]] == rows
    assert tuple(answer["totals"].values()) == whole
    assert answer["is_complete"] is True
    assert [column["adds_up"] for column in answer["columns"][1:]] == [False, False, True, True]


def test_the_copy_is_a_file_that_follows(served: Served) -> None:
    """It lies in the data folder, and what comes in later is soon in the answers."""
    server, _ = served
    assert list(server.home.glob("reports-*.duckdb"))
    before = totals(server)["events"]
    assert server.http.post("/api/v1/events", content=batch(range(1_000, 1_010))).status_code == 200
    eventually(lambda: totals(server)["events"] == before + 10, "the new events are counted")


def test_filters_are_repeated_and_must_all_hold(served: Served) -> None:
    """Two filters leave less than one; each leaves what it says."""
    server, _ = served
    both = ask(server, by="page", filter=["page:one_of:/1|/2", "page:is_not:/2"]).json()
    assert [row["page"] for row in both["rows"]] == ["/1"]
    assert len(ask(server, by="page", filter=["page:one_of:/1|/2"]).json()["rows"]) == 2


def test_csv_and_parquet_hold_the_same_rows(served: Served, tmp_path: Path) -> None:
    """Both are files to save, with the rows of the JSON."""
    server, _ = served
    records = ask(server, by="page").json()["rows"]
    text = ask(server, by="page", format="csv")
    assert text.headers["content-type"].startswith("text/csv")
    assert text.headers["content-disposition"] == 'attachment; filename="default.csv"'
    assert list(csv.DictReader(io.StringIO(text.text))) == [
        {name: str(value) for name, value in record.items()} for record in records
    ]
    file = tmp_path / "answer.parquet"
    file.write_bytes(ask(server, by="page", format="parquet").content)
    assert rows_of(file) == records


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"by": "pge"}, "by"),
        ({"metrics": "visit"}, "metrics"),
        ({"filter": "page"}, "filter"),
        ({"filter": "day:is:1"}, "filter"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"last": "30d"}, "last"),
        ({"to": "2026-08-01"}, "to"),
        ({"order": "bounce_rate"}, "order"),
        ({"limit": "100000"}, "limit"),
        ({"by": "day,hour"}, "by"),
        ({"nonsense": "1"}, "nonsense"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_named(served: Served, options: dict[str, str], part: str) -> None:
    """400, and the parameter that is wrong."""
    answer = ask(served[0], **options)
    assert (answer.status_code, answer.json()["parameter"]) == (400, part)


def test_keys_see_what_they_may(served: Served, secrets: dict[str, str]) -> None:
    """The scope is needed; a key of one site sees that site alone."""
    server, _ = served
    assert ask(server, secrets["reader"]).json()["totals"]["events"] >= 200
    assert ask(server, secrets["other"]).json()["totals"]["events"] == 0
    assert ask(server, secrets["other"], site="default").status_code == 404
    assert ask(server, secrets["wrong"]).status_code == 403
    assert ask(server, site="nowhere").status_code == 404
    assert server.http.get(f"{REPORTS}/everything").status_code == 404


def test_the_sums_check_notices_a_wrong_sum() -> None:
    """The negative control of the sums that every comparison with the truth checks."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from lastseen.reports.asking import Reports
    from lastseen.reports.question import ask_for
    from lastseen.stores.columnar.duckdb import DuckDBCopy
    from lastseen.stores.memory.visits import MemoryVisits

    reports = Reports(MemoryVisits(), lambda: DuckDBCopy(None))
    answer = reports.ask(ask_for("visits", by="day"), now=datetime(2026, 4, 1, tzinfo=UTC))
    check_sums(answer)
    with pytest.raises(AssertionError):
        check_sums(replace(answer, totals=(1,)))
    reports.close()
