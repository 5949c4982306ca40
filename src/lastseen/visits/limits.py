"""A rule in the units of the fold, and the texts that give its reasons. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from lastseen.visits.domains import host_names
from lastseen.visits.rule import VisitRule
from lastseen.visits.utm import UtmParams
from lastseen.visits.visit import Evidence

_MICROSECOND = timedelta(microseconds=1)
_MINUTES_UNTIL_HOURS = 60
_HOURS_UNTIL_DAYS = 48
_NOTHING = "-"
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
_MINUTES_OF_TWO_DAYS = 2_880
REMEMBERED = 1 << 13
"""So many texts of silences are kept for each rule."""


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
    unknown_hosts: frozenset[str]
    """Those of them that may be hosts below a registrable domain."""
    timeout_text: str
    max_duration_text: str
    silences: dict[int, Evidence]
    """Evidence of silences longer than the timeout, by their minutes, or by those of their whole hours."""


@lru_cache(maxsize=256)
def limits_of(rule: VisitRule) -> Limits:
    """Return the rule in the units of the fold; the same rule again costs next to nothing."""
    timeout, max_duration = rule.timeout // _MICROSECOND, rule.max_duration // _MICROSECOND
    timeout_text = span(timeout)
    unknown_domains = rule.own_domains | rule.excluded_referrers
    return Limits(
        timeout=timeout,
        max_duration=max_duration,
        timeout_text=timeout_text,
        max_duration_text=span(max_duration),
        splits_by_referrer=rule.new_visit_on_referrer_change,
        splits_by_campaign=rule.new_visit_on_utm_change,
        counts_servers=rule.count_server_events,
        unknown_domains=unknown_domains,
        unknown_hosts=host_names(unknown_domains),
        silences={},
    )


def span_beyond(micros: int, limit: int, limit_text: str) -> str:
    """Return a span as a text other than that of the limit that it exceeds: `31m 5s`, or `30m and 0.2s`."""
    text = span(micros)
    return f"{limit_text} and {span(micros - limit)}" if text == limit_text else text


def span(micros: int) -> str:
    """Return a span as text, its two greatest parts: `31m 5s`, `24h`, `3d 4h`; less than a second as `0.25s`."""
    minutes, seconds = divmod(micros // 1_000_000, 60)
    if minutes < _MINUTES_UNTIL_HOURS:
        if minutes:
            return f"{minutes}m {seconds}s" if seconds else f"{minutes}m"
        return f"{seconds}s" if seconds else f"{micros / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours < _HOURS_UNTIL_DAYS:
        if minutes:
            return f"{hours}h {minutes}m"
        return f"{hours}h {seconds}s" if seconds else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if hours else f"{days}d"


def evidence_of_silence(micros: int, limits: Limits) -> Evidence:
    """Return a silence and the timeout, which it exceeds, as texts that differ."""
    minutes = micros // MINUTE
    if minutes >= _MINUTES_OF_TWO_DAYS:
        minutes -= minutes % 60
    found = limits.silences.get(minutes)
    if found is None:
        found = Evidence(before=span_beyond(micros, limits.timeout, limits.timeout_text), after=limits.timeout_text)
        if minutes > limits.timeout // MINUTE and _is_told_by_minutes(minutes) and len(limits.silences) < REMEMBERED:
            limits.silences[minutes] = found
    return found


def _is_told_by_minutes(minutes: int) -> bool:
    """Return whether `span` tells no seconds."""
    return minutes >= _MINUTES_OF_TWO_DAYS or (minutes > _MINUTES_UNTIL_HOURS and minutes % 60 != 0)


def evidence_of_length(micros: int, limits: Limits) -> Evidence:
    """Return the length of a visit and the maximum, which it exceeds, as texts that differ."""
    text = limits.max_duration_text
    return Evidence(before=span_beyond(micros, limits.max_duration, text), after=text)


def campaign_text(utm: UtmParams) -> str:
    """Return source, medium and campaign as they were sent: `google / cpc / spring`."""
    return " / ".join(part or _NOTHING for part in (utm.source, utm.medium, utm.campaign))
