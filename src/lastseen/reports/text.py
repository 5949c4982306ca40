"""Questions as text: what addresses and commands say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from lastseen.reports.period import Compare
from lastseen.reports.question import Bots, Filter, Operator, Order, Question, find_metrics
from lastseen.reports.terms import PROPERTY, Dimension, InvalidQuestion, Metric, unknown

SUBJECTS: Mapping[str, tuple[Metric, ...]] = {
    "visits": (
        Metric.VISITORS,
        Metric.VISITS,
        Metric.PAGE_VIEWS,
        Metric.BOUNCE_RATE,
        Metric.AVERAGE_DURATION,
    ),
    "events": (Metric.EVENTS, Metric.ACTIVE_VISITORS),
    "active": (Metric.ACTIVE_VISITORS,),
}
"""What a report may be about, and the metrics that it shows unless others are named."""

_SPAN = re.compile(r"([1-9]\d{0,6})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_FILTER = re.compile(
    rf"(?P<dimension>{PROPERTY}.+?|[^:]*):(?P<operator>"
    + "|".join(sorted(Operator, key=len, reverse=True))
    + r")(?::(?P<value>.*))?",
    re.DOTALL,
)
_SPECIAL = re.compile(r"([|\\])")
_BACKSLASHED = r"\\\1"

E = TypeVar("E", bound=StrEnum)


def read_question(
    subject: str,
    *,
    metrics: Sequence[str] = (),
    by: Sequence[str] = (),
    filters: Sequence[str] = (),
    last: str | None = None,
    since: str | None = None,
    until: str | None = None,
    compare: str | None = None,
    order: str | None = None,
    bots: str = Bots.WITHOUT,
    **options: Any,
) -> Question:
    """Return the question that texts name; the other options are those of `Question`.

    Raises `InvalidQuestion`, whose `part` is the option that is wrong.
    """
    if subject not in SUBJECTS:
        raise InvalidQuestion("report", unknown("report", subject, SUBJECTS))
    return Question(
        metrics=find_metrics(metrics) or SUBJECTS[subject],
        by=tuple(map(Dimension, by)),
        filters=tuple(map(read_filter, filters)),
        last=None if last is None else read_span(last),
        since=None if since is None else read_moment("from", since),
        until=None if until is None else read_moment("to", until),
        compare=None if compare is None else _choice("compare", Compare, compare),
        order=None if order is None else Order(order.removeprefix("-"), is_descending=order.startswith("-")),
        bots=_choice("bots", Bots, bots),
        **options,
    )


def split_names(text: str | None) -> list[str]:
    """Return the names in a list with commas; a property's name may not have one here."""
    return [] if text is None else [name.strip() for name in text.split(",")]


def read_span(text: str) -> timedelta:
    """Return the span that `30d`, `12h` or `4w` names."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise InvalidQuestion("last", f"{text[:50]!r} is no span; write 24h, 30d or 12w")
    return int(found[1]) * _UNITS[found[2]]


def read_moment(part: str, text: str) -> date | datetime:
    """Return a date, or a moment on the clocks of the question's time zone unless it names its offset."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidQuestion(part, f"{text[:50]!r} is no date; write 2026-05-31, or 2026-05-31T18:00") from error


def read_filter(text: str) -> Filter:
    r"""Return the filter that `country:is:DE`, `page:contains:/blog`, `city:unknown` or `os:one_of:iOS|Android` names.

    Several values are separated by `|`; a value among them has `\|` for a bar in itself, and `\\` for a backslash.
    """
    found = _FILTER.fullmatch(text)
    if found is None:
        raise InvalidQuestion(
            "filter",
            f"{text[:100]!r} is no filter; write dimension:operator:value as in country:is:DE, or country:unknown; "
            f"the operators are {', '.join(Operator)}",
        )
    operator, value = Operator(found["operator"]), found["value"]
    values: tuple[str, ...] = () if value is None else (value,)
    if value is not None and operator in (Operator.ONE_OF, Operator.NONE_OF):
        values = _split_values(value)
    try:
        return Filter(Dimension(found["dimension"]), operator, values)
    except InvalidQuestion as error:
        raise InvalidQuestion("filter", error.message) from error


def write_filter(condition: Filter) -> str:
    """Return a filter as `read_filter` reads it."""
    name = f"{condition.dimension.name}:{condition.operator}"
    if not condition.values:
        return name
    if condition.operator in (Operator.ONE_OF, Operator.NONE_OF):
        return f"{name}:{'|'.join(_SPECIAL.sub(_BACKSLASHED, value) for value in condition.values)}"
    return f"{name}:{condition.values[0]}"


def _split_values(text: str) -> tuple[str, ...]:
    """Split at the bars that no backslash stands before."""
    values, is_escaped = [""], False
    for character in text:
        if is_escaped:
            values[-1] += character if character in "|\\" else f"\\{character}"
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == "|":
            values.append("")
        else:
            values[-1] += character
    if is_escaped:
        values[-1] += "\\"
    return tuple(values)


def _choice(part: str, kind: type[E], text: str) -> E:
    if text not in list(kind):
        raise InvalidQuestion(part, f"must be one of {', '.join(kind)}, not {text[:50]!r}")
    return kind(text)
