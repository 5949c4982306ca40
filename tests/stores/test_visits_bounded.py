"""What SQLite reads to answer grows with what is asked for, though a visit that goes on is written into no index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lastseen.stores import Store, open_store
from lastseen.stores.sqlite import visit_feed
from lastseen.testing import moment
from lastseen.testing.streams import SITE, event, folded
from lastseen.testing.visit_copies import RULE, Replica, save, stored
from lastseen.visits.store import VisitOrder, VisitQuery
from lastseen.visits.visit import Visit

DAY = 86_400


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/visits.db")
    store.migrate()
    yield store
    store.close()


def _steps(file: Any, ask: Callable[[], object]) -> int:
    """Return how many steps SQLite's machine takes for a question."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with file.visits._database.read() as connection:
        connection.set_progress_handler(step, 1)
        ask()
        connection.set_progress_handler(None, 1)
    return steps


@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "all lists"])
def test_a_copy_that_is_far_behind_reads_a_little_each_time(
    file: Store, monkeypatch: pytest.MonkeyPatch, *, bounded: bool
) -> None:
    """One visitor, a transaction for each event: nearly all that was written of the visit has been written again."""
    if not bounded:
        monkeypatch.setattr(visit_feed, "_last_to_read", lambda *_: 2**63 - 1)
    events = [event(f"{number:03}", at=number) for number in range(300)]
    for each in events:
        save(file.visits, each)
    replica, most = Replica(), 0
    while True:
        before = len(replica.events)
        most = max(most, _steps(file, lambda: replica.follow(file.visits, limit=10)))
        assert len(replica.events) - before <= 10
        if file.visits.changes(replica.position, 10).is_complete:
            break
    replica.catch_up(file.visits)
    assert replica.visits_by_visitor() == stored(file.visits) == folded(events, RULE)
    assert (most < 1_500) is bounded


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "without the index"])
@pytest.mark.parametrize("paged", [False, True], ids=["first page", "later page"])
def test_who_is_active_now_is_found_without_reading_all(file: Any, *, indexed: bool, paged: bool) -> None:
    """The latest ten of two thousand visits of ten days; a page further on as well."""
    save(file.visits, *(event(f"{number:04}", f"visitor-{number}", at=number * DAY / 200) for number in range(2_000)))
    if not indexed:
        with file.visits._database.write() as connection:
            connection.execute("DROP INDEX lastseen_visits_active")
    after = (file.visits.get(SITE, "1000").last_activity, "1000") if paged else None
    query = VisitQuery(site_id=SITE, order=VisitOrder.LAST_ACTIVE, after=after, limit=10)
    found: list[str] = []
    steps = _steps(file, lambda: found.extend(visit.id for visit in file.visits.list_visits(query)))
    newest = 1_000 if paged else 2_000
    assert found == [f"{number:04}" for number in range(newest - 1, newest - 11, -1)]
    assert (steps < 1_500) is indexed
    since = VisitQuery(site_id=SITE, active_since=moment() + timedelta(days=9.9))
    counted: list[int] = []
    steps = _steps(file, lambda: counted.append(file.visits.count_visits(since)))
    assert counted == [20]
    assert (steps < 1_500) is indexed


def test_the_last_activity_is_ordered_within_and_across_ten_minutes(file: Store) -> None:
    """Visits that went on are where their last activity is, before 1970 too; pages miss none and repeat none."""
    moments = [-2e9, -2e9 + 599, -1_767_268_800.5, -1_767_268_800, 0, 1, 599.9, 600, 601, 1_199, 1_200]
    for number, at in enumerate(moments):
        save(file.visits, event(f"{number:02}", f"visitor-{number}", at=at))
    for number, at in enumerate(moments):
        if number % 3:
            save(
                file.visits,
                event(f"{number:02}-later", f"visitor-{number}", at=at + 700 * (number % 3) - 0.001 * number),
            )
    wanted = sorted(
        (visit for visits in stored(file.visits).values() for visit in visits),
        key=lambda visit: (visit.last_activity, visit.id),
        reverse=True,
    )
    found: list[Visit] = []
    after = None
    while True:
        query = VisitQuery(site_id=SITE, order=VisitOrder.LAST_ACTIVE, after=after, limit=2)
        page = file.visits.list_visits(query)
        if not page:
            break
        found += page
        after = (page[-1].last_activity, page[-1].id)
    assert found == wanted
    for visit in wanted:
        since = VisitQuery(site_id=SITE, active_since=visit.last_activity_at)
        assert file.visits.count_visits(since) == sum(each.last_activity >= visit.last_activity for each in wanted)
