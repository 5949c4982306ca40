"""How figures, visits and reasons are said to a reader. Pure."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import urlsplit

from lastseen.reports.answer import Figure
from lastseen.reports.question import Filter, Operator
from lastseen.reports.terms import Dimension, Metric
from lastseen.visits.visit import EndReason, Evidence, StartReason, Visit

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
METRICS = {
    Metric.VISITORS: "Visitors",
    Metric.VISITS: "Visits",
    Metric.PAGE_VIEWS: "Page views",
    Metric.EVENTS: "Events",
    Metric.BOUNCE_RATE: "Bounce rate",
    Metric.AVERAGE_DURATION: "Visit duration",
    Metric.MEDIAN_DURATION: "Median duration",
    Metric.ENGAGED_TIME: "Engaged time",
    Metric.AVERAGE_ENGAGED_TIME: "Engaged time a visit",
    Metric.ACTIVE_VISITORS: "Active visitors",
}
DIMENSIONS = {
    "source": "Source",
    "channel": "Channel",
    "referrer": "Referrer",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "Campaign",
    "page": "Page",
    "entry": "Entry page",
    "exit": "Exit page",
    "country": "Country",
    "region": "Region",
    "city": "City",
    "device": "Device",
    "browser": "Browser",
    "os": "System",
    "event": "Event",
}
START_REASONS = {
    StartReason.FIRST: "first visit",
    StartReason.TIMEOUT: "back after a silence",
    StartReason.MAX_DURATION: "the visit before had lasted too long",
    StartReason.CAMPAIGN: "another campaign",
    StartReason.REFERRER: "another referrer",
    StartReason.OTHER_USER: "another user",
    StartReason.ASKED: "started by hand",
    StartReason.ENDED: "the visit before was ended",
}
END_REASONS = {
    EndReason.TIMEOUT: "nothing happened for too long",
    EndReason.MAX_DURATION: "it had lasted too long",
    EndReason.CAMPAIGN: "another campaign",
    EndReason.REFERRER: "another referrer",
    EndReason.OTHER_USER: "another user",
    EndReason.ASKED: "ended by hand",
    EndReason.STARTED: "the next visit was started by hand",
}
_OPERATORS = {
    Operator.IS: "is",
    Operator.IS_NOT: "is not",
    Operator.CONTAINS: "contains",
    Operator.CONTAINS_NOT: "does not contain",
    Operator.ONE_OF: "is one of",
    Operator.NONE_OF: "is none of",
    Operator.KNOWN: "is known",
}


def figure_words(metric: Metric, value: Figure) -> str:
    """Say a figure with its unit; a figure of nothing is a dash."""
    if value is None:
        return NOTHING
    if metric.unit == "share":
        return f"{value:.0%}"
    return span_words(value) if metric.unit == "seconds" else f"{round(value):,}"


def span_words(seconds: float) -> str:
    """Say a span: `42s`, `3m 05s`, `2h 10m`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m {rest:02}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"  # noqa: PLR2004


def change_words(metric: Metric, now: Figure, before: Figure) -> tuple[str, str]:
    """Say how a figure changed against the period before, and whether that is `up`, `down` or neither.

    Of a share the difference is said in points. Fewer bounces count as better.
    """
    if now is None or before is None:
        return "no period before", ""
    if not before:
        return ("as before", "") if not now else ("none before", "")
    if metric.unit == "share":
        points = round((now - before) * 100)
        words, is_more = f"{points:+d} point{'' if abs(points) == 1 else 's'}", points > 0
        is_same = points == 0
    else:
        change = (now - before) / before
        words, is_more = f"{change:+.0%}", change > 0
        is_same = round(change * 100) == 0
    if is_same:
        return "as before", ""
    return words.replace("-", MINUS), "up" if is_more is not (metric is Metric.BOUNCE_RATE) else "down"


def filter_words(given: Filter) -> str:
    """Say a filter."""
    name = given.dimension.property_name or DIMENSIONS.get(given.dimension.name, given.dimension.name)
    if given.operator is Operator.UNKNOWN:
        return f"{name}: {given.dimension.without_value}"
    return " ".join((name, _OPERATORS[given.operator], ", ".join(given.values))).strip()


def value_words(dimension: str, value: str | None) -> str:
    """Say one value of a dimension."""
    if value is not None:
        return value or "(empty)"
    words = Dimension(dimension).without_value
    return words[0].upper() + words[1:]


def reason_words(words: str, evidence: Evidence | None) -> str:
    """Say why, with the two values that were compared."""
    if evidence is None or (evidence.before is None and evidence.after is None):
        return words
    return f"{words}: {evidence.before or 'nothing'} → {evidence.after or 'nothing'}"


def visit_facts(visit: Visit) -> str:
    """Say what is known of a visitor's machine and place."""
    device, geo = visit.device, visit.geo
    place = ", ".join(filter(None, (geo.city, geo.country))) if geo is not None else ""
    facts = (device.browser, device.os, place) if device is not None else (place,)
    return " · ".join(filter(None, facts))


def source_words(visit: Visit) -> str:
    """Say where a visit came from; without an address that is unknown, and nobody said that it came directly."""
    campaign = visit.utm.campaign or visit.utm.source if visit.utm is not None else None
    return " · ".join(filter(None, (visit.channel, campaign or visit.referrer_domain))) or value_words("channel", None)


def page_words(url: str | None) -> str:
    """Say the path of an address, or that there is none."""
    return urlsplit(url).path or "/" if url else value_words("page", None)


def days_words(first: date, last: date) -> str:
    """Say a range of days, the last one included."""
    return f"{first:%d %b %Y}" if first == last else f"{first:%d %b %Y} to {last:%d %b %Y}"


def zone_words(zone: str) -> str:
    """Say a time zone as people write it."""
    return zone.replace("_", " ")


def offset_words(span: timedelta) -> str:
    """Say how long after the start of a visit something happened."""
    return f"+{span_words(span.total_seconds())}"
