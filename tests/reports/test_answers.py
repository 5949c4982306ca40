"""Whatever happened and whatever is asked: the copy answers as a slow loop over the truth does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen.reports.asking import Reports
from lastseen.reports.question import Question
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from tests.reports.material import histories, questions, questions_by_page
from tests.reports.plain import check, truth_of

NOW = datetime(2026, 4, 1, tzinfo=UTC)
RULE = VisitRule()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(),
    asked=st.lists(questions() | questions_by_page(), min_size=1, max_size=4),
    first=st.integers(0, 40),
    settle_from=st.sampled_from([0, 5, 1_000]),
)
def test_every_report_equals_a_slow_loop_over_the_truth(
    history: Sequence[Event], asked: Sequence[Question], first: int, settle_from: int
) -> None:
    """Random events and questions: same rows, totals, comparison, order and limit, whichever visits are settled."""
    store = MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None, threads=1, settle_from=settle_from))
    store.save(history[:first], lambda _: RULE)
    reports.catch_up()
    store.save(history[first:], lambda _: RULE)
    truth = truth_of(store)
    for question in asked:
        check(reports.ask(question, now=NOW), truth)
    reports.close()
