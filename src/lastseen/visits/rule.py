"""When a visit ends and another starts: the settings of the fold. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from lastseen.errors import ConfigurationError
from lastseen.visits.domains import domain_name

DEFAULT_TIMEOUT = timedelta(minutes=30)
DEFAULT_MAX_DURATION = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitRule:
    """The rule of one site; it is stored with the site, so that a rebuild folds as the ingest did.

    Thirty minutes and campaign changes are the rule of Google's Universal Analytics
    (https://support.google.com/analytics/answer/2731565), a day at most that of PostHog.
    """

    timeout: timedelta = DEFAULT_TIMEOUT
    """A silence *longer* than this splits; one of exactly this length does not."""
    max_duration: timedelta = DEFAULT_MAX_DURATION
    """An event *later* than this after the visit's start splits."""
    new_visit_on_referrer_change: bool = True
    """Split where the registrable domain of an event's referrer differs from that of the visit's; both known."""
    new_visit_on_utm_change: bool = True
    """Split where source, medium or campaign of an event differ from the visit's; both known."""
    count_server_events: bool = False
    """Let events of servers start and extend visits as those of browsers do, instead of attaching to the open one."""
    own_domains: frozenset[str] = frozenset()
    """Domains of the site itself: a referrer from there, or from a host below, is unknown, never a change."""
    excluded_referrers: frozenset[str] = frozenset()
    """Domains and hosts of payment and sign-on services, which visitors come back from; unknown, never a change.

    `stripe.com` is all of it, `checkout.stripe.com` that host and those below it.
    """

    def __post_init__(self) -> None:
        for name in ("timeout", "max_duration"):
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"{name} must be longer than nothing, not {getattr(self, name)}")
        for name in ("own_domains", "excluded_referrers"):
            object.__setattr__(self, name, frozenset(map(domain_name, getattr(self, name))))

    def __hash__(self) -> int:
        return hash((self.timeout, self.max_duration))
