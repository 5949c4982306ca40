"""What the address of the overview asks for; every view has an address of its own, to be kept and to be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from lastseen.reports.period import FIRST_DAY, LAST_DAY, Compare, Period
from lastseen.reports.question import DEFAULT_LAST, Bots, Filter, Question, find_zone
from lastseen.reports.terms import Dimension, InvalidQuestion, Metric, TimeBucket
from lastseen.reports.text import read_filter, write_filter
from lastseen.settings import format_span, parse_span
from lastseen.visits.site import DEFAULT_SITE_ID

PAGE = "/visits"
ONLINE = timedelta(minutes=5)
RANGES = (("1d", "Today"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"), ("365d", "12 months"))
PANEL_CHOICES: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "channel", "referrer", "utm_campaign", "utm_source", "utm_medium"),
    "page": ("page", "entry", "exit"),
    "place": ("country", "region", "city"),
    "machine": ("browser", "os", "device"),
    "event": ("event",),
}
"""The panels, each with the dimensions that it can show; the first is the default."""
TILES = (
    Metric.VISITORS,
    Metric.VISITS,
    Metric.PAGE_VIEWS,
    Metric.EVENTS,
    Metric.BOUNCE_RATE,
    Metric.AVERAGE_DURATION,
)
Choice = TypeVar("Choice", bound=StrEnum)

_HOURLY = timedelta(days=2)
_DAILY = timedelta(days=120)
_WEEKLY = timedelta(days=500)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The overview of one site: a range, filters, the figure in the chart, and what each panel shows."""

    site: str = DEFAULT_SITE_ID
    last: timedelta | None = None
    first_day: date | None = None
    last_day: date | None = None
    """Inclusive, unlike a question's `until`: people name the last day that they want to see."""
    zone: str = "UTC"
    metric: Metric = Metric.VISITORS
    filters: tuple[Filter, ...] = ()
    shown: tuple[str, ...] = tuple(choices[0] for choices in PANEL_CHOICES.values())
    """The dimension of each panel."""
    bots: Bots = Bots.WITHOUT

    @classmethod
    def of(cls, query: Sequence[tuple[str, str]]) -> View:
        """Read a query string; raises `InvalidQuestion` that names what is wrong."""
        given = dict(query)
        first, final = (_day(name, given.get(name, "")) for name in ("from", "to"))
        if (first is None) is not (final is None):
            raise InvalidQuestion("to" if final is None else "from", "is missing: from and to go together")
        last = None if first is not None else _span(given.get("last", ""))
        zone = zone_of(given.get("tz", ""))
        return cls(
            site=given.get("site") or DEFAULT_SITE_ID,
            last=last,
            first_day=first,
            last_day=final,
            zone=zone,
            metric=_one_of(Metric, given.get("metric"), "metric", Metric.VISITORS),
            filters=tuple(read_filter(value) for name, value in query if name == "filter" and value),
            shown=tuple(_shown(panel, given.get(panel), choices) for panel, choices in PANEL_CHOICES.items()),
            bots=_one_of(Bots, given.get("bots"), "bots", Bots.WITHOUT),
        )

    def fields(self, without: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        """Yield the fields of the address that are not the default."""
        default = View()
        pairs = [
            ("site", self.site if self.site != default.site else ""),
            ("last", format_span(self.last) if self.last not in {None, DEFAULT_LAST} and self.last else ""),
            ("from", self.first_day.isoformat() if self.first_day else ""),
            ("to", self.last_day.isoformat() if self.last_day else ""),
            ("tz", self.zone if self.zone != default.zone else ""),
            ("metric", self.metric.value if self.metric != default.metric else ""),
            ("bots", self.bots.value if self.bots != default.bots else ""),
            *zip(
                PANEL_CHOICES,
                (name if name != usual else "" for name, usual in zip(self.shown, default.shown, strict=True)),
                strict=True,
            ),
            *(("filter", write_filter(each)) for each in self.filters),
        ]
        return ((name, value) for name, value in pairs if value and name not in without)

    def address(self, **changes: Any) -> str:
        """Return the address of this view with changes."""
        query = urlencode(list(replace(self, **changes).fields()))
        return f"{PAGE}?{query}" if query else PAGE

    def filtered(self, added: Filter) -> str:
        """Return the address with one more filter; the same one again changes nothing."""
        return self.address(filters=tuple(dict.fromkeys((*self.filters, added))))

    def showing(self, panel: int, dimension: str) -> str:
        """Return the address with another dimension in a panel."""
        return self.address(shown=(*self.shown[:panel], dimension, *self.shown[panel + 1 :]))

    def list_address(self, **more: str) -> str:
        """Return where the visits that this view counts are listed."""
        query = urlencode([*self.fields(("metric", *PANEL_CHOICES)), *more.items()])
        return f"{PAGE}/list?{query}" if query else f"{PAGE}/list"

    def online(self, now: datetime) -> Question:
        """Return the question who did something in the last minutes."""
        days = self.question(Metric.ACTIVE_VISITORS)
        return replace(days, last=None, since=now - ONLINE, until=now + timedelta(seconds=1))

    @property
    def is_chosen(self) -> bool:
        """Whether it shows anything but all visits of the usual days."""
        return bool(self.filters) or self.last != DEFAULT_LAST

    def question(self, *metrics: Metric, by: str = "", limit: int = 10, compare: bool = False) -> Question:
        """Return a question about what this view shows."""
        return Question(
            metrics=metrics,
            by=(Dimension(by),) if by else (),
            site=self.site,
            filters=self.filters,
            last=self.last,
            since=self.first_day,
            until=None if self.last_day is None else self.last_day + timedelta(days=1),
            time_zone=self.zone,
            compare=Compare.PREVIOUS if compare else None,
            bots=self.bots,
            limit=limit,
        )


def bucket_of(period: Period) -> TimeBucket:
    """Return the stretch of time that a chart of this period is drawn in."""
    length = period.end - period.start
    if length <= _HOURLY:
        return TimeBucket.HOUR
    if length <= _DAILY:
        return TimeBucket.DAY
    return TimeBucket.WEEK if length <= _WEEKLY else TimeBucket.MONTH


def days_of(period: Period) -> tuple[date, date]:
    """Return the first and the last day of a period, on its zone's calendar."""
    last_moment: datetime = period.end - timedelta(microseconds=1)
    return period.start.astimezone(period.zone).date(), last_moment.astimezone(period.zone).date()


def _shown(panel: str, given: str | None, choices: tuple[str, ...]) -> str:
    if given and given not in choices:
        raise InvalidQuestion(panel, f"one of {', '.join(choices)}, not {given[:100]!r}")
    return given or choices[0]


def zone_of(text: str) -> str:
    """Return the name of a time zone that an address has, UTC for none; raises `InvalidQuestion`."""
    try:
        find_zone(text or "UTC")
    except InvalidQuestion as error:
        raise InvalidQuestion("tz", error.message) from error
    return text or "UTC"


def _day(part: str, text: str) -> date | None:
    try:
        day = date.fromisoformat(text) if text else None
    except ValueError as error:
        raise InvalidQuestion(part, f"write a day as 2026-01-31, not {text[:100]!r}") from error
    if day is not None and not FIRST_DAY <= day < LAST_DAY:
        raise InvalidQuestion(part, f"must be from {FIRST_DAY} to {LAST_DAY}, not {text}")
    return day


def _span(text: str) -> timedelta:
    try:
        return parse_span(text) if text else DEFAULT_LAST
    except ValueError as error:
        raise InvalidQuestion("last", str(error)) from error


def _one_of(kind: type[Choice], text: str | None, part: str, default: Choice) -> Choice:
    try:
        return kind(text) if text else default
    except ValueError as error:
        choices = ", ".join(one.value for one in kind)
        raise InvalidQuestion(part, f"one of {choices}, not {(text or '')[:100]!r}") from error
