"""What the panels of the overview list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lastseen import LastSeen
from lastseen.clock import to_micros
from lastseen.reports.question import MAX_FILTERS
from lastseen.server.pages.visits.panels import Panel, panel_of, panel_question
from lastseen.server.pages.visits.view import PANEL_CHOICES, View
from lastseen.visits.event import PAGEVIEW, Event
from lastseen.visits.rule import VisitRule

PAGES = list(PANEL_CHOICES).index("page")


@pytest.fixture
def seen() -> Iterator[LastSeen]:
    """Yield a store in which two pages were viewed, and other events happened there, elsewhere, and nowhere."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    happened = [
        (PAGEVIEW, "https://s.test/a"),
        (PAGEVIEW, "https://s.test/b"),
        (PAGEVIEW, "https://s.test/a"),
        ("signed up", "https://s.test/b"),
        ("paid", "https://s.test/till"),
        ("renewed", None),
    ]
    events = [
        Event(
            id=f"e{number}",
            site_id="default",
            distinct_id="ann",
            name=name,
            at=to_micros(now) + number,
            received_at=to_micros(now) + number,
            url=url,
        )
        for number, (name, url) in enumerate(happened)
    ]
    with LastSeen.open("memory:") as seen:
        seen.store.visits.save(events, lambda _site: VisitRule())
        yield seen


def pages(seen: LastSeen, query: list[tuple[str, str]]) -> Panel:
    view = View.of(query)
    return panel_of(view, PAGES, seen.reports.ask(panel_question(view, view.shown[PAGES])))


def rows(panel: Panel) -> list[tuple[str, int]]:
    return [(row.label, row.value) for row in panel.rows]


def test_pages_are_those_that_were_viewed(seen: LastSeen) -> None:
    """An event that names no address, or one of no page view, is no page with nothing; the files say the same."""
    panel = pages(seen, [])
    assert (panel.metric, rows(panel)) == ("Page views", [("/a", 2), ("/b", 1)])
    assert all("filter=event%3Ais%3A%24pageview" in address for _, address in panel.exports), panel.exports


def test_a_page_view_without_an_address_is_listed_as_one(seen: LastSeen) -> None:
    """It was viewed, and nothing about it is unknown: it is on no page."""
    at = to_micros(datetime.now(UTC))
    event = Event(id="x", site_id="default", distinct_id="ann", name=PAGEVIEW, at=at, received_at=at)
    seen.store.visits.save([event], lambda _site: VisitRule())
    assert rows(pages(seen, [])) == [("/a", 2), ("/b", 1), ("No address", 1)]


def test_pages_of_certain_events_count_these(seen: LastSeen) -> None:
    """Page views are not what was asked for."""
    panel = pages(seen, [("filter", "event:is:paid")])
    assert (panel.metric, rows(panel)) == ("Events", [("/till", 1)])
    assert rows(pages(seen, [("filter", "event:is:renewed")])) == [("No address", 1)]


def test_as_many_filters_as_there_may_be_leave_the_panel(seen: LastSeen) -> None:
    """There is no room for another one."""
    panel = pages(seen, [("filter", "country:unknown")] * MAX_FILTERS)
    assert rows(panel)[:2] == [("/a", 2), ("/b", 1)]
