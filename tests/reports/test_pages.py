"""Reports by page take short cuts through the events; they must lead to the same place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen.reports.asking import Reports
from lastseen.reports.question import Filter, Operator, Question
from lastseen.reports.terms import Dimension, Metric
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from tests.reports.material import histories
from tests.reports.plain import check, truth_of

NOW = datetime(2026, 4, 1, tzinfo=UTC)
PAGE = Dimension("page")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(),
    filters=st.lists(
        st.sampled_from([Filter(PAGE, Operator.IS_NOT, ("/a",)), Filter(Dimension("country"), Operator.KNOWN)]),
        max_size=1,
    ),
)
def test_reports_by_page_equal_a_slow_loop(history: Sequence[Event], filters: Sequence[Filter]) -> None:
    """With and without what needs the visits themselves, alone and by day, with and without filters."""
    store = MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None, threads=1))
    store.save(history, lambda _: VisitRule())
    truth = truth_of(store)
    for metrics in ((Metric.VISITORS, Metric.VISITS, Metric.PAGE_VIEWS), (Metric.VISITORS, Metric.BOUNCE_RATE)):
        for by in ((PAGE,), (Dimension("day"), PAGE), (PAGE, Dimension("os"))):
            question = Question(
                metrics=metrics, by=by, filters=tuple(filters), since=date(2026, 3, 28), until=date(2026, 3, 30)
            )
            check(reports.ask(question, now=NOW), truth)
    reports.close()
