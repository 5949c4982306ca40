"""A copy that follows its database: on a thread, through errors, and to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from lastseen import LastSeen
from lastseen.errors import InvalidCursor, StoreUnavailable
from lastseen.reports.answer import Answer
from lastseen.reports.asking import Copied, Reports
from lastseen.reports.copy import CopyBroken, Figures
from lastseen.reports.following import FOLLOW_WITHIN, LONGEST_PAUSE, UNWATCHED_PAUSE, WATCHED_FOR, pause_after
from lastseen.reports.period import Period
from lastseen.reports.question import Question, ask_for
from lastseen.stores import Store
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.testing import ManualClock
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes
from tests.reports.equal import assert_equal
from tests.reports.plain import check, truth_of
from tests.server.running import eventually
from tests.stores.test_columnar import simple

NOW = datetime(2026, 6, 30, tzinfo=UTC)
QUESTION = ask_for("visits", "events", by="day", since=datetime(2026, 5, 1, tzinfo=UTC), until=NOW)


def events_in(reports: Reports) -> object:
    """Ask how many events there are."""
    return reports.ask(QUESTION, now=NOW).totals[1]


class Flaky(MemoryVisits):
    """A store that is away as long as it is told to be; the rest of it is real."""

    is_away = False
    asked = 0

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("the database is away")
        return super().changes(position, limit)


def test_a_follower_keeps_up_by_itself() -> None:
    """What is saved later is in the answers, without anybody copying it."""
    store = MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None))
    reports.follow()
    reports.follow()
    for first in (0, 50):
        store.save(simple(50, first=first), lambda _: VisitRule())
        eventually(lambda wanted=first + 50: events_in(reports) == wanted, "the copy follows")  # type: ignore[misc]
    reports.close()
    reports.close()


class Restored(MemoryVisits):
    """A store that refuses the positions of before, and has a question asked while everything is copied anew."""

    ask: Callable[[], Answer] | None = None
    answers: Sequence[Answer] = ()

    def changes(self, position: str = "", limit: int = 10_000) -> Changes:
        if self.ask is not None:
            if position:
                raise InvalidCursor("of another epoch")
            ask, self.ask = self.ask, None
            self.answers = [ask()]
        return super().changes(position, limit)


def test_an_answer_says_that_everything_is_copied_anew() -> None:
    """A copy of another database is thrown away: who asks meanwhile is told that not all is there."""
    store = Restored()
    store.save(simple(5), lambda _: VisitRule())
    reports = Reports(store, lambda: DuckDBCopy(None))
    reports.follow()
    eventually(lambda: reports.ask(QUESTION, now=NOW).is_complete, "the first copy is complete")
    store.ask = lambda: reports.ask(QUESTION, now=NOW)
    eventually(lambda: store.answers, "the copy is made anew")
    assert [(answer.totals[1], answer.is_complete) for answer in store.answers] == [(0, False)]
    eventually(lambda: reports.ask(QUESTION, now=NOW).is_complete, "the next copy is complete")
    assert events_in(reports) == 5
    reports.close()


def test_reports_that_were_closed_open_nothing(tmp_path: Path) -> None:
    """Who asks for the first time at the end of a process leaves no copy open; the negative control asks before."""
    file = tmp_path / "copy.duckdb"
    reports = Reports(MemoryVisits(), lambda: DuckDBCopy(file))
    reports.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        events_in(reports)
    assert not file.exists()
    reports = Reports(MemoryVisits(), lambda: DuckDBCopy(file))
    assert events_in(reports) == 0
    reports.close()
    assert file.exists()


@pytest.mark.parametrize("worked", [0.0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5])
def test_a_follower_is_at_most_two_seconds_behind(worked: float) -> None:
    """The rest of a batch, the pause and the next batch together; the negative control is the longest pause always."""
    assert pause_after(worked) + 2 * worked <= FOLLOW_WITHIN
    assert 2 * 0.5 + LONGEST_PAUSE > FOLLOW_WITHIN


class Paced(ManualClock):
    """A clock whose pauses end when a test says so, or when somebody wakes who pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.steps = threading.Semaphore(0)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(round(seconds, 3))
        while not self.steps.acquire(timeout=0.002):
            if event.is_set():
                return True
        return event.is_set()

    def go_on(self) -> None:
        """End a pause, and wait for the next one."""
        before = len(self.pauses)
        self.steps.release()
        eventually(lambda: len(self.pauses) > before, "the next pause")


def test_a_follower_waits_the_less_the_longer_a_batch_took() -> None:
    """While somebody asks; and never without end, nor not at all."""
    clock = Paced()

    class Slow(MemoryVisits):
        slowness = 0.0

        def changes(self, position: str = "", limit: int = 10_000) -> Changes:
            clock.advance(self.slowness)
            return super().changes(position, limit)

    store = Slow()
    reports = Reports(store, lambda: DuckDBCopy(None), clock=clock)
    reports.follow()
    eventually(lambda: clock.pauses, "the first pause")
    assert events_in(reports) == 0
    for store.slowness in (0.1, 0.2, 0.3, 0.4):
        clock.go_on()
    reports.close()
    assert clock.pauses[-4:] == [1.6, 1.4, 1.1, 1.0]


def test_while_nobody_asks_the_copy_follows_seldom() -> None:
    """A question ends that for a minute."""
    clock = Paced()
    reports = Reports(MemoryVisits(), lambda: DuckDBCopy(None), clock=clock)
    reports.follow()
    eventually(lambda: clock.pauses, "the first pause")
    clock.go_on()
    assert clock.pauses == [UNWATCHED_PAUSE] * 2
    assert events_in(reports) == 0
    eventually(lambda: len(clock.pauses) == 3, "the question wakes it")
    clock.advance(WATCHED_FOR - 1)
    clock.go_on()
    clock.advance(1)
    clock.go_on()
    reports.close()
    assert clock.pauses[2:] == [LONGEST_PAUSE] * 2 + [UNWATCHED_PAUSE]


def test_the_first_question_after_a_while_waits_for_the_copy() -> None:
    """What was saved before it is in the answer; the next one, just after, takes the copy as it is."""
    clock, store = Paced(), MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None), clock=clock)
    reports.follow()
    eventually(lambda: clock.pauses, "the first pause")
    store.save(simple(10), lambda _: VisitRule())
    assert events_in(reports) == 10
    store.save(simple(10, first=50), lambda _: VisitRule())
    assert events_in(reports) == 10
    reports.close()


def test_a_question_gets_an_old_answer_when_the_database_is_away() -> None:
    """It waits for one attempt, not for the database."""
    clock, store = Paced(), Flaky()
    store.save(simple(10), lambda _: VisitRule())
    reports = Reports(store, lambda: DuckDBCopy(None), clock=clock)
    reports.follow()
    eventually(lambda: clock.pauses, "the first pause")
    store.is_away = True
    assert events_in(reports) == 10
    assert store.asked > 1
    reports.close()


def test_a_question_does_not_wait_for_a_follower_that_ends() -> None:
    """Which reads nothing more."""
    clock, store = Paced(), Flaky()
    reports = Reports(store, lambda: DuckDBCopy(None), clock=clock)
    reports.follow()
    eventually(lambda: clock.pauses, "the first pause")
    asked = store.asked
    reports.end()
    assert events_in(reports) == 0
    assert store.asked == asked
    reports.close()


def test_a_follower_outlives_a_database_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once, goes on asking, and is up to date when the database returns."""
    store = Flaky()
    reports = Reports(store, lambda: DuckDBCopy(None))
    reports.follow()
    eventually(lambda: events_in(reports) == 0, "the first look")
    store.is_away = True
    with caplog.at_level(logging.WARNING, "lastseen.reports"):
        asked = store.asked
        eventually(lambda: store.asked > asked + 2, "it asks again and again")
    assert len([record for record in caplog.records if "is away" in record.message]) == 1
    store.save(simple(10), lambda _: VisitRule())
    store.is_away = False
    eventually(lambda: events_in(reports) == 10, "the copy follows again")
    reports.close()


def test_a_position_that_the_database_does_not_know_begins_anew() -> None:
    """As after the database was replaced: the copy is made again and is equal."""
    store, copy = MemoryVisits(), DuckDBCopy(None)
    store.save(simple(20), lambda _: VisitRule())
    copy.apply(Changes(position="of another database", events=simple(3, first=100)))
    reports = Reports(store, lambda: copy)
    assert events_in(reports) == 20
    assert_equal(copy, store)
    reports.close()


def test_a_copy_that_breaks_under_a_question_is_made_again() -> None:
    """The answer comes all the same."""

    class Breaking(DuckDBCopy):
        breaks = 1

        def count(
            self, question: Question, period: Period, *, keys: Sequence[tuple[Any, ...]] | None = None
        ) -> Figures:
            if self.breaks:
                self.breaks -= 1
                raise CopyBroken("a block cannot be read")
            return super().count(question, period, keys=keys)

    store, copy = MemoryVisits(), Breaking(None)
    store.save(simple(20), lambda _: VisitRule())
    reports = Reports(store, lambda: copy)
    assert events_in(reports) == 20
    reports.close()


def test_a_rebuild_shows_its_progress_and_changes_no_answer() -> None:
    """Figures rise to what there is, and the last one says that it is complete."""
    store, copy = MemoryVisits(), DuckDBCopy(None)
    store.save(simple(30), lambda _: VisitRule())
    reports = Reports(store, lambda: copy)
    before = reports.ask(QUESTION, now=NOW)
    seen: list[Copied] = []
    done = reports.rebuild(seen.append)
    assert seen[-1] == done
    assert (done.events, done.is_complete) == (30, True)
    after = reports.ask(QUESTION, now=NOW)
    assert (after.rows, after.totals) == (before.rows, before.totals)
    reports.close()


def test_closing_breaks_off_a_batch(tmp_path: Path) -> None:
    """A stop does not wait for a long building; what was begun is taken back as a whole."""
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    began = threading.Event()
    failed: list[BaseException] = []

    def build() -> None:
        try:
            with copy._transaction() as connection:
                connection.execute("CREATE TABLE half AS SELECT 1")
                began.set()
                connection.execute("SELECT count(*) FROM range(100_000_000_000) AS a(n) WHERE hash(n) = 1").fetchall()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    assert began.wait(30)

    def is_over() -> bool:
        copy.interrupt()
        return not thread.is_alive()

    eventually(is_over, "the statement ends")
    copy.close()
    assert failed
    again = DuckDBCopy(tmp_path / "copy.duckdb")
    with again._connection.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == [(0,)]
    again.close()


@pytest.fixture(params=["sqlite", "postgres"])
def seen_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/truth.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


def test_answers_over_a_database(seen_store: str, tmp_path: Path) -> None:
    """On SQLite and on PostgreSQL, through `LastSeen`, with the copy in a file that a second opening goes on with."""
    question = replace(QUESTION, since=date(2026, 5, 1), until=date(2026, 7, 1))

    def opened() -> LastSeen:
        return LastSeen.open(seen_store, migrate=True, data_folder=tmp_path)

    with opened() as seen:
        save(seen.store, 0)
        check(seen.reports.ask(question, now=NOW), truth_of(seen.store.visits))
    assert list(tmp_path.glob("reports-*.duckdb"))
    with opened() as seen:
        save(seen.store, 60)
        check(seen.reports.ask(question, now=NOW), truth_of(seen.store.visits))


def save(store: Store, first: int) -> None:
    """Save sixty page views."""
    store.visits.save(simple(60, first=first), lambda _: VisitRule())
