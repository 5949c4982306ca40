"""What a server does beside answering."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen import LastSeen
from lastseen.errors import StoreUnavailable
from lastseen.server.chores import HOUR, MINUTE, Chores
from lastseen.testing import ManualClock
from lastseen.visits.visit import EndReason
from tests.server.running import ServerProcess, eventually


def test_each_chore_has_its_own_rhythm() -> None:
    """At once, and then again after its own span."""
    clock, done = ManualClock(), []
    chores = Chores(clock)
    chores.add("often", lambda: done.append("often"), MINUTE)
    chores.add("seldom", lambda: done.append("seldom"), HOUR)
    for _ in range(61):
        chores.turn()
        clock.advance(60)
    assert (done.count("often"), done.count("seldom")) == (61, 2)


def test_the_first_turn_comes_after_a_span() -> None:
    """What a server does beside answering does not hold up its first answers; without a span it is at once."""
    clock, done = ManualClock(), threading.Event()
    chores = Chores(clock, after=timedelta(seconds=30))
    chores.add("following", done.set, HOUR)
    chores.start()
    eventually(lambda: clock.waiting, "the thread waits")
    clock.advance(29)
    assert not done.wait(0.05)
    clock.advance(1)
    assert done.wait(30)
    chores.close()


def test_an_end_before_the_first_turn_is_not_waited_for() -> None:
    """A server that stops at once begins none of it."""
    done: list[str] = []
    chores = Chores(ManualClock(), after=HOUR)
    chores.add("following", lambda: done.append("following"), HOUR)
    chores.start()
    chores.close()
    assert done == []


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError("a defect")], ids=["store", "defect"])
def test_a_chore_that_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """The others have their turn all the same."""
    clock, done, failing = ManualClock(), [], [error]
    chores = Chores(clock)

    def fail_once() -> None:
        if failing:
            raise failing.pop()
        done.append("at last")

    chores.add("mending", fail_once, MINUTE)
    chores.add("other", lambda: done.append("other"), MINUTE)
    with caplog.at_level(logging.WARNING):
        chores.turn()
    assert "mending failed and will be tried again" in caplog.text
    clock.advance(60)
    chores.turn()
    assert done == ["other", "at last", "other"]


def test_a_long_chore_breaks_off_at_the_end() -> None:
    """A server that has much to do ends when it is told to, not when it is done."""
    begun = threading.Event()
    chores = Chores()

    def work() -> None:
        begun.set()
        eventually(chores.is_ending, "the end")

    chores.add("long", work, HOUR)
    chores.start()
    assert begun.wait(30)
    assert not chores.is_ending()
    chores.close()


def test_visits_end_until_the_server_does(tmp_path: Path) -> None:
    """After an import there may be very many: between any two times it can stop, the rest is ended another time."""
    with LastSeen.open(f"sqlite:///{tmp_path}/a.db", migrate=True, clock=ManualClock(1_700_000_000)) as seen:
        for number in range(5):
            seen.visits.get_or_create(f"v{number}")
    with LastSeen.open(f"sqlite:///{tmp_path}/a.db", clock=ManualClock(1_800_000_000)) as seen:
        answers = iter([False, False, True])
        assert seen.visits.cleanup(limit=1, stopping=lambda: next(answers)) == 2
        assert seen.visits.cleanup() == 3


def test_after_the_end_nothing_is_begun() -> None:
    """Neither by the thread nor by hand; ending twice, or what never began, is no error."""
    done: list[str] = []
    chores = Chores(ManualClock())
    chores.add("late", lambda: done.append("late"), timedelta(seconds=1))
    chores.close()
    chores.close()
    chores.turn()
    assert done == []


def test_a_server_ends_visits_whose_time_is_over(tmp_path: Path) -> None:
    """What timed out while no server ran is ended by the next one, in the database itself."""
    database = f"sqlite:///{tmp_path}/long-ago.db"
    with LastSeen.open(database, migrate=True, clock=ManualClock(1_700_000_000)) as seen:
        visit = seen.visits.get_or_create("gone")
        assert visit.end is None
        with ServerProcess(tmp_path, database):
            eventually(lambda: seen.visits.get(visit.id) != visit, "the end of the visit")
        ended = seen.visits.get(visit.id)
        assert ended is not None
        assert ended.end_reason is EndReason.TIMEOUT
        assert ended.ended_at == visit.last_activity_at
