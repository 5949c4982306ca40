"""Reports by page take short cuts through the events; they must lead to the same place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen.reports.asking import Reports
from lastseen.reports.question import Bots, Filter, Operator, Question
from lastseen.reports.terms import Dimension, Metric
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event, EventFlags, Geo
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


def page_view(number: int, minutes: int, country: str, flags: int = 0) -> Event:
    at = 1_774_699_200_000_000 + minutes * 60_000_000  # 2026-03-28 12:00 UTC
    return Event(
        id=f"e{number}",
        site_id="default",
        distinct_id="ann",
        name="$pageview",
        at=at,
        received_at=at,
        url="https://e.org/a",
        geo=Geo(country=country),
        flags=flags,
    )


def test_a_filter_that_leaves_out_the_first_visit_keeps_its_visitor() -> None:
    """The later of two visits to a page says that its visitor came before in the range; filtered, it counts alone."""
    store = MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None, quiet=0))
    store.save([page_view(1, 0, "US"), page_view(2, 300, "DE")], lambda _: VisitRule())

    def visitors(*filters: Filter) -> list[tuple[object, ...]]:
        question = Question(
            metrics=(Metric.VISITORS, Metric.VISITS),
            by=(PAGE,),
            filters=filters,
            since=date(2026, 3, 28),
            until=date(2026, 3, 30),
        )
        return [row.figures for row in reports.ask(question, now=NOW).rows]

    assert visitors() == [(1, 2)]
    assert visitors(Filter(Dimension("country"), Operator.IS, ("DE",))) == [(1, 1)]
    assert visitors(Filter(PAGE, Operator.IS, ("/a",))) == [(1, 2)]
    reports.close()


def test_a_visitor_who_is_a_bot_too_counts_once_with_bots() -> None:
    """And once among people, and once among bots, whichever of them came first."""
    store = MemoryVisits()
    reports = Reports(store, lambda: DuckDBCopy(None, quiet=0))
    flags = [0, EventFlags.BOT, 0]
    store.save([page_view(n, 300 * n, "US", flags=int(each)) for n, each in enumerate(flags)], lambda _: VisitRule())
    for bots, figures in ((Bots.WITH, (1, 3)), (Bots.WITHOUT, (1, 2)), (Bots.ONLY, (1, 1))):
        question = Question(
            metrics=(Metric.VISITORS, Metric.VISITS),
            by=(PAGE,),
            since=date(2026, 3, 28),
            until=date(2026, 3, 30),
            bots=bots,
        )
        assert [row.figures for row in reports.ask(question, now=NOW).rows] == [figures]
    reports.close()
