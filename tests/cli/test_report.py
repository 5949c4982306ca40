"""`lastseen report` over a real log."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from lastseen import LastSeen
from lastseen.reports.asking import Reports
from lastseen.reports.question import Filter, Operator, Question
from lastseen.reports.terms import DIMENSIONS, Dimension, Metric
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.columnar.opening import open_copy
from tests.cli.conftest import LASTSEEN, Command
from tests.cli.logs import LOG, PEOPLES_PAGE_VIEWS, PEOPLES_VISITS, TIME_ONLY
from tests.reports.plain import Truth, check, truth_of

MAY = ("--from", "2015-05-01", "--to", "2015-06-01")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Import the log by its times alone, and the robots that say so themselves as such."""
    folder = tmp_path_factory.mktemp("log")
    url = f"sqlite:///{folder}/log.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LASTSEEN_")}
    subprocess.run(
        [LASTSEEN, "import", "log", LOG, "--bots", "declared", "--host", "semicomplete.com", "--database", url],
        env={**environment, **TIME_ONLY, "HOME": str(folder)},
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return url


@pytest.fixture(scope="module")
def truth(database: str) -> Truth:
    """Read all of it."""
    with LastSeen.open(database) as seen:
        return truth_of(seen.store.visits)


@pytest.fixture(scope="module")
def reports(database: str) -> Iterator[Reports]:
    """Copy it into memory."""
    with LastSeen.open(database) as seen:
        reports = Reports(seen.store.visits, lambda: DuckDBCopy(None))
        yield reports
        reports.close()


def in_may(*by: str, **options: object) -> Question:
    """Return the question for all metrics of that month."""
    given = {"metrics": tuple(Metric), "limit": 5_000, "since": date(2015, 5, 1), "until": date(2015, 6, 1)}
    return Question(by=tuple(map(Dimension, by)), **{**given, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_report_of_a_real_log_equals_a_slow_loop(reports: Reports, truth: Truth, name: str) -> None:
    """Ten thousand real lines, every metric by every dimension; and the parts sum up where they must."""
    check(reports.ask(in_may(name, time_zone="Europe/Berlin"), now=NOW), truth)


def test_filters_over_a_real_log_equal_a_slow_loop(reports: Reports, truth: Truth) -> None:
    """Filters on visits and on their pages together."""
    filters = (
        Filter(Dimension("page"), Operator.CONTAINS, ("/blog",)),
        Filter(Dimension("browser"), Operator.IS_NOT, ("Chrome",)),
    )
    answer = reports.ask(in_may("source", filters=filters), now=NOW)
    assert answer.rows
    check(answer, truth)


def test_the_command_prints_the_known_figures(call: Command, database: str) -> None:
    """Visits and page views of people, as an independent script counted them."""
    done = call("report", "visits", "--metrics", "visits,page_views", *MAY, "--json", "--database", database)
    assert done.document["totals"] == {"visits": PEOPLES_VISITS, "page_views": PEOPLES_PAGE_VIEWS}


def test_a_table_for_people(call: Command, database: str) -> None:
    """Names, rows and a total."""
    done = call("report", "visits", "--by", "page", *MAY, "--limit", "3", "--database", database)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["PAGE", "VISITORS", "VISITS", "PAGE", "VIEWS", "BOUNCE", "RATE", "AVERAGE", "DURATION"]
    assert [line.split()[0] for line in lines[1:]][-1] == "total"
    assert len(lines) == 5
    assert "--limit" in done.err


def test_rows_as_csv_and_as_parquet(call: Command, database: str, tmp_path: Path) -> None:
    """The same rows in each form."""
    asked = ("report", "visits", "--by", "os", *MAY, "--compare", "previous", "--database", database)
    records = call(*asked, "--json").document["rows"]
    table = list(csv.DictReader(io.StringIO(call(*asked, "--csv").out)))
    assert [row["os"] for row in table] == [record["os"] or "" for record in records]
    file = tmp_path / "os.parquet"
    done = call(*asked, "--parquet", file)
    assert (done.code, done.out) == (0, "")
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM '{file}'")
        names = [column[0] for column in found.description or ()]
        assert [dict(zip(names, row, strict=True)) for row in found.fetchall()] == records


def test_dimensions_with_commas(call: Command, database: str) -> None:
    """The same as the option given twice, as HTTP and --metrics have it."""
    asked = ("report", "visits", *MAY, "--database", database, "--csv")
    assert call(*asked, "--by", "os,channel").out == call(*asked, "--by", "os", "--by", "channel").out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--by", "pge"), "did you mean page"),
        (("--metrics", "visit"), "did you mean visits"),
        (("--where", "country=DE"), "--where: 'country=DE' is no filter; write dimension:operator:value"),
        (("--last", "30"), "30d"),
        (("--time-zone", "Mars"), "--time-zone: 'Mars'"),
        (("--from", "2015-05-01"), "--to: is missing: from and to"),
        (("--site", "nowhere"), "no such site"),
        (("--csv", "--json"), "one of --json and --csv"),
        (("--by", "os", "--parquet", "/nowhere/os.parquet"), "cannot write /nowhere/os.parquet"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_named(call: Command, database: str, options: tuple[str, ...], named: str) -> None:
    """One line that says what is wrong, and an exit code that is not 0."""
    done = call("report", "visits", *options, "--database", database)
    assert done.code != 0
    assert done.out == ""
    assert named in done.err


@contextmanager
def _owned(folder: Path, database: str) -> Iterator[None]:
    """Let another process have the copy open."""
    script = (
        "import sys; from pathlib import Path; from lastseen.stores.columnar.opening import open_copy; "
        "copy = open_copy(Path(sys.argv[1]), sys.argv[2], ''); print('open', flush=True); sys.stdin.read()"
    )
    with LastSeen.open(database) as seen:
        address = seen.store.address
    command: list[str | Path] = [LASTSEEN.with_name("python"), "-c", script, str(folder), address]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == "open\n"
        yield
        owner.stdin.close()


def test_beside_a_server_the_command_has_a_copy_of_its_own(call: Command, database: str, tmp_path: Path) -> None:
    """The answer is the same, the next time nothing is copied again, and the server's copy stays as it was."""
    asked = ("report", "visits", "--metrics", "visits", *MAY, "--json", "--database", database)
    with _owned(tmp_path, database), LastSeen.open(database, data_folder=tmp_path) as seen:
        done = call(*asked, "--data-folder", tmp_path)
        assert json.loads(done.out)["totals"] == {"visits": PEOPLES_VISITS}
        copied = seen.reports.catch_up()
        assert (copied.events, copied.visits, copied.is_complete) == (0, 0, True)
    copy = open_copy(tmp_path, seen.store.address, "")
    assert copy.position() == ""
    copy.close()


def test_a_time_without_visits(call: Command, database: str, tmp_path: Path) -> None:
    """Whoever asks in the wrong time is told when there was something; programs are told nothing beside the answer."""
    asked = ("report", "visits", "--last", "7d", "--database", database)
    assert "the newest visit of the site began 2015-05-20T21:05:" in call(*asked).err
    assert "--from" in call(*asked).err
    assert call(*asked, "--json").err == ""
    assert call("report", "visits", *MAY, "--database", database).err == ""
    empty = f"sqlite:///{tmp_path}/empty.db"
    call("migrate", "--database", empty)
    with LastSeen.open(empty, migrate=True):
        pass
    assert "the site has no visits" in call("report", "visits", "--database", empty).err
