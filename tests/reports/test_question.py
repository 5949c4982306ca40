"""Questions check themselves at birth; ranges follow the calendar; texts mean what they say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.errors import ConfigurationError
from lastseen.reports.period import Compare, bucket_label
from lastseen.reports.question import Filter, Operator, Question, ask_for
from lastseen.reports.terms import Dimension, InvalidQuestion, Metric, TimeBucket, adds_up
from lastseen.reports.text import read_filter, read_question, read_span, write_filter
from tests.reports.material import filters

NOW = datetime(2026, 3, 29, 15, 30, tzinfo=UTC)


def may(**options: Any) -> Question:
    """Ask for visits in May, in Berlin."""
    given = {"since": date(2026, 5, 1), "until": date(2026, 6, 1), "time_zone": "Europe/Berlin"}
    return ask_for("visits", **{**given, **options})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"by": "planet"}, "by"),
        ({"by": ["day", "week"]}, "by"),
        ({"by": ["os", "os"]}, "by"),
        ({"by": ["os", "page", "city", "country"]}, "by"),
        ({"by": "property:"}, "by"),
        ({"time_zone": "Berlin"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"until": None}, "to"),
        ({"since": None}, "from"),
        ({"until": date(2026, 5, 1)}, "to"),
        ({"since": date(1492, 1, 1)}, "from"),
        ({"last": timedelta(days=3)}, "last"),
        ({"limit": 0}, "limit"),
        ({"offset": -1}, "offset"),
        ({"site": "No Site"}, "site"),
        ({"filters": (Filter(Dimension("os"), Operator.KNOWN),) * 21}, "filter"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_names_its_part(options: dict[str, Any], part: str) -> None:
    """An `InvalidQuestion`, which is a `ConfigurationError` and a `ValueError`."""
    with pytest.raises(InvalidQuestion) as caught:
        may(**options)
    assert caught.value.part == part
    assert isinstance(caught.value, ConfigurationError)
    assert str(caught.value).startswith(part)


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        (Operator.IS, ()),
        (Operator.IS, ("a", "b")),
        (Operator.UNKNOWN, ("a",)),
        (Operator.ONE_OF, ()),
        (Operator.ONE_OF, ("a",) * 201),
        (Operator.IS, ("a\0",)),
        (Operator.IS, ("\ud800",)),
        (Operator.CONTAINS, ("x" * 2_001,)),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_filters_check_their_values(operator: Operator, values: tuple[str, ...]) -> None:
    """Too few, too many, too long, and what is no text."""
    with pytest.raises(InvalidQuestion, match="filter"):
        Filter(Dimension("os"), operator, values)


def test_an_empty_value_is_refused_but_of_a_property() -> None:
    """Nothing but a custom property can be empty text; whoever writes `country:is:` reads what asks for the unknown."""
    for text in ("country:is:", "page:contains:", "os:one_of:iOS|"):
        with pytest.raises(InvalidQuestion, match=r"empty value; \w+:unknown"):
            read_filter(text)
    assert read_filter("property:plan:is:").values == ("",)


def test_a_time_is_no_filter() -> None:
    """The range says which times count."""
    with pytest.raises(InvalidQuestion, match="filter: day is a time"):
        Filter(Dimension("day"), Operator.IS, ("2026-05-01",))


def test_too_many_stretches_of_time_are_refused() -> None:
    """Hours of a century are more rows than anybody reads."""
    question = may(by="hour", since=date(2000, 1, 1))
    with pytest.raises(InvalidQuestion, match="by: more than 20,000 rows"):
        question.period(NOW)
    assert may(by="day", since=date(2000, 1, 1)).period(NOW).start.year == 1999


def test_the_last_days_end_with_today_on_the_zones_calendar() -> None:
    """In Kolkata it is past nine in the evening; the clocks of Berlin changed this morning."""
    period = ask_for("visits", last=timedelta(days=2), time_zone="Europe/Berlin").period(NOW)
    assert (period.start, period.end) == (
        datetime(2026, 3, 27, 23, tzinfo=UTC),
        datetime(2026, 3, 29, 22, tzinfo=UTC),
    )
    hours = ask_for("visits", last=timedelta(hours=30)).period(NOW)
    assert (hours.start, hours.end) == (NOW - timedelta(hours=30), NOW)


def test_the_day_of_the_change_has_an_hour_less_and_one_more() -> None:
    """23 rows in March, 25 in October; the repeated hour is two rows with their offsets."""
    march = may(by="hour", since=date(2026, 3, 29), until=date(2026, 3, 30)).period(NOW)
    october = may(by="hour", since=date(2026, 10, 25), until=date(2026, 10, 26)).period(NOW)
    assert (len(march.buckets(TimeBucket.HOUR)), len(october.buckets(TimeBucket.HOUR))) == (23, 25)
    labels = [bucket_label(key, TimeBucket.HOUR, october.zone) for key in october.buckets(TimeBucket.HOUR)]
    assert labels[2:4] == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]


@pytest.mark.parametrize(
    ("compare", "before"),
    [
        (Compare.PREVIOUS, ("2024-04-19T00:00+02:00", "2024-04-26T01:00+03:00")),
        (Compare.YEAR, ("2023-04-26T00:00+02:00", "2023-05-03T00:00+03:00")),
    ],
)
def test_a_day_without_midnight_is_compared_with_whole_days(compare: Compare, before: tuple[str, str]) -> None:
    """In Cairo the clocks skip the first hour of the day on which summer time begins."""
    question = ask_for(
        "visits", since=date(2024, 4, 26), until=date(2024, 5, 3), time_zone="Africa/Cairo", compare=compare
    )
    period = question.period(datetime(2024, 6, 1, tzinfo=UTC))
    earlier = period.before(compare)
    assert (
        tuple(at.astimezone(period.zone).isoformat(timespec="minutes") for at in (earlier.start, earlier.end)) == before
    )
    assert len(earlier.buckets(TimeBucket.DAY)) == len(period.buckets(TimeBucket.DAY)) == 7


@pytest.mark.parametrize(
    ("since", "until", "compare", "before"),
    [
        ("2026-05-01", "2026-06-01", Compare.PREVIOUS, ("2026-03-31", "2026-05-01")),
        ("2026-03-29", "2026-03-30", Compare.PREVIOUS, ("2026-03-28", "2026-03-29")),
        ("2026-05-01", "2026-06-01", Compare.YEAR, ("2025-05-01", "2025-06-01")),
        ("2024-02-29", "2024-03-01", Compare.YEAR, ("2023-02-28", "2023-03-01")),
    ],
)
def test_whole_days_are_compared_with_whole_days(
    since: str, until: str, compare: Compare, before: tuple[str, str]
) -> None:
    """Also where the clocks change in between, and on a day that the year before did not have."""
    period = read_question("visits", since=since, until=until, time_zone="Europe/Berlin").period(NOW)
    earlier = period.before(compare)
    assert (
        tuple(moment.astimezone(period.zone).strftime("%Y-%m-%d") for moment in (earlier.start, earlier.end)) == before
    )
    assert {moment.astimezone(period.zone).hour for moment in (earlier.start, earlier.end)} == {0}


def test_what_adds_up() -> None:
    """Events always, visits unless one counts under several values, people and averages never."""
    day, page = Dimension("day"), Dimension("page")
    assert adds_up(Metric.VISITS, [day])
    assert not adds_up(Metric.VISITS, [day, page])
    assert adds_up(Metric.PAGE_VIEWS, [page])
    assert not adds_up(Metric.VISITORS, [day])
    assert not adds_up(Metric.BOUNCE_RATE, [])


@given(filters())
def test_filters_survive_being_written(condition: Filter) -> None:
    """What `write_filter` writes, `read_filter` reads."""
    assert read_filter(write_filter(condition)) == condition


@pytest.mark.parametrize("name", [*Operator, "a:b", "property:a"])
def test_a_property_may_be_called_as_an_operator_is(name: str) -> None:
    """`property:known:is:yes` asks about the property `known`."""
    for condition in (
        Filter(Dimension(f"property:{name}"), Operator.IS, ("is:x",)),
        Filter(Dimension(f"property:{name}"), Operator.UNKNOWN),
    ):
        assert read_filter(write_filter(condition)) == condition


@given(st.lists(st.text("a|\\:", max_size=5), min_size=1, max_size=3))
def test_several_values_survive_their_separator(values: list[str]) -> None:
    """A bar, a backslash and a colon inside a value stay what they are."""
    condition = Filter(Dimension("property:plan"), Operator.ONE_OF, tuple(values))
    assert read_filter(write_filter(condition)) == condition


@pytest.mark.parametrize("text", ["30", "0d", "1.5d", "-1d", "1m", "d", "", "1d2h"])
def test_spans_that_are_none(text: str) -> None:
    """Months and minutes are no spans here, so that nobody takes one for the other."""
    with pytest.raises(InvalidQuestion, match="last"):
        read_span(text)
