"""What visitors did, and in which visit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from lastseen.client.call import Call
from lastseen.reports.question import Bots, Filter
from lastseen.reports.text import write_filter
from lastseen.visits.store import VisitOrder
from lastseen.visits.visit import StartReason
from lastseen.wire.visits import EventList, VisitCount, VisitDetails, VisitList

PATH = "/api/v1/visits"


def list(  # noqa: A001 - read as visits.list
    *,
    site: str | None = None,
    visitor: str | None = None,
    filters: Sequence[Filter | str] = (),
    last: str | None = None,
    since: date | datetime | None = None,
    until: date | datetime | None = None,
    time_zone: str | None = None,
    start_reason: StartReason | None = None,
    entry: str | None = None,
    bots: Bots | None = None,
    order: VisitOrder | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[VisitList]:
    """Ask for one page of visits, the latest first; `visitor` is any id of a visitor, moments are aware.

    With `filters`, `last` or `time_zone` they are those that a report with the same ones counts.
    """
    query = {
        "site": site,
        "visitor": visitor,
        "filter": tuple(each if isinstance(each, str) else write_filter(each) for each in filters),
        "last": last,
        "from": since,
        "to": until,
        "time_zone": time_zone,
        "start_reason": start_reason,
        "entry": entry,
        "bots": bots,
        "order": order,
        "limit": limit,
        "cursor": cursor,
    }
    return Call(operation="ListVisits", method="GET", template=PATH, answer=VisitList, query=query)


def count(
    *,
    site: str | None = None,
    visitor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    bots: Bots | None = None,
) -> Call[VisitCount]:
    """Ask how many visits there are."""
    query = {"site": site, "visitor": visitor, "from": since, "to": until, "bots": bots}
    return Call(operation="CountVisits", method="GET", template=f"{PATH}/count", answer=VisitCount, query=query)


def get(visit_id: str, *, site: str | None = None) -> Call[VisitDetails]:
    """Ask for one visit and its events, by its id or that of any event in it."""
    return Call(
        operation="GetVisit",
        method="GET",
        template=f"{PATH}/{{visit_id}}",
        answer=VisitDetails,
        path={"visit_id": visit_id},
        query={"site": site},
    )


def events(
    *,
    site: str | None = None,
    distinct_id: str | None = None,
    name: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[EventList]:
    """Ask for one page of events, the latest first."""
    query = {
        "site": site,
        "distinct_id": distinct_id,
        "name": name,
        "from": since,
        "to": until,
        "limit": limit,
        "cursor": cursor,
    }
    return Call(operation="ListEvents", method="GET", template="/api/v1/events", answer=EventList, query=query)
