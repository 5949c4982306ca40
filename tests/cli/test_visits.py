"""`lastseen visits list`, `show` and `count`, and what the doctor says of visits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen import LastSeen
from lastseen.cli.rebuild import keep_rule
from lastseen.errors import ConfigurationError
from lastseen.testing import ManualClock
from lastseen.visits.rule import VisitRule
from lastseen.visits.sites import CACHED_FOR
from tests.cli import logs
from tests.cli.conftest import Command, write
from tests.servers import ask


def line(minute: int, path: str, referrer: str = "-", agent: str = "Firefox/128", address: str = "203.0.113.7") -> str:
    clock = f"{10 + minute // 60}:{minute % 60:02}"
    return f'{address} - - [01/Mar/2026:{clock}:00 +0000] "GET {path} HTTP/1.1" 200 9 "{referrer}" "{agent}"\n'


LOG = [
    line(0, "/", "https://news.example.net/today"),
    line(5, "/a?utm_source=mail&utm_medium=email&secret=1"),
    line(10, "/b", "https://search.example.com/?q=x"),
    line(80, "/c"),
    line(3, "/robots", agent="Googlebot/2.1", address="203.0.113.9"),
]


@pytest.fixture
def imported(call: Command, database: str, alone: Path) -> str:
    """Return the address of a database with four visits."""
    done = call("import", "log", write(alone / "log", LOG), "--host", "example.org", "--database", database)
    assert done.code == 0, done.err
    return database


def test_listing(call: Command, imported: str) -> None:
    """The newest first, each with where it came from and why it began, with what was compared."""
    done = call("visits", "list", "--database", imported)
    rows = done.out.splitlines()
    assert rows[0].split() == ["VISIT", "STARTED", "DURATION", "PAGES", "FROM", "BECAUSE", "ENTRY"]
    assert len(rows) == 5
    assert "timeout: 1h 10m → 30m" in rows[1]
    assert "referrer: example.net → example.com" in rows[2]
    assert "Direct (bot)" in rows[3]
    assert rows[4].split()[2:4] == ["0:05:00", "2"]
    assert rows[4].endswith("https://example.org/")


def test_filters(call: Command, imported: str) -> None:
    """By robots, people, reason, visitor and address; the JSON has everything."""

    def starts(*options: str) -> list[str]:
        listed = call("visits", "list", *options, "--json", "--database", imported).document["visits"]
        return [visit["started_at"][11:16] for visit in listed]

    assert starts() == ["11:20", "10:10", "10:03", "10:00"]
    assert starts("--order", "oldest") == ["10:00", "10:03", "10:10", "11:20"]
    assert starts("--bots") == ["10:03"]
    assert starts("--people") == ["11:20", "10:10", "10:00"]
    assert starts("--reason", "referrer") == ["10:10"]
    assert starts("--url", "/robots") == ["10:03"]
    assert starts("--within", "1m") == []
    document = call("visits", "list", "--json", "--database", imported).document["visits"][0]
    assert starts("--visitor", document["visitor_id"]) == ["11:20", "10:10", "10:00"]
    assert document["$session_page_views"] == 1
    assert "no visits" in call("visits", "list", "--within", "1m", "--database", imported).err


def test_pages(call: Command, imported: str) -> None:
    """A cursor goes on where the page ended, and belongs to its order; all is all."""
    first = call("visits", "list", "--limit", "3", "--json", "--database", imported).document
    second = call(
        "visits", "list", "--limit", "3", "--cursor", first["next_cursor"], "--json", "--database", imported
    ).document
    assert (len(first["visits"]), len(second["visits"]), second["next_cursor"]) == (3, 1, None)
    everything = call("visits", "list", "--limit", "1", "--all", "--json", "--database", imported).document["visits"]
    assert everything == first["visits"] + second["visits"]
    wrong = call("visits", "list", "--order", "oldest", "--cursor", first["next_cursor"], "--database", imported)
    assert (wrong.code, "cursor" in wrong.err) == (2, True)
    for absurd in (f"newest:{'9' * 5000}:x", "newest:x:x", "newest:1:"):
        refused = call("visits", "list", "--cursor", absurd, "--database", imported)
        assert (refused.code, "cursor" in refused.err) == (2, True), absurd[:20]


def test_one_visit(call: Command, imported: str) -> None:
    """Its story, with every event; found by the id of any event in it, and cut of what is private."""
    visit = call("visits", "list", "--order", "oldest", "--json", "--database", imported).document["visits"][0]
    shown = call("visits", "show", visit["id"], "--database", imported)
    for part in ("first", "referrer: example.net → example.com", "Referral", "$pageview", "0:05:00"):
        assert part in shown.out
    assert "secret" not in shown.out
    document = call("visits", "show", visit["id"], "--json", "--database", imported).document
    assert [event["url"] for event in document["events"]] == [
        "https://example.org/",
        "https://example.org/a?utm_source=mail&utm_medium=email",
    ]
    by_event = call("visits", "show", document["events"][1]["id"], "--json", "--database", imported).document
    assert by_event == document


def test_no_such_visit(call: Command, imported: str) -> None:
    """Exit code 1 and one line; the same for a site that is not there."""
    done = call("visits", "show", "nothing", "--database", imported)
    assert (done.code, done.out) == (1, "")
    assert "has no visit nothing" in done.err
    assert call("visits", "count", "--site", "elsewhere", "--database", imported).code == 1


def test_counting(call: Command, imported: str) -> None:
    """All, robots, people; also of one reason."""
    assert call("visits", "count", "--database", imported, "--json").document == {"all": 4, "bots": 1, "people": 3}
    of_one = call("visits", "count", "--reason", "timeout", "--database", imported, "--json").document
    assert of_one == {"all": 1, "bots": 0, "people": 1}
    printed = call("visits", "count", "--database", imported).out
    assert [row.split() for row in printed.splitlines()[1:]] == [["all", "4"], ["bots", "1"], ["people", "3"]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE lastseen_visits SET body = replace(body, '\"page_views\":2', '\"page_views\":3')", "page_views is 3"),
        ("DELETE FROM lastseen_visits WHERE start_reason = 'timeout'", "is missing"),
    ],
    ids=["falsified", "deleted"],
)
def test_the_doctor_finds_drift(call: Command, alone: Path, change: str, complaint: str) -> None:
    """A visit that is not what its events make is found and named, and a rebuild heals it."""
    database = f"sqlite:///{alone}/lastseen.db"
    call("import", "log", write(alone / "log", LOG), "--host", "example.org", "--database", database)
    assert call("doctor", "--database", database).code == 0
    connection = sqlite3.connect(alone / "lastseen.db")
    assert connection.execute(change).rowcount
    connection.commit()
    connection.close()
    done = call("doctor", "--database", database)
    assert done.code == 1
    assert complaint in done.out
    assert "run: lastseen visits rebuild --site default" in done.out
    assert call("visits", "rebuild", "--no-server", "--database", database).code == 0
    assert call("doctor", "--database", database).code == 0


def test_the_doctor_finds_drift_in_postgres(call: Command, postgres_url: str, alone: Path) -> None:
    """The same there: a visit that is gone is missed."""
    call("import", "log", write(alone / "log", LOG), "--host", "example.org", "--database", postgres_url)
    assert call("doctor", "--database", postgres_url).code == 0
    ask(postgres_url, "DELETE FROM lastseen_visits WHERE start_reason = 'timeout' RETURNING id")
    assert "is missing" in call("doctor", "--database", postgres_url).out


def test_a_rebuild_shows_first_and_changes_then(call: Command, imported: str) -> None:
    """The dry run shows the difference and changes nothing; the real one gives exactly that, and keeps the rule."""
    options = ("--timeout", "2h", "--no-referrer-change", "--database", imported, "--json")
    dry = call("visits", "rebuild", "--dry-run", *options).document
    assert (dry["now"]["visits"], dry["then"]["visits"], dry["applied"]) == (4, 2, False)
    assert dry["now"]["reasons"] == {"first": 2, "referrer": 1, "timeout": 1}
    assert call("visits", "count", "--database", imported, "--json").document["all"] == 4
    done = call("visits", "rebuild", "--no-server", *options).document
    assert (done["then"], done["applied"], done["changed_visitors"]) == (dry["then"], True, 1)
    assert call("visits", "count", "--database", imported, "--json").document["all"] == 2
    with LastSeen.open(imported) as seen:
        assert seen.sites.get("default").rule.timeout.total_seconds() == 7_200
    assert call("doctor", "--database", imported).code == 0
    back = call("visits", "rebuild", "--timeout", "30m", "--referrer-change", "--no-server", *options[3:]).document
    assert back["then"] == dry["now"]


def test_a_rebuild_prints_a_table(call: Command, imported: str) -> None:
    """For people: the settings that change, what was, what will be, and the difference."""
    done = call("visits", "rebuild", "--timeout", "2h", "--dry-run", "--database", imported)
    assert "timeout: 30m → 2h" in done.out
    rows = [row.split() for row in done.out.splitlines()]
    assert ["visits", "4", "3", "-1"] in rows
    assert ["begun:", "timeout", "1", "0", "-1"] in rows
    assert ["page", "views", "5", "5", "+0"] in rows
    assert done.out.endswith("nothing was changed\n")


def test_a_rebuild_that_was_interrupted_is_finished(call: Command, imported: str) -> None:
    """When the rule is kept and the visits are those of the old one, doctor says so; running it again heals."""
    with LastSeen.open(imported) as seen:
        site = seen.sites.get("default")
        seen.sites.change(site.id, rule=replace(site.rule, new_visit_on_referrer_change=False))
    assert call("doctor", "--database", imported).code == 1
    assert call("visits", "rebuild", "--no-server", "--database", imported).code == 0
    assert call("doctor", "--database", imported).code == 0
    assert len(logs.visits_in(imported)) == 3


OTHER = VisitRule(timeout=timedelta(hours=3))


class QuickClock(ManualClock):
    """Passes by itself whatever is waited for, and lets something happen meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.advance(seconds)
        self._meanwhile()
        return event.is_set()


@pytest.mark.parametrize("rule", [VisitRule(), OTHER], ids=["the rule that it has", "another"])
def test_a_rebuild_waits_until_servers_know_the_rule(imported: str, rule: VisitRule) -> None:
    """Also where it has the rule already: it may have been changed just before, in another process."""
    clock = QuickClock()
    with LastSeen.open(imported) as seen:
        keep_rule(seen.sites, seen.sites.get("default"), rule, clock.monotonic(), clock)
        assert clock.monotonic() > CACHED_FOR.total_seconds()
        assert seen.sites.get("default").rule == rule


def test_a_rule_that_is_changed_during_the_wait_is_found(imported: str) -> None:
    """Nothing may be folded by the one that was shown."""
    with LastSeen.open(imported) as seen:
        clock = QuickClock(lambda: seen.sites.change("default", rule=VisitRule()))
        with pytest.raises(ConfigurationError, match="run it again"):
            keep_rule(seen.sites, seen.sites.get("default"), OTHER, 0.0, clock)
        assert seen.sites.get("default").rule == VisitRule()


def test_a_rebuild_waits_no_longer_than_it_must(imported: str) -> None:
    """What reading took is over already, and where no server runs none is waited for."""
    clock = QuickClock()
    with LastSeen.open(imported) as seen:
        known = seen.sites.get("default")
        clock.advance(60)
        keep_rule(seen.sites, known, known.rule, 0.0, clock)
        keep_rule(seen.sites, known, OTHER, None, clock)
        assert clock.monotonic() == 60
        assert seen.sites.get("default").rule == OTHER


@pytest.mark.parametrize("rule", [VisitRule(), VisitRule(new_visit_on_utm_change=False)], ids=["same", "another"])
def test_a_rule_that_is_changed_meanwhile_is_not_overwritten(imported: str, rule: VisitRule) -> None:
    """Somebody else changes it while the difference is shown: nothing is kept, and who asked is told."""
    with LastSeen.open(imported) as seen:
        known = seen.sites.get("default")
        seen.sites.change("default", rule=OTHER)
        with pytest.raises(ConfigurationError, match="run it again"):
            keep_rule(seen.sites, known, rule, None)
        assert seen.sites.get("default").rule == OTHER


def test_a_rule_that_cannot_be(call: Command, imported: str) -> None:
    """A timeout of nothing is refused before anything happens."""
    done = call("visits", "rebuild", "--timeout", "0s", "--database", imported)
    assert done.code == 2
    assert "timeout" in done.err
