"""`lastseen import log`: a real log, in any order, at once, and interrupted, gives the same visits."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from lastseen.errors import StoreError
from tests.cli import logs
from tests.cli.conftest import LASTSEEN, Command, write
from tests.cli.logs import LOG, TIME_ONLY

ROBOT = '203.0.113.9 - - [01/Mar/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 9 "-" "Googlebot/2.1"'
PERSON = '203.0.113.7 - ann [01/Mar/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 9 "-" "Firefox/128"'


@pytest.fixture
def time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neither referrers nor campaigns begin visits."""
    for name, value in TIME_ONLY.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("time_only")
def test_the_whole_log(call: Command, database: str) -> None:
    """All lines but the broken one are events, exact repeats too; they make the visits that were counted by others."""
    done = call("import", "log", "--all-requests", LOG, "--database", database, "--json")
    assert done.code == 0, done.err
    assert (done.document["lines"], done.document["events"]) == (logs.LINES, logs.EVENTS)
    assert (done.document["new_events"], done.document["visits"]) == (logs.EVENTS, logs.VISITS)
    assert done.document["bad_lines"] == 1
    assert done.document["first_bad_lines"][0]["line"] == logs.BAD_LINE
    assert f"{LOG}:{logs.BAD_LINE}: no line of an access log" in done.err
    assert call("visits", "count", "--database", database, "--json").document["all"] == logs.VISITS
    doctor = call("doctor", "--database", database)
    assert doctor.code == 0, doctor.out
    assert "3,223 visits are what 9,999 events fold into" in doctor.out
    again = call("import", "log", "--all-requests", LOG, "--database", database, "--json")
    assert (again.document["events"], again.document["new_events"]) == (logs.EVENTS, 0)
    assert again.document["visits"] == logs.VISITS


@pytest.mark.usefixtures("time_only")
def test_page_views_of_people(call: Command, alone: Path) -> None:
    """Page views alone, without what says itself that it is a robot; robots are there, and marked."""
    database = f"sqlite:///{alone}/lastseen.db"
    done = call("import", "log", "--bots", "declared", LOG, "--database", database, "--json")
    assert done.document["events"] == logs.PAGE_VIEWS
    counts = call("visits", "count", "--database", database, "--json").document
    assert counts["people"] == logs.PEOPLES_VISITS
    assert counts["all"] == counts["people"] + counts["bots"] == done.document["visits"]
    people = [visit for visit in logs.visits_in(database) if not visit.is_bot]
    assert sum(visit.page_views for visit in people) == logs.PEOPLES_PAGE_VIEWS


def test_what_is_known_to_be_a_robot_is_marked_too(call: Command, alone: Path) -> None:
    """By default libraries and feed readers that do not say so are no people either."""
    database = f"sqlite:///{alone}/lastseen.db"
    call("import", "log", LOG, "--database", database, "--host", "semicomplete.com")
    counts = call("visits", "count", "--database", database, "--json").document
    assert 1_000 < counts["people"] < logs.PEOPLES_VISITS
    page_views = sum(visit.page_views for visit in logs.visits_in(database))
    assert page_views == logs.PAGE_VIEWS


@pytest.mark.usefixtures("time_only")
def test_every_further_visit_names_its_reason(call: Command, alone: Path) -> None:
    """With the changes of referrer and campaign considered there are more visits, and each says what changed."""
    database = f"sqlite:///{alone}/lastseen.db"
    call("import", "log", "--all-requests", LOG, "--host", "semicomplete.com", "--database", database)
    before = {visit.id: visit for visit in logs.visits_in(database)}
    done = call("visits", "rebuild", "--referrer-change", "--utm-change", "--no-server", "--database", database)
    assert done.code == 0, done.err
    after = logs.visits_in(database)
    further = [visit for visit in after if visit.id not in before]
    assert len(before) == logs.VISITS
    assert len(further) == len(after) - len(before) > 0
    for visit in further:
        assert visit.start_reason in ("referrer", "campaign")
        evidence = visit.start_evidence
        assert evidence is not None
        assert evidence.before != evidence.after
        assert "semicomplete.com" not in (evidence.before, evidence.after)
    kept = Counter(visit.start_reason for visit in after if visit.id in before)
    assert kept == Counter(visit.start_reason for visit in before.values())


def test_two_databases_have_the_same_visits(call: Command, alone: Path) -> None:
    """Also where changes of the referrer begin visits, and lines of one second have no order but that of their ids.

    Those hang on a secret of the site, which each database has drawn for itself.
    """
    found, ids = [], []
    for name in ("one", "other"):
        database = f"sqlite:///{alone}/{name}.db"
        call("import", "log", "--all-requests", LOG, "--host", "semicomplete.com", "--database", database)
        visits = logs.visits_in(database)
        found.append(sorted((each.start, each.entry_url, each.start_reason, each.event_count) for each in visits))
        ids.append({each.id for each in visits})
    assert found[0] == found[1]
    assert not ids[0] & ids[1]
    assert len(found[0]) > logs.VISITS


def orders(tmp_path: Path, call: Command, seeds: range) -> None:
    expected = None
    # The site's secret is drawn once: ids come from it.
    call("import", "log", write(tmp_path / "nothing", ""), "--database", f"sqlite:///{tmp_path}/empty.db")
    for seed in seeds:
        database = f"sqlite:///{shutil.copy(tmp_path / 'empty.db', tmp_path / f'order{seed}.db')}"
        file = logs.shuffled(tmp_path / f"log{seed}", seed) if seed else LOG
        done = call("import", "log", "--all-requests", file, "--batch", 1_000, "--database", database, "--json")
        assert (done.document["events"], done.document["visits"]) == (logs.EVENTS, logs.VISITS)
        found = logs.visits_in(database)
        expected = expected or found
        assert found == expected
        assert call("doctor", "--database", database).code == 0


@pytest.mark.usefixtures("time_only")
def test_the_order_does_not_matter(call: Command, alone: Path) -> None:
    """The log in its own order and in two others, in several transactions."""
    orders(alone, call, range(3))


@pytest.mark.faults
@pytest.mark.usefixtures("time_only")
def test_twenty_orders(call: Command, alone: Path) -> None:
    """The log in its own order and in twenty others."""
    orders(alone, call, range(21))


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command: list[str | Path] = [LASTSEEN, "import", "log", "--all-requests", *arguments]
    environment = {**os.environ, **TIME_ONLY}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def three_at_once(call: Command, database: str, alone: Path, batch: int) -> None:
    files = [logs.shuffled(alone / f"log{seed}", seed) for seed in range(3)]
    running = [start(file, "--batch", str(batch), "--json", "--database", database) for file in files]
    for process in running:
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints.decode()
    assert logs.count_events(database) == logs.EVENTS
    assert len(logs.visits_in(database)) == logs.VISITS
    assert call("doctor", "--database", database).code == 0


def test_three_at_once(call: Command, alone: Path) -> None:
    """Three processes import the log at the same time, each in an order of its own: every event once, no drift."""
    three_at_once(call, f"sqlite:///{alone}/lastseen.db", alone, 5_000)


@pytest.mark.faults
def test_three_at_once_in_small_batches(call: Command, database: str, alone: Path) -> None:
    """The same with many transactions, on either database."""
    three_at_once(call, database, alone, 500)


def kill_and_resume(call: Command, folder: Path, kills: int, seed: int, most: int = logs.EVENTS) -> None:
    """Kill an import after some further events each time, fewer than `most`, and let the last one end."""
    database, random = f"sqlite:///{folder}/killed.db", Random(seed)
    file = logs.shuffled(folder / "log", seed)
    killed_halfway = 0
    for _ in range(kills):
        enough = events_so_far(database) + random.randrange(most)
        process = start(file, "--batch", "1", "--database", database)
        while process.poll() is None and events_so_far(database) < enough:
            wait_a_moment(process)
        process.kill()
        process.communicate()
        killed_halfway += 0 < events_so_far(database) < logs.EVENTS
        if events_so_far(database) == logs.EVENTS:
            Path(f"{folder}/killed.db").unlink()
            for ending in ("-wal", "-shm"):
                Path(f"{folder}/killed.db{ending}").unlink(missing_ok=True)
    assert killed_halfway
    process = start(file, "--json", "--database", database)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert logs.count_events(database) == logs.EVENTS
    assert len(logs.visits_in(database)) == logs.VISITS
    assert call("doctor", "--database", database).code == 0
    repeated = call("import", "log", "--all-requests", LOG, "--database", database, "--json")
    assert repeated.document["new_events"] == 0


def wait_a_moment(process: subprocess.Popen[bytes]) -> None:
    """Wait for the process to end, for a hundredth of a second."""
    try:
        process.wait(timeout=0.01)
    except subprocess.TimeoutExpired:
        return


def events_so_far(database: str) -> int:
    """Return how many events there are; none while there is no database."""
    if not Path(database.removeprefix("sqlite:///")).exists():
        return 0
    try:
        return logs.count_events(database)
    except StoreError:
        return 0


@pytest.mark.usefixtures("time_only")
def test_killed_and_resumed(call: Command, alone: Path) -> None:
    """Killed twice at random places and started again, an import gives the visits of one that was left alone."""
    kill_and_resume(call, alone, 2, 7, most=1_000)


@pytest.mark.faults
@pytest.mark.usefixtures("time_only")
def test_killed_fifty_times(call: Command, alone: Path) -> None:
    """The same with fifty."""
    kill_and_resume(call, alone, 50, 11)


def test_robots_and_people(call: Command, database: str, alone: Path) -> None:
    """Robots are marked and counted apart; the user's name and the address are not kept."""
    write(alone / "log", f"{ROBOT}\n{PERSON}\n")
    done = call("import", "log", alone / "log", "--database", database, "--json")
    assert done.code == 0, done.err
    assert call("visits", "count", "--database", database, "--json").document == {"all": 2, "bots": 1, "people": 1}
    listed = call("visits", "list", "--people", "--database", database, "--json").out
    assert "203.0.113" not in listed


def test_compressed_and_piped(process: Command, alone: Path) -> None:
    """Gzip is recognized, `-` is standard input, and the same lines are the same events from wherever they come."""
    database = f"sqlite:///{alone}/lastseen.db"
    write(alone / "log.gz", gzip.compress(f"{ROBOT}\n{PERSON}".encode()))
    first = process("import", "log", alone / "log.gz", "--database", database, "--json")
    assert (first.code, first.document["new_events"]) == (0, 2)
    second = process("import", "log", "-", "--database", database, "--json", stdin=f"{PERSON}\r\n\n{ROBOT}\n".encode())
    assert (second.document["events"], second.document["new_events"]) == (2, 0)


def test_a_log_that_is_cut_short(call: Command, alone: Path) -> None:
    """What came before the damage is imported, and the exit code tells."""
    moments = (f"10:{minute:02}:{second:02}" for minute in range(20) for second in range(60))
    whole = gzip.compress("".join(f"{PERSON.replace('10:00:00', moment)}\n" for moment in moments).encode())
    write(alone / "log.gz", whole[: len(whole) // 2])
    done = call("import", "log", alone / "log.gz", "--database", f"sqlite:///{alone}/lastseen.db", "--json")
    assert done.code == 1
    assert 400 < done.document["new_events"] < 1_200
    assert "cut short" in done.document["unreadable_files"][0]["reason"]


COMMON = '203.0.113.7 - - [01/Mar/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 3437'
JSON_LINE = '{"ts":1772355605,"remote_addr":"203.0.113.7","method":"GET","uri":"/","status":200}'


def test_half_a_line_is_told(call: Command, alone: Path) -> None:
    """As a bad one, with what to do; what is quoted to its end is whole, and so is an empty end."""
    database, log = f"sqlite:///{alone}/lastseen.db", alone / "log"
    write(log, f"{PERSON}\n{COMMON[:-1]}")
    done = call("import", "log", log, "--database", database, "--json").document
    assert (done["events"], done["bad_lines"]) == (1, 1)
    assert done["first_bad_lines"][0]["line"] == 2
    assert "import it again" in done["first_bad_lines"][0]["reason"]
    for whole in (f"{PERSON}\n{PERSON}", PERSON, f"{COMMON}\n{JSON_LINE}", f"{COMMON}\n ", f"{COMMON}\r\n"):
        write(log, whole)
        assert call("import", "log", log, "--database", database, "--json").document["bad_lines"] == 0


def test_nothing_but_bad_lines(call: Command, alone: Path) -> None:
    """Each is numbered, and the exit code is 1; ten are shown and the rest is counted."""
    write(alone / "log", "nonsense\n" * 15)
    done = call("import", "log", alone / "log", "--database", f"sqlite:///{alone}/lastseen.db", "--json")
    assert (done.code, done.document["bad_lines"], len(done.document["first_bad_lines"])) == (1, 15, 10)
    assert "further bad lines are only counted" in done.err


def test_an_unknown_site(call: Command, alone: Path) -> None:
    """It must exist: a mistyped name makes no site."""
    write(alone / "log", PERSON)
    done = call("import", "log", alone / "log", "--site", "nowhere", "--database", f"sqlite:///{alone}/lastseen.db")
    assert done.code == 1
    assert "there is no such site" in done.err


def test_a_log_without_a_host(call: Command, alone: Path) -> None:
    """Its own pages would count as referrers, which is said; with a host they do not."""
    inside = PERSON.replace('"-" "Firefox', '"https://www.example.org/b" "Firefox')
    write(alone / "log", inside)
    first = f"sqlite:///{alone}/first.db"
    assert "name it with --host" in call("import", "log", alone / "log", "--database", first).err
    assert logs.visits_in(first)[0].referrer_domain == "example.org"
    second = f"sqlite:///{alone}/second.db"
    done = call("import", "log", alone / "log", "--host", "example.org", "--database", second)
    assert done.err == ""
    visit = logs.visits_in(second)[0]
    assert (visit.referrer_domain, visit.landing_page, visit.channel) == (None, "https://example.org/a", "Direct")


def test_places(call: Command, alone: Path) -> None:
    """With a geography file, visits have a place."""
    geography = LOG.parent / "GeoIP2-City-Test.mmdb"
    write(alone / "log", PERSON.replace("203.0.113.7", "81.2.69.142"))
    database = f"sqlite:///{alone}/lastseen.db"
    done = call("import", "log", alone / "log", "--geo-database", geography, "--database", database)
    assert done.code == 0, done.err
    geo = logs.visits_in(database)[0].geo
    assert geo is not None
    assert geo.city == "London"


def test_a_geography_file_that_is_none(call: Command, alone: Path) -> None:
    """It is looked at before any line is read, and nothing is said of an import."""
    write(alone / "log", PERSON)
    done = call("import", "log", alone / "log", "--geo-database", alone / "log")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("lastseen: geo_database: cannot read")


def long_log(folder: Path, years: int) -> Path:
    """Write a log of so many times the lines of the real one, two of which other processes read."""
    lines = LOG.read_bytes()
    return write(
        folder / "log", b"".join(lines.replace(b"May/2015", f"May/20{year}".encode()) for year in range(10, 10 + years))
    )


def helpers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Wait until a process has started others to read for it, and return them."""
    while not (helpers := children_of(process.pid)) and process.poll() is None:
        wait_a_moment(process)
    return helpers


def test_a_long_log(alone: Path) -> None:
    """Other processes read and save it, each event once, and are gone in the end; nothing is left beside the file."""
    database = f"sqlite:///{alone}/lastseen.db"
    process = start(long_log(alone, 2), "--json", "--database", database)
    helpers = helpers_of(process)
    assert helpers
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints.decode()
    assert {path.name for path in alone.iterdir()} == {"log", "lastseen.db"}
    assert logs.count_events(database) == 2 * logs.EVENTS
    assert not any(is_running(helper) for helper in helpers)


@pytest.mark.faults
def test_helpers_end_with_the_one_that_was_killed(alone: Path) -> None:
    """When the first process is killed, those that read ahead for it end by themselves."""
    process = start(long_log(alone, 14), "--database", f"sqlite:///{alone}/lastseen.db")
    helpers = helpers_of(process)
    assert helpers
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(is_running(helper) for helper in helpers):
        assert time.monotonic() < deadline, "a helper is still there"
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def children_of(parent: int) -> list[int]:
    """Return the processes that a process has started to read for it."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split() if is_running(parent) else []
    return list(map(int, found))


def is_running(process: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
