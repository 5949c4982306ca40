"""Events of a SQLite file are found by their ids and their visitors wherever they are: indexed, or waiting for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lastseen.errors import InvalidData
from lastseen.stores import Store, open_store
from lastseen.stores.memory import MemoryVisits
from lastseen.stores.sqlite import event_index
from lastseen.stores.sqlite.visit_reading import FIND_EVENT
from lastseen.stores.sqlite.visits import SQLiteVisits
from lastseen.stores.visit_batch import PreparedBatch, prepare
from lastseen.testing import moment
from lastseen.testing.streams import SITE, batches, event, folded, stream
from lastseen.testing.visit_copies import RULE, save, stored
from lastseen.visits.event import Event
from lastseen.visits.store import EventQuery, VisitStore

COUNTS = """
SELECT (SELECT count(*) FROM lastseen_events), (SELECT count(*) FROM lastseen_event_ids),
    (SELECT count(*) FROM lastseen_event_moments),
    (SELECT count(*) FROM lastseen_events WHERE seq > (SELECT indexed FROM lastseen_visit_counter))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def file(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    yield store
    store.close()


def _counts(path: Path) -> tuple[int, ...]:
    """Return how many events there are, how many of them are in each of the two tables, and how many wait."""
    with sqlite3.connect(path) as connection:
        found: tuple[int, ...] = connection.execute(COUNTS).fetchone()
    connection.close()
    return found


def _clicks(first: int, last: int, site_id: str = SITE) -> list[Event]:
    return [event(f"e{number:05}", f"v{number % 7}", at=number, site_id=site_id) for number in range(first, last)]


def _answers(visits: VisitStore, events: Iterable[Event]) -> list[Any]:
    """Return what a store says to every question that looks for events by their ids or by their visitors."""
    answers: list[Any] = [list(visits.visitor_ids(SITE)), stored(visits)]
    answers += [visits.get(SITE, each.id) for each in events]
    for visitor_id in visits.visitor_ids(SITE):
        everything = list(visits.list_events(EventQuery(site_id=SITE, distinct_id=visitor_id, limit=1_000)))
        middle = everything[len(everything) // 2].order if everything else None
        queries = [
            EventQuery(site_id=SITE, distinct_id=visitor_id, limit=3),
            EventQuery(site_id=SITE, distinct_id=visitor_id, limit=3, after=middle),
            EventQuery(site_id=SITE, distinct_id=visitor_id, limit=1_000, name="$pageview"),
            EventQuery(
                site_id=SITE,
                distinct_id=visitor_id,
                limit=1_000,
                happened_from=moment(minutes=5),
                happened_before=moment(hours=3),
            ),
        ]
        answers.append(everything)
        answers += [(list(visits.list_events(query)), visits.count_events(query)) for query in queries]
        answers.append(list(visits.events_of_visitors(SITE, [visitor_id])[visitor_id]))
        answers += [
            list(visits.events_of(visit)) for visit in visits.visits_of_visitors(SITE, [visitor_id])[visitor_id]
        ]
    return answers


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("most", [0, 20, 10_000])
def test_every_question_finds_what_waits(file: Store, monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
    """However many wait, the answers are those of memory: also in the midst of late events, links and copies."""
    monkeypatch.setattr(event_index, "MOST_WAITING", most)
    events, model = stream(seed + 300, 150), MemoryVisits()
    for number, batch in enumerate(batches(seed, events, most=8)):
        assert save(file.visits, *batch).new == save(model, *batch).new
        if number % 9 == 0:
            assert _answers(file.visits, events[::5]) == _answers(model, events[::5])
    assert _answers(file.visits, events) == _answers(model, events)
    assert stored(file.visits) == folded(events, RULE)


def test_an_event_counts_once_while_it_waits_and_later(file: Store, path: Path) -> None:
    """By its site and its id together; whether this store saved it, or another one."""
    assert save(file.visits, *_clicks(0, 30)).new == 30
    assert _counts(path) == (30, 0, 0, 30)
    assert save(file.visits, *_clicks(20, 40), *_clicks(35, 45)).new == 15
    assert save(file.visits, *_clicks(0, 5, "other"), *_clicks(40, 46)).new == 6
    other = open_store(f"sqlite:///{path}")
    assert save(other.visits, *_clicks(0, 50), *_clicks(3, 6, "other")).new == 5
    assert _counts(path) == (56, 51, 51, 5)
    assert save(file.visits, *_clicks(40, 51), *_clicks(0, 7, "other")).new == 2
    assert _counts(path) == (58, 56, 56, 2)
    other.close()


def test_many_that_wait_go_in_together(file: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as more than so many wait; a single transaction may bring more."""
    monkeypatch.setattr(event_index, "MOST_WAITING", 50)
    save(file.visits, *_clicks(0, 25))
    save(file.visits, *_clicks(25, 50))
    assert _counts(path) == (50, 0, 0, 50)
    save(file.visits, *_clicks(50, 51))
    assert _counts(path) == (51, 51, 51, 0)
    save(file.visits, *_clicks(51, 150))
    assert _counts(path) == (150, 150, 150, 0)
    assert save(file.visits, *_clicks(0, 151)).new == 1


def test_a_late_event_lets_in_what_waits(file: Store, path: Path) -> None:
    """Its visitor is folded again from all events, those of the same transaction too."""
    save(file.visits, *_clicks(0, 20))
    save(file.visits, event("late", "v3", at=3.5), *_clicks(20, 25))
    assert _counts(path) == (26, 26, 26, 0)
    assert stored(file.visits) == folded([*_clicks(0, 25), event("late", "v3", at=3.5)], RULE)


def test_what_was_taken_back_is_known_to_nobody(file: Store, path: Path) -> None:
    """After a transaction that failed its events are new, and those before it are not."""
    save(file.visits, *_clicks(0, 5))
    with pytest.raises(InvalidData):
        save(file.visits, *_clicks(5, 9), event("bad", "v\ud800", at=9))
    assert save(file.visits, *_clicks(0, 9)).new == 4
    assert _counts(path) == (9, 5, 5, 4)


def test_prepared_batches_come_after_what_waits(file: Store, path: Path) -> None:
    """Some of their events may wait already, or be there for long; what comes next finds theirs."""
    save(file.visits, *_clicks(0, 10))
    for first, last, new in [(5, 30, 20), (25, 40, 10), (25, 40, 0), (40, 45, 5)]:
        batch = prepare(_clicks(first, last), RULE)
        assert isinstance(batch, PreparedBatch)
        assert file.visits.save(batch, lambda _site: RULE).new == new
        assert _counts(path) == (last, last, last, 0)
    assert save(file.visits, *_clicks(5, 47)).new == 2
    assert stored(file.visits) == folded(_clicks(0, 47), RULE)


def test_an_event_that_somebody_removes_is_found_no_more(file: Store, path: Path) -> None:
    """Whether it waited or not; it may come again."""
    save(file.visits, *_clicks(0, 10))
    other = open_store(f"sqlite:///{path}")
    save(other.visits, *_clicks(10, 20))
    other.close()
    with sqlite3.connect(path) as owner:
        owner.execute("DELETE FROM lastseen_events WHERE id IN ('e00003', 'e00017')")
    owner.close()
    assert _counts(path) == (18, 9, 9, 9)
    assert file.visits.count_events(EventQuery(site_id=SITE, distinct_id="v3")) == 1
    assert save(file.visits, *_clicks(0, 20)).new == 2


def test_what_a_slow_thread_knew_is_not_believed(file: Store, path: Path) -> None:
    """Another transaction let in what waited, and added nothing, before it gave back what it knew at its commit."""
    visits = file.visits
    assert isinstance(visits, SQLiteVisits)
    save(visits, *_clicks(0, 10))
    known = visits._memory._take()
    assert known is not None
    assert save(visits, *_clicks(0, 10)).new == 0
    assert _counts(path) == (10, 10, 10, 0)
    visits._memory.keep(known)
    assert save(visits, *_clicks(5, 15)).new == 5
    save(visits, event("late", "v3", at=3.5))
    assert _counts(path) == (16, 16, 16, 0)
    assert stored(visits) == folded([*_clicks(0, 15), event("late", "v3", at=3.5)], RULE)


@pytest.mark.parametrize("hinted", [True, False], ids=["as it is", "control without the hint"])
def test_only_events_that_wait_are_gone_through(file: Store, path: Path, *, hinted: bool) -> None:
    """Not the whole site by its moments, which SQLite would choose by itself."""
    save(file.visits, *_clicks(0, 3))
    statement = FIND_EVENT if hinted else FIND_EVENT.replace("NOT INDEXED", "")
    with sqlite3.connect(path) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (SITE, "e1"))]
    connection.close()
    assert ("SEARCH e USING INTEGER PRIMARY KEY (rowid>?)" in plan) is hinted
