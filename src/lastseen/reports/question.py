"""One question about visits and events, checked at birth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lastseen.reports.period import Compare, Period, count_buckets, given_period, last_period
from lastseen.reports.terms import Dimension, InvalidQuestion, Metric, TimeBucket, is_storable, unknown
from lastseen.visits.site import DEFAULT_SITE_ID, is_site_id

MAX_METRICS = len(Metric)
MAX_DIMENSIONS = 3
MAX_FILTERS = 20
MAX_VALUES = 200
MAX_VALUE_LENGTH = 2_000
MAX_LIMIT = 10_000
MAX_OFFSET = 1_000_000_000
MAX_BUCKETS = 20_000
DEFAULT_LAST = timedelta(days=30)


class Operator(StrEnum):
    """How a filter compares. Case counts. What is unknown is not equal to anything and contains nothing."""

    IS = "is"
    IS_NOT = "is_not"
    CONTAINS = "contains"
    CONTAINS_NOT = "contains_not"
    ONE_OF = "one_of"
    NONE_OF = "none_of"
    UNKNOWN = "unknown"
    KNOWN = "known"


_WITHOUT_VALUE = {Operator.UNKNOWN, Operator.KNOWN}
_WITH_MANY = {Operator.ONE_OF, Operator.NONE_OF}


class Bots(StrEnum):
    """Whether what programs did counts."""

    WITHOUT = "without"
    WITH = "with"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Filter:
    """Leaves only what passes: a dimension (not a time), an operator, and its values."""

    dimension: Dimension
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = self.dimension.name
        if self.dimension.bucket is not None:
            raise InvalidQuestion("filter", f"{name} is a time; the range says which times count")
        if self.operator in _WITHOUT_VALUE and self.values:
            raise InvalidQuestion("filter", f"{name} {self.operator} takes no value")
        if self.operator not in _WITHOUT_VALUE and not self.values:
            raise InvalidQuestion("filter", f"{name} {self.operator} needs a value")
        if "" in self.values and self.dimension.property_name is None:
            # Only custom properties can be empty text; anything else is there or unknown.
            raise InvalidQuestion(
                "filter", f"{name} {self.operator} has an empty value; {name}:unknown is what has none"
            )
        if self.operator not in _WITH_MANY and len(self.values) > 1:
            raise InvalidQuestion("filter", f"{name} {self.operator} takes one value; one_of and none_of take several")
        if len(self.values) > MAX_VALUES:
            raise InvalidQuestion("filter", f"{name} takes at most {MAX_VALUES} values")
        for value in self.values:
            if len(value) > MAX_VALUE_LENGTH or not is_storable(value):
                raise InvalidQuestion("filter", f"{name}: a value is text of at most {MAX_VALUE_LENGTH} characters")


@dataclass(frozen=True, slots=True)
class Order:
    """What comes first: by a metric or a dimension of the question."""

    by: str
    is_descending: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked; `InvalidQuestion` names the part that cannot be.

    Either `last`, or `since` and `until`; the last 30 days when nothing is given. Dates and naive moments are on the
    clocks of the time zone.
    """

    metrics: tuple[Metric, ...]
    by: tuple[Dimension, ...] = ()
    site: str = DEFAULT_SITE_ID
    filters: tuple[Filter, ...] = ()
    """All of them must hold. Those about events (page, event, properties) must hold for one and the same event."""
    last: timedelta | None = None
    """Whole days end with today; another span ends now."""
    since: date | datetime | None = None
    until: date | datetime | None = None
    """The first moment that does not count any more."""
    time_zone: str = "UTC"
    """IANA name, such as `Europe/Berlin`."""
    compare: Compare | None = None
    order: Order | None = None
    """By time where there is one, else by the first metric, the largest first. Ties: by the dimensions, unknown
    last."""
    limit: int = 100
    """Of rows; a breakdown by time alone has all its rows."""
    offset: int = 0
    bots: Bots = Bots.WITHOUT
    zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_size("metrics", self.metrics, MAX_METRICS)
        if not self.metrics:
            raise InvalidQuestion("metrics", f"name at least one of {', '.join(Metric)}")
        self._check_size("by", [dimension.name for dimension in self.by], MAX_DIMENSIONS)
        if sum(dimension.bucket is not None for dimension in self.by) > 1:
            raise InvalidQuestion("by", "one time is enough")
        if len(self.filters) > MAX_FILTERS:
            raise InvalidQuestion("filter", f"at most {MAX_FILTERS}")
        if not is_site_id(self.site):
            raise InvalidQuestion("site", f"no site is called {self.site[:100]!r}")
        object.__setattr__(self, "zone", find_zone(self.time_zone))
        self._check_range()
        self._check_order()
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidQuestion("limit", f"must be from 1 to {MAX_LIMIT}, not {self.limit}")
        if not 0 <= self.offset <= MAX_OFFSET:
            raise InvalidQuestion("offset", f"must be from 0 to {MAX_OFFSET:,}, not {self.offset}")

    @staticmethod
    def _check_size(part: str, names: Sequence[str], most: int) -> None:
        if len(set(names)) != len(names):
            raise InvalidQuestion(part, "names something twice")
        if len(names) > most:
            raise InvalidQuestion(part, f"at most {most}")

    def _check_range(self) -> None:
        if self.last is not None and (self.since is not None or self.until is not None):
            raise InvalidQuestion("last", "either last, or from and to")
        if (self.since is None) is not (self.until is None):
            raise InvalidQuestion("to" if self.until is None else "from", "is missing: from and to go together")
        if self.last is not None and not timedelta(hours=1) <= self.last <= timedelta(days=36_500):
            raise InvalidQuestion("last", "must be at least 1h and at most 36500d")
        if self.since is not None and self.until is not None:
            given_period(self.since, self.until, self.zone)

    def _check_order(self) -> None:
        names = [*self.metrics, *(dimension.name for dimension in self.by)]
        if self.order is not None and self.order.by not in names:
            raise InvalidQuestion("order", f"must be one of what is asked for: {', '.join(names)}; with - before it "
                                  "for the largest first")  # fmt: skip

    @cached_property
    def bucket(self) -> TimeBucket | None:
        """The time that it is broken down by."""
        return next((dimension.bucket for dimension in self.by if dimension.bucket is not None), None)

    @property
    def is_series(self) -> bool:
        """Whether it is broken down by time and by nothing else: then every stretch of time has its row."""
        return len(self.by) == 1 and self.bucket is not None

    @cached_property
    def ordered(self) -> tuple[Order, ...]:
        """The order, down to the last tie."""
        names = [dimension.name for dimension in self.by]
        first = self.order
        if first is None and names:
            time = next((dimension.name for dimension in self.by if dimension.bucket is not None), None)
            first = Order(time) if time is not None else Order(self.metrics[0], is_descending=True)
        rest = [Order(name) for name in names if first is None or name != first.by]
        return (*([first] if first is not None and (names or first.by in names) else []), *rest)

    def period(self, now: datetime) -> Period:
        """Return the range that is asked for, at this moment; raises for one with too many stretches of time."""
        if self.since is not None and self.until is not None:
            period = given_period(self.since, self.until, self.zone)
        else:
            period = last_period(self.last or DEFAULT_LAST, now, self.zone)
        if self.bucket is not None and count_buckets(period, self.bucket) > MAX_BUCKETS:
            raise InvalidQuestion("by", f"more than {MAX_BUCKETS:,} rows by {self.bucket}; ask for less time")
        return period


@lru_cache(maxsize=100)
def find_zone(name: str) -> ZoneInfo:
    """Return the zone of this IANA name; raises `InvalidQuestion` where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidQuestion("time_zone", f"{name[:100]!r} is no IANA time zone such as Europe/Berlin") from error


def ask_for(*metrics: str | Metric, by: str | Sequence[str] = (), **options: Any) -> Question:
    """Return a question from plain names: `ask_for("visits", "visitors", by="day", last=timedelta(days=7))`."""
    names = (by,) if isinstance(by, str) else by
    return Question(metrics=find_metrics(metrics), by=tuple(map(Dimension, names)), **options)


def find_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics of these names; raises `InvalidQuestion` for a name that is none."""
    for name in names:
        if name not in list(Metric):
            raise InvalidQuestion("metrics", unknown("metric", name, Metric))
    return tuple(map(Metric, names))
