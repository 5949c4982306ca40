"""What can be asked: metrics and dimensions, and what is true of each. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lastseen.errors import ConfigurationError

MAX_PROPERTY_NAME = 200
PROPERTY = "property:"
"""What the name of a custom property's dimension begins with."""


class InvalidQuestion(ConfigurationError):
    """A report cannot be asked for like that; `part` names the part of the question that is wrong."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(f"{part}: {message}")
        self.part = part
        self.message = message


class Grain(StrEnum):
    """What is counted: whole visits by the moment they started, or single events by their own moment."""

    VISIT = "visit"
    EVENT = "event"


class Metric(StrEnum):
    """A figure of a report."""

    VISITORS = "visitors"
    """Different visitors of the visits that started."""
    VISITS = "visits"
    """Visits that started."""
    BOUNCE_RATE = "bounce_rate"
    """Share of the visits, 0 to 1, that saw one page at most for less than ten seconds."""
    AVERAGE_DURATION = "average_duration"
    MEDIAN_DURATION = "median_duration"
    ENGAGED_TIME = "engaged_time"
    """Of all the visits together."""
    AVERAGE_ENGAGED_TIME = "average_engaged_time"
    """Of a visit."""
    PAGE_VIEWS = "page_views"
    EVENTS = "events"
    """All events; page views are events too."""
    ACTIVE_VISITORS = "active_visitors"
    """Different visitors who did something, whenever their visit started: by day, week or month the active users."""

    @property
    def grain(self) -> Grain:
        """What it counts."""
        return Grain.EVENT if self in _OF_EVENTS else Grain.VISIT

    @property
    def is_count(self) -> bool:
        """Whether nothing is 0; for the others nothing is None."""
        return self in _COUNTS

    @property
    def unit(self) -> str:
        """`count`, `share` (0 to 1) or `seconds`."""
        if self.is_count and self is not Metric.ENGAGED_TIME:
            return "count"
        return "share" if self is Metric.BOUNCE_RATE else "seconds"


_OF_EVENTS = {Metric.PAGE_VIEWS, Metric.EVENTS, Metric.ACTIVE_VISITORS}
_COUNTS = _OF_EVENTS | {Metric.VISITORS, Metric.VISITS, Metric.ENGAGED_TIME}
_ADDITIVE = {Metric.VISITS, Metric.ENGAGED_TIME, Metric.PAGE_VIEWS, Metric.EVENTS}


class TimeBucket(StrEnum):
    """A stretch of time on the clocks and calendars of the question's time zone; weeks begin on Monday (ISO 8601)."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


VISIT_DIMENSIONS = (
    "entry",
    "exit",
    "source",
    "referrer",
    "channel",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
    "country",
    "region",
    "city",
    "device",
    "browser",
    "os",
)
"""What is true of a whole visit."""
EVENT_DIMENSIONS = ("page", "event")
"""What is true of one event; custom properties are too."""
DIMENSIONS = (*TimeBucket, *EVENT_DIMENSIONS, *VISIT_DIMENSIONS)
_WITHOUT_VALUE = {
    **dict.fromkeys(("page", "entry", "exit"), "no address"),
    **dict.fromkeys(("source", "referrer"), "direct or unknown"),
    "utm_source": "no UTM source",
    "utm_medium": "no UTM medium",
    "utm_campaign": "no campaign",
    "utm_term": "no UTM term",
    "utm_content": "no UTM content",
}


@dataclass(frozen=True, slots=True)
class Dimension:
    """What figures are broken down by; raises `InvalidQuestion` for a name that is none."""

    name: str
    """One of `DIMENSIONS`, or `property:NAME`."""

    def __post_init__(self) -> None:
        property_name = self.property_name
        if property_name is None and self.name not in DIMENSIONS:
            raise InvalidQuestion("by", unknown("dimension", self.name, (*DIMENSIONS, f"{PROPERTY}NAME")))
        if property_name is not None and not 1 <= len(property_name) <= MAX_PROPERTY_NAME:
            raise InvalidQuestion("by", f"a property's name has 1 to {MAX_PROPERTY_NAME} characters")
        if property_name is not None and not is_storable(property_name):
            raise InvalidQuestion("by", "a property's name has characters that no text has")

    @property
    def property_name(self) -> str | None:
        """The custom property, or None for the others."""
        return self.name.removeprefix(PROPERTY) if self.name.startswith(PROPERTY) else None

    @property
    def bucket(self) -> TimeBucket | None:
        """The stretch of time, or None for the others."""
        return TimeBucket(self.name) if self.name in list(TimeBucket) else None

    @property
    def without_value(self) -> str:
        """What people read where there is none: a page view without an address is on no page, not on one unknown."""
        return "not set" if self.property_name is not None else _WITHOUT_VALUE.get(self.name, "unknown")

    @property
    def is_of_events(self) -> bool:
        """Whether the events of one visit may differ in it."""
        return self.property_name is not None or self.name in EVENT_DIMENSIONS


def adds_up(metric: Metric, dimensions: Iterable[Dimension]) -> bool:
    """Return whether the rows of a breakdown, all of them, sum up to the total.

    Different visitors do not: one person comes on two days. Neither do shares, averages and medians. What counts whole
    visits does not by page, event or property either: one visit sees many pages and counts once for each.
    """
    if metric not in _ADDITIVE:
        return False
    return metric.grain is Grain.EVENT or not any(dimension.is_of_events for dimension in dimensions)


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the message for a name that is none: the one that was probably meant, or all of them."""
    known = [str(each) for each in names]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    return f"no {kind} {name[:100]!r}; {hint}"


def is_storable(text: str) -> bool:
    """Return whether a text can be in a database: no zero byte, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
