"""Sites: the namespaces of events and visits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.visits.rule import VisitRule
from lastseen.visits.site import MAX_DOMAINS, MAX_NAME_LENGTH, Site
from lastseen.wire.devices import NO_CONTROLS

SiteId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="lower-case letters, digits and inner hyphens; it never changes",
    ),
]
SiteName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NO_CONTROLS)]
Domain = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2_000,
        pattern=NO_CONTROLS,
        description="such as example.org; case, www., scheme, port and path do not matter, and it is kept without them",
    ),
]
Domains = Annotated[list[Domain], Meta(max_length=MAX_DOMAINS)]
Span = Annotated[float, Meta(gt=0, le=366 * 86_400, description="seconds")]


class RuleView(Struct, kw_only=True):
    """When a visit ends and another starts."""

    timeout_seconds: float
    """A silence longer than this begins another visit."""
    max_duration_seconds: float
    """An event later than this after the start begins another visit."""
    new_visit_on_referrer_change: bool
    new_visit_on_utm_change: bool
    count_server_events: bool
    """Events of servers start and extend visits as those of browsers do."""
    excluded_referrers: list[str]
    """Domains and hosts that visitors come back from, of payment and sign-on: never a change."""

    @classmethod
    def of(cls, rule: VisitRule) -> RuleView:
        """Return what is shown of a rule."""
        return cls(
            timeout_seconds=rule.timeout.total_seconds(),
            max_duration_seconds=rule.max_duration.total_seconds(),
            new_visit_on_referrer_change=rule.new_visit_on_referrer_change,
            new_visit_on_utm_change=rule.new_visit_on_utm_change,
            count_server_events=rule.count_server_events,
            excluded_referrers=sorted(rule.excluded_referrers),
        )


class RuleChanges(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about the rule; what is left out stays."""

    timeout_seconds: Span | UnsetType = UNSET
    max_duration_seconds: Span | UnsetType = UNSET
    new_visit_on_referrer_change: bool | UnsetType = UNSET
    new_visit_on_utm_change: bool | UnsetType = UNSET
    count_server_events: bool | UnsetType = UNSET
    excluded_referrers: Domains | UnsetType = UNSET


def changed_rule(rule: VisitRule, changes: RuleChanges) -> VisitRule:
    """Return the rule with what is set of the changes."""
    given: dict[str, Any] = {
        name: getattr(changes, name)
        for name in ("new_visit_on_referrer_change", "new_visit_on_utm_change", "count_server_events")
        if getattr(changes, name) is not UNSET
    }
    for name in ("timeout", "max_duration"):
        seconds = getattr(changes, f"{name}_seconds")
        if seconds is not UNSET:
            given[name] = timedelta(seconds=max(seconds, 0.001))
    if changes.excluded_referrers is not UNSET:
        given["excluded_referrers"] = frozenset(changes.excluded_referrers)
    return replace(rule, **given)


class NewSite(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A site to be made; what the rule leaves out is as the server's settings have it."""

    id: SiteId
    name: SiteName | UnsetType = UNSET
    """Without it, the id."""
    domains: Domains = []
    rule: RuleChanges | UnsetType = UNSET


class SiteChanges(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about a site; what is left out stays.

    A new rule holds for what comes in from now on; earlier visits change only when they are rebuilt.
    """

    name: SiteName | UnsetType = UNSET
    domains: Domains | UnsetType = UNSET
    rule: RuleChanges | UnsetType = UNSET


class SiteView(Struct, kw_only=True):
    """One site; moments are UTC."""

    id: str
    name: str
    domains: list[str]
    write_key: str
    """Public: it stands in every page that sends events."""
    rule: RuleView
    created_at: datetime

    @classmethod
    def of(cls, site: Site) -> SiteView:
        """Return what is shown of a site; its import secret never is."""
        return cls(
            id=site.id,
            name=site.name,
            domains=list(site.domains),
            write_key=site.write_key,
            rule=RuleView.of(site.rule),
            created_at=site.created_at,
        )


class SiteList(Struct, kw_only=True):
    """One page of sites, by id; `next_cursor` is null on the last."""

    sites: list[SiteView]
    next_cursor: str | None
