"""Whatever happened and whatever is asked: the copy answers as a slow loop over the truth does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen.reports.asking import Reports
from lastseen.reports.question import Question
from lastseen.reports.text import read_question
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event, Geo
from lastseen.visits.rule import VisitRule
from tests.reports.equal import rows
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


@pytest.mark.parametrize("condition", ["property:plan:is_not:pro", "property:plan:known", "event:is:$pageview"])
def test_a_visit_counts_once_for_each_page_where_something_passes(condition: str) -> None:
    """Whether the first event on the page passes, only later ones, several of them, or none; a page may be unknown."""
    plans: dict[str | None, list[str | None]] = {
        "https://e.org/all": ["free", None, "free"],
        "https://e.org/later": ["pro", "free", None, "free"],
        "https://e.org/none": ["pro", "pro"],
        None: ["free", "pro", "free"],
    }
    happened = [(url, plan) for url, each in plans.items() for plan in each]
    store = MemoryVisits()
    store.save(
        [
            Event(
                id=f"e{number:02}", site_id="default", distinct_id="ann", name="buy" if number == 3 else "$pageview",
                at=1_774_000_000_000_000 + number, received_at=0, url=url,
                properties={} if plan is None else {"plan": plan},
            )
            for number, (url, plan) in enumerate(happened)
        ],
        lambda _: RULE,
    )  # fmt: skip
    reports = Reports(store, lambda: DuckDBCopy(None, threads=1))
    asked = read_question(
        "visits",
        metrics=["visits", "visitors"],
        by=["page"],
        filters=[condition],
        since="2026-03-01",
        until="2026-04-01",
    )
    answer = reports.ask(asked, now=NOW)
    check(answer, truth_of(store))
    assert {row.figures[0] for row in answer.rows} == {1}
    assert len(answer.rows) >= 3
    reports.close()


@pytest.mark.parametrize("condition", ["page:is:/b", "page:is_not:/a", "page:unknown", "page:none_of:/a|/b"])
def test_a_visit_counts_once_whichever_of_its_pages_passes(condition: str) -> None:
    """The first one, a later one, both, or none; a visit may have no page, or no page view."""
    pages: dict[str, list[str | None]] = {
        "ann": ["a", "b"], "bob": ["b", "a"], "cy": ["a", "a"], "dee": [None], "eve": ["c", "b"], "fay": ["b", None],
        "gus": ["a"],
    }  # fmt: skip
    store = MemoryVisits()
    store.save(
        [
            Event(
                id=f"{visitor}-{number}", site_id="default", distinct_id=visitor,
                name="buy" if visitor == "gus" else "$pageview",
                at=1_774_000_000_000_000 + number, received_at=0, url=page and f"https://e.org/{page}",
            )
            for visitor, seen in pages.items()
            for number, page in enumerate(seen)
        ],
        lambda _: RULE,
    )  # fmt: skip
    reports = Reports(store, lambda: DuckDBCopy(None, threads=1))
    asked = read_question("visits", metrics=["visits"], filters=[condition], since="2026-03-01", until="2026-04-01")
    answer = reports.ask(asked, now=NOW)
    check(answer, truth_of(store))
    assert 1 <= int(answer.totals[0] or 0) < len(pages)
    reports.close()


@pytest.mark.parametrize("by", [["page"], ["page", "country"], ["event"], ["country"]])
@pytest.mark.parametrize(
    "conditions",
    [
        ["country:is_not:FR"],
        ["country:is:DE"],
        ["property:plan:is_not:pro"],
        ["property:plan:is:free"],
        ["country:is_not:FR", "property:plan:is_not:pro"],
        ["country:is:DE", "property:plan:is_not:pro"],
        ["event:is_not:buy", "page:is_not:/b"],
    ],
)
def test_a_visitor_counts_once_whichever_visit_passes(conditions: Sequence[str], by: Sequence[str]) -> None:
    """The first visit to a page, a later one, one that is not settled, or several of them, with any of their events."""
    # Of each visit: the hour, the country, and of each event the page and the plan.
    visits: dict[str, list[tuple[int, str, str]]] = {
        "ann": [(0, "FR", "a:pro"), (5, "DE", "a:free"), (10, "DE", "a:free a:pro")],
        "bob": [(0, "FR", "a:free"), (9, "FR", "a:pro")],
        "cy": [(1, "DE", "a:pro a:free b:free"), (7, "FR", "a:free b:pro")],
        "dee": [(2, "FR", "a:pro"), (30, "DE", "a:free")],
        "eve": [(3, "DE", "b:pro b:pro b:free"), (8, "FR", "b:free"), (30, "DE", "a:pro b:free b:pro")],
        "fay": [(30, "DE", "a:free"), (-90, "DE", "a:free b:free")],
        "gus": [(-80, "FR", "a:pro"), (4, "FR", "a:free a:pro"), (6, "DE", "a:pro a:free")],
    }
    events = [
        Event(
            id=f"{visitor}{hour}-{number}", site_id="default", distinct_id=visitor,
            name="buy" if number % 2 else "$pageview", at=1_774_000_000_000_000 + hour * 3_600_000_000 + number,
            received_at=0, url=f"https://e.org/{event[0]}", properties={"plan": event[2:]}, geo=Geo(country=country),
        )
        for visitor, each in visits.items()
        for hour, country, text in each
        for number, event in enumerate(text.split())
    ]  # fmt: skip
    store, copy = MemoryVisits(), DuckDBCopy(None, threads=1)
    store.save(events, lambda _: RULE)
    reports = Reports(store, lambda: copy)
    asked = read_question(
        "visits", metrics=["visitors", "visits", "page_views"], by=by, filters=conditions, since="2026-03-19",
        until="2026-04-01",
    )  # fmt: skip
    answer = reports.ask(asked, now=NOW)
    check(answer, truth_of(store))
    assert answer.rows
    assert rows(copy, "SELECT count(*) FROM visits GROUP BY is_settled ORDER BY ALL") == [(3,), (14,)]
    reports.close()
