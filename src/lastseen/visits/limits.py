"""A rule in the units of the fold, and the texts that give its reasons. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams

_MICROSECOND = timedelta(microseconds=1)
_UNITS = ((24 * 3_600, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_HOURS_UNTIL_DAYS = 48
_NOTHING = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """A `VisitRule` with its spans in microseconds and its domains in one set."""

    timeout: int
    max_duration: int
    splits_by_referrer: bool
    splits_by_campaign: bool
    counts_servers: bool
    unknown_domains: frozenset[str]
    """Referrers from here say nothing about where a visitor came from."""


@lru_cache(maxsize=256)
def limits_of(rule: VisitRule) -> Limits:
    """Return the rule in the units of the fold; the same rule again costs next to nothing."""
    return Limits(
        timeout=rule.timeout // _MICROSECOND,
        max_duration=rule.max_duration // _MICROSECOND,
        splits_by_referrer=rule.new_visit_on_referrer_change,
        splits_by_campaign=rule.new_visit_on_utm_change,
        counts_servers=rule.count_server_events,
        unknown_domains=rule.own_domains | rule.excluded_referrers,
    )


def span_and_limit(micros: int, limit: int) -> tuple[str, str]:
    """Return a span and the limit that it exceeds as texts, `31m 5s` and `30m`; never the same text twice."""
    text, bound = span(micros), span(limit)
    if text == bound:
        text = f"{bound} and {span(micros - limit)}"
    return text, bound


def span(micros: int) -> str:
    """Return a span as text, its two greatest parts: `31m 5s`, `24h`, `3d 4h`; less than a second as `0.25s`."""
    seconds = micros // 1_000_000
    if not seconds:
        return f"{micros / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s"
    parts = []
    for size, unit in _UNITS[seconds < _HOURS_UNTIL_DAYS * 3_600 :]:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def campaign_text(utm: UtmParams) -> str:
    """Return source, medium and campaign as they were sent: `google / cpc / spring`."""
    return " / ".join(part or _NOTHING for part in (utm.source, utm.medium, utm.campaign))
