"""A visit as a value: spans, the bounce, the names on the wire; and the texts of its evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lastseen.errors import ConfigurationError
from lastseen.visits.limits import REMEMBERED, evidence_of_silence, limits_of, span, span_beyond
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import Evidence, StartReason, Visit
from tests.visits.streams import HOUR, MINUTE, SECOND


def visit(**fields: Any) -> Visit:
    """Return a visit of ten minutes."""
    return replace(
        Visit(
            id="a",
            site_id="default",
            visitor_id="ann",
            distinct_id="ann",
            start=HOUR,
            last_activity=HOUR + 10 * MINUTE,
            last_event=(HOUR + 10 * MINUTE, "b"),
            start_reason=StartReason.FIRST,
        ),
        **fields,
    )


def test_it_lasts_until_its_end_or_its_last_activity() -> None:
    """Moments are aware and UTC; an open visit lasts until its last activity."""
    assert visit().started_at == datetime(1970, 1, 1, 1, tzinfo=UTC)
    assert visit().duration == timedelta(minutes=10)
    assert visit().is_active
    ended = visit(end=HOUR + 12 * MINUTE)
    assert (ended.duration, ended.is_active) == (timedelta(minutes=12), False)
    assert (visit().ended_at, ended.ended_at) == (None, datetime(1970, 1, 1, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("page_views", "engaged_ms", "expected"), [(0, 0, True), (1, 9_999, True), (1, 10_000, False), (2, 0, False)]
)
def test_a_bounce_is_one_page_for_less_than_ten_seconds(page_views: int, engaged_ms: int, expected: bool) -> None:
    """A second page or ten seconds of use make it none."""
    assert visit(page_views=page_views, engaged_ms=engaged_ms).is_bounce is expected


def test_its_properties_have_the_names_that_clients_know() -> None:
    """The duration is in seconds."""
    told = visit(page_views=2, entry_url="/", exit_page="/b", referrer="https://news.com/").properties()
    assert told == {
        "distinct_id": "ann",
        "$session_id": "a",
        "$session_duration": 600.0,
        "$session_page_views": 2,
        "$entry_url": "/",
        "$exit_url": "/b",
        "$referrer": "https://news.com/",
    }


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (1, "0.000001s"),
        (250_000, "0.25s"),
        (5 * SECOND, "5s"),
        (30 * MINUTE, "30m"),
        (31 * MINUTE + 5 * SECOND, "31m 5s"),
        (24 * HOUR, "24h"),
        (24 * HOUR + SECOND, "24h 1s"),
        (25 * HOUR + 3 * MINUTE + 9 * SECOND, "25h 3m"),
        (48 * HOUR, "2d"),
        (76 * HOUR + MINUTE, "3d 4h"),
    ],
)
def test_spans_are_written_in_their_two_greatest_parts(micros: int, text: str) -> None:
    """As a person would say them."""
    assert span(micros) == text


def test_a_span_beyond_a_limit_never_reads_like_the_limit() -> None:
    """What is cut off for brevity is added where it is what makes the difference."""
    assert span_beyond(31 * MINUTE, 30 * MINUTE, "30m") == "31m"
    assert span_beyond(30 * MINUTE + 500_000, 30 * MINUTE, "30m") == "30m and 0.5s"
    assert span_beyond(49 * HOUR + MINUTE, 49 * HOUR, "2d 1h") == "2d 1h and 1m"


@given(st.integers(1, 100 * HOUR), st.integers(0, 200 * HOUR), st.integers(0, SECOND))
def test_what_is_said_of_a_silence_is_the_same_whatever_was_said_before(
    timeout: int, minutes: int, micros: int
) -> None:
    """Silences that read alike share one text, and none that reads differently gets it."""
    limits = limits_of(VisitRule(timeout=timedelta(microseconds=timeout)))
    near = (timeout + 1, timeout + micros + 1, timeout + minutes + micros + 1)
    for silence in (*near, *(one - one % 60_000_000 + 59_999_999 for one in near)):
        expected = Evidence(before=span_beyond(silence, timeout, span(timeout)), after=span(timeout))
        assert evidence_of_silence(silence, limits) == expected
        assert evidence_of_silence(silence, limits) == expected


def test_texts_of_silences_are_remembered_up_to_a_bound() -> None:
    """Only those that are told in minutes or hours, and no more than some thousands of them."""
    limits = limits_of(VisitRule(timeout=timedelta(minutes=31)))
    assert evidence_of_silence(32 * MINUTE, limits) is not evidence_of_silence(32 * MINUTE, limits)
    assert evidence_of_silence(62 * MINUTE, limits) is evidence_of_silence(62 * MINUTE + SECOND, limits)
    for hours in range(48, 20_000):
        evidence_of_silence(hours * HOUR, limits)
    assert len(limits.silences) == REMEMBERED


def test_a_rule_needs_spans_and_is_compiled_once() -> None:
    """A timeout of nothing is a mistake; equal rules share what the fold needs of them."""
    with pytest.raises(ConfigurationError, match="timeout"):
        VisitRule(timeout=timedelta(0))
    with pytest.raises(ConfigurationError, match="max_duration"):
        VisitRule(max_duration=timedelta(seconds=-1))
    assert limits_of(VisitRule()) is limits_of(VisitRule())
    assert limits_of(VisitRule()).timeout == 1_800 * SECOND
    own = VisitRule(own_domains=frozenset({"a.com"}), excluded_referrers=frozenset({"b.com"}))
    assert limits_of(own).unknown_domains == {"a.com", "b.com"}
