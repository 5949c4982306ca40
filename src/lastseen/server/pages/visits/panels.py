"""The parts of the overview: figures, chart and panels, each from one answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from lastseen.reports.answer import Answer, Figure, Row
from lastseen.reports.period import Period, moment_of
from lastseen.reports.question import MAX_FILTERS, Filter, Operator, Question
from lastseen.reports.terms import Dimension, Metric, TimeBucket
from lastseen.server.pages.exports import Link
from lastseen.server.pages.visits.addresses import report_exports
from lastseen.server.pages.visits.view import PANEL_CHOICES, TILES, View
from lastseen.server.pages.visits.words import DIMENSIONS, METRICS, change_words, figure_words, value_words
from lastseen.visits.event import PAGEVIEW

_TITLES = {
    "source": "Sources",
    "page": "Pages",
    "place": "Places",
    "machine": "Devices",
    "event": "Events",
}
_METRICS = {"page": Metric.PAGE_VIEWS, "entry": Metric.VISITS, "exit": Metric.VISITS, "event": Metric.EVENTS}
"""What the panels count; visitors where nothing else is named."""
_VIEWED = Filter(Dimension("event"), Operator.IS, (PAGEVIEW,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One figure of the whole range, and how it has changed."""

    key: str
    label: str
    value: str
    change: str
    direction: str
    href: str
    current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One figure over time, and that of the period before."""

    label: str
    bucket: str
    unit: str
    times: Sequence[int]
    """When each stretch began, seconds since 1970."""
    values: Sequence[float]
    before: Sequence[float]
    words: str
    exports: Sequence[Link]


@dataclass(frozen=True, kw_only=True, slots=True)
class PanelRow:
    """One value of a panel's dimension; `share` is its part of the largest, in percent."""

    label: str
    value: int
    share: int
    href: str
    """Empty where nothing can be asked about the value alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tab:
    """Another dimension that a panel can show."""

    key: str
    label: str
    href: str
    current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """The most frequent values of one dimension; a click on one filters everything."""

    key: str
    title: str
    column: str
    metric: str
    tabs: Sequence[Tab]
    rows: Sequence[PanelRow]
    exports: Sequence[Link]


def panel_question(view: View, dimension: str, limit: int = 10) -> Question:
    """Return the question that a panel with this dimension answers.

    Pages are those that were viewed: not every address, or lack of one, that another event has. Where the view asks for
    certain events, they are what is counted.
    """
    metric = _METRICS.get(dimension, Metric.VISITORS)
    if metric is not Metric.PAGE_VIEWS:
        return view.question(metric, by=dimension, limit=limit)
    if any(each.dimension.name == "event" for each in view.filters):
        return view.question(Metric.EVENTS, by=dimension, limit=limit)
    question = view.question(metric, by=dimension, limit=limit)
    # Without room for one more filter there may be rows of nothing behind the others.
    return replace(question, filters=(*question.filters, _VIEWED)[:MAX_FILTERS])


def tiles_of(view: View, answer: Answer) -> list[Tile]:
    """Return the figures of the range, in the order of the answer's metrics."""
    before: Sequence[Figure] = answer.compared_totals or (None,) * len(answer.totals)
    tiles = []
    for metric, now, then in zip(TILES, answer.totals, before, strict=True):
        change, direction = change_words(metric, now, then)
        tiles.append(
            Tile(
                key=metric.value.replace("_", "-"),
                label=METRICS[metric],
                value=figure_words(metric, now),
                change=change,
                direction=direction,
                href=view.address(metric=metric),
                current=metric is view.metric,
            )
        )
    return tiles


def chart_of(view: View, answer: Answer, bucket: TimeBucket) -> Chart:
    """Return the chart of the figure that the view shows."""
    metric = view.metric
    rows = answer.rows
    best = max(rows, key=lambda row: row.figures[0] or 0, default=None)
    label = METRICS[metric]
    if best is None or not best.figures[0]:
        words = f"Nothing was counted in this range ({label.lower()})."
    else:
        words = f"Highest: {figure_words(metric, best.figures[0])}, {_when(best, bucket)}"
    return Chart(
        label=label,
        bucket=bucket.value,
        unit={"share": "%", "seconds": "s"}.get(metric.unit, ""),
        times=[_seconds(row, bucket, answer.period) for row in rows],
        values=[_height(metric, row.figures[0]) for row in rows],
        before=[_height(metric, row.compared[0] if row.compared else None) for row in rows],
        words=words,
        exports=report_exports(view.question(metric, by=bucket.value, compare=True)),
    )


def panel_of(view: View, place: int, answer: Answer) -> Panel:
    """Return one panel; `place` is its place among the panels."""
    key = list(PANEL_CHOICES)[place]
    dimension = view.shown[place]
    metric = answer.question.metrics[0]
    largest = max((row.figures[0] or 0 for row in answer.rows), default=0) or 1
    choices = PANEL_CHOICES[key]
    return Panel(
        key=key,
        title=_TITLES[key],
        column=DIMENSIONS[dimension],
        metric=METRICS[metric],
        tabs=[
            Tab(
                key=f"{key}-{choice}",
                label=DIMENSIONS[choice],
                href=view.showing(place, choice),
                current=choice == dimension,
            )
            for choice in choices
        ]
        if len(choices) > 1
        else [],
        rows=[_panel_row(view, dimension, row, largest) for row in answer.rows],
        exports=report_exports(panel_question(view, dimension, limit=1_000)),
    )


def _panel_row(view: View, dimension: str, row: Row, largest: float) -> PanelRow:
    value = row.keys[0]
    figure = int(row.figures[0] or 0)
    return PanelRow(
        label=value_words(dimension, value),
        value=figure,
        share=round(100 * figure / largest),
        href="" if value == "" else view.filtered(_leaving(dimension, value)),
    )


def _leaving(dimension: str, value: str | None) -> Filter:
    if value is None:
        return Filter(Dimension(dimension), Operator.UNKNOWN)
    return Filter(Dimension(dimension), Operator.IS, (value,))


def _height(metric: Metric, figure: Figure) -> float:
    if figure is None:
        return 0
    return round(100 * figure, 1) if metric.unit == "share" else round(figure, 1)


def _seconds(row: Row, bucket: TimeBucket, period: Period) -> int:
    label = row.keys[0] or ""
    if bucket is TimeBucket.HOUR:
        return int(datetime.fromisoformat(label).timestamp())
    return int(moment_of(date.fromisoformat(label), period.zone).timestamp())


def _when(row: Row, bucket: TimeBucket) -> str:
    label = row.keys[0] or ""
    if bucket is TimeBucket.HOUR:
        return datetime.fromisoformat(label).strftime("%a %d %b %H:%M")
    day = date.fromisoformat(label)
    if bucket is TimeBucket.MONTH:
        return day.strftime("%B %Y")
    return day.strftime("%a %d %b %Y") if bucket is TimeBucket.DAY else day.strftime("week of %d %b %Y")
