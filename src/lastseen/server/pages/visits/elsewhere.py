"""Where the visits are, when the days that are shown have none: after the import of an old log, these are long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from lastseen.reports.period import Period
from lastseen.server.pages.visits.view import View
from lastseen.visits.store import VisitOrder, VisitQuery, VisitStore
from lastseen.visits.visit import Visit

SPAN = timedelta(days=30)
"""The latest visits are those of so many days up to the newest one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """Days that have visits, in words, and the address that shows them."""

    words: str
    href: str


def latest_visits(visits: VisitStore, view: View, period: Period, *, bots: bool | None) -> Elsewhere | None:
    """Return where the latest visits are; None where there are none, or where they are in this very period."""
    newest = _one(visits, VisitQuery(site_id=view.site, order=VisitOrder.NEWEST, bots=bots, limit=1))
    if newest is None or period.start <= newest.started_at < period.end:
        return None
    since = newest.started_at - SPAN
    oldest = _one(
        visits, VisitQuery(site_id=view.site, order=VisitOrder.OLDEST, started_from=since, bots=bots, limit=1)
    )
    first, last = (visit.started_at.astimezone(period.zone).date() for visit in (oldest or newest, newest))
    words = f"from {first:%d %b %Y} to {last:%d %b %Y}" if first != last else f"of {last:%d %b %Y}"
    return Elsewhere(words=words, href=view.address(last=None, first_day=first, last_day=last))


def _one(visits: VisitStore, query: VisitQuery) -> Visit | None:
    return next(iter(visits.list_visits(query)), None)
