"""`GET /api/v1/visits…` and `/api/v1/events`: what visitors did, and in which visit."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import unquote

import msgspec
from litestar import Controller, Response, get
from litestar.params import Parameter, QueryParameter

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.errors import InvalidCursor
from lastseen.reports.copy import Place
from lastseen.reports.question import Bots, Question
from lastseen.reports.terms import InvalidQuestion, Metric
from lastseen.reports.text import read_question
from lastseen.server.api.asking import Cursor, Limit
from lastseen.server.api.exports import Export, ExportOperation
from lastseen.server.api.reports import Filters, Last
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.stores.text import can_be_stored
from lastseen.visits.event import MAX_ID_LENGTH
from lastseen.visits.site import DEFAULT_SITE_ID, Site
from lastseen.visits.store import EventQuery, VisitOrder, VisitQuery
from lastseen.visits.visit import StartReason, Visit
from lastseen.wire.visits import EventList, EventView, VisitCount, VisitDetails, VisitList, VisitView

SiteParameter = Annotated[str | None, Parameter(max_length=63, description="the site; `default` where none is named")]
Visitor = Annotated[
    str | None, Parameter(min_length=1, max_length=MAX_ID_LENGTH, description="any id of the visitor, or the user's")
]
Name = Annotated[str | None, Parameter(min_length=1, max_length=MAX_ID_LENGTH, description="only events of this name")]
Entry = Annotated[str | None, Parameter(min_length=1, max_length=2_000, description="text in the entry's address")]
# Texts here: as a datetime, Litestar would take `2026` for the seconds since 1970.
_MOMENT = {"format": "date-time"}
From = Annotated[str | None, QueryParameter(name="from", description="at or after; ISO 8601", schema_extra=_MOMENT)]
Before = Annotated[str | None, QueryParameter(name="to", description="before; ISO 8601", schema_extra=_MOMENT)]
_OR_DAY = "ISO 8601; beside filter, last or time_zone a day too"
VisitsFrom = Annotated[str | None, QueryParameter(name="from", description=f"at or after; {_OR_DAY}")]
VisitsBefore = Annotated[str | None, QueryParameter(name="to", description=f"before; {_OR_DAY}")]
Zone = Annotated[str | None, Parameter(description="of the days; IANA name, such as Europe/Berlin")]
BotsParameter = Annotated[Bots, Parameter(description="whether what programs did is listed")]

_BOTS = {Bots.WITHOUT: False, Bots.ONLY: True, Bots.WITH: None}


class VisitsController(Controller):
    """Visits and events of one site. A key that belongs to a site finds that one alone."""

    tags = ("visits",)

    @get(
        "/visits",
        needs=Scope.VISITS_READ,
        sync_to_thread=True,
        summary="List visits",
        operation_id="ListVisits",
        operation_class=ExportOperation,
    )
    def list_visits(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        principal: Principal,
        export: Export,
        site: SiteParameter = None,
        visitor: Visitor = None,
        filters: Filters = None,
        last: Last = None,
        since: VisitsFrom = None,
        until: VisitsBefore = None,
        time_zone: Zone = None,
        start_reason: StartReason | None = None,
        entry: Entry = None,
        bots: BotsParameter = Bots.WITHOUT,
        order: VisitOrder = VisitOrder.NEWEST,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response[VisitList]:
        """Return one page of visits, the latest first unless asked otherwise.

        With `filter`, `last` or `time_zone` they are those that a report with the same parameters counts: of the last
        30 days unless others are named, and `from` and `to` may be days.
        """
        found_site, place = find_site(seen, principal, site), _place(cursor)
        if filters is None and last is None and time_zone is None:
            query = VisitQuery(
                site_id=found_site.id,
                visitor_id=visitor,
                started_from=_moment("from", since),
                started_before=_moment("to", until),
                start_reason=start_reason,
                url=entry,
                bots=_BOTS[bots],
                order=order,
                after=place,
                limit=limit + 1,
            )
            found: Sequence[Visit] = seen.store.visits.list_visits(query)
            has_more = len(found) > limit
        else:
            _refuse_beside_filters(visitor=visitor, start_reason=start_reason, entry=entry, order=order)
            with _naming_parts():
                question = read_question(
                    "visits",
                    metrics=[Metric.VISITS],
                    filters=filters or (),
                    last=last,
                    since=since,
                    until=until,
                    time_zone=time_zone or "UTC",
                    bots=bots,
                    site=found_site.id,
                )
                found, has_more = counted_visits(seen, question, limit, after=place)
        shown, now = found[:limit], utc(SYSTEM_CLOCK.now())
        following = None
        if has_more and shown:
            end = shown[-1]
            following = _cursor(end.last_activity if order is VisitOrder.LAST_ACTIVE else end.start, end.id)
        views = [VisitView.of(visit, found_site.rule, now) for visit in shown]
        return export(VisitList(visits=views, next_cursor=following))

    @get(
        "/visits/count",
        needs=Scope.VISITS_READ,
        sync_to_thread=True,
        summary="Count visits",
        operation_id="CountVisits",
    )
    def count_visits(  # noqa: PLR0917 - as above
        self,
        seen: LastSeen,
        principal: Principal,
        site: SiteParameter = None,
        visitor: Visitor = None,
        since: From = None,
        until: Before = None,
        bots: BotsParameter = Bots.WITHOUT,
    ) -> VisitCount:
        """Return how many visits there are; reports answer anything finer."""
        query = VisitQuery(
            site_id=find_site(seen, principal, site).id,
            visitor_id=visitor,
            started_from=_moment("from", since),
            started_before=_moment("to", until),
            bots=_BOTS[bots],
        )
        return VisitCount(count=seen.store.visits.count_visits(query))

    @get(
        "/visits/{visit_id:str}",
        needs=Scope.VISITS_READ,
        sync_to_thread=True,
        summary="Show one visit",
        operation_id="GetVisit",
        operation_class=ExportOperation,
    )
    def show(
        self, seen: LastSeen, principal: Principal, export: Export, visit_id: str, site: SiteParameter = None
    ) -> Response[VisitDetails]:
        """Return a visit and its timeline, by its id or that of any event in it, percent-encoded as one segment.

        As a file it is the timeline: a row for each event.
        """
        found_site = find_site(seen, principal, site)
        name = unquote(visit_id, errors="surrogateescape")
        visit = seen.store.visits.get(found_site.id, name) if _is_id(name) else None
        if visit is None:
            raise Problem(404, "there is no such visit")
        events = seen.store.visits.events_of(visit)
        view = VisitView.of(visit, found_site.rule, utc(SYSTEM_CLOCK.now()))
        return export(VisitDetails(visit=view, events=[EventView.of(event) for event in events]))

    @get(
        "/events",
        needs=Scope.VISITS_READ,
        sync_to_thread=True,
        summary="List events",
        operation_id="ListEvents",
        operation_class=ExportOperation,
    )
    def list_events(  # noqa: PLR0917 - as above
        self,
        seen: LastSeen,
        principal: Principal,
        export: Export,
        site: SiteParameter = None,
        distinct_id: Visitor = None,
        name: Name = None,
        since: From = None,
        until: Before = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response[EventList]:
        """Return one page of events, the latest first."""
        query = EventQuery(
            site_id=find_site(seen, principal, site).id,
            distinct_id=distinct_id,
            name=name,
            happened_from=_moment("from", since),
            happened_before=_moment("to", until),
            after=_place(cursor),
            limit=limit + 1,
        )
        found = seen.store.visits.list_events(query)
        shown = found[:limit]
        following = _cursor(*shown[-1].order) if len(found) > limit else None
        return export(EventList(events=[EventView.of(event) for event in shown], next_cursor=following))


def counted_visits(
    seen: LastSeen, question: Question, limit: int, *, after: Place | None = None
) -> tuple[list[Visit], bool]:
    """Return the visits that a question counts, those that began last first, and whether there are more."""
    ids = seen.reports.latest(question, limit + 1, after=after)
    # One that was erased since the copy looked is left out.
    found = (seen.store.visits.get(question.site, visit_id) for visit_id in ids[:limit])
    return [visit for visit in found if visit is not None], len(ids) > limit


def find_site(seen: LastSeen, principal: Principal, site_id: str | None) -> Site:
    """Return the site that a request names, or the principal's own; 404 for one that is not there for it."""
    site_id = site_id or principal.site_id or DEFAULT_SITE_ID
    if principal.site_id not in {None, site_id}:
        raise Problem(404, "there is no such site")
    return seen.sites.get(site_id)


def _is_id(text: str) -> bool:
    # Clients choose the ids of their events, also such as nobody would print.
    return 0 < len(text) <= MAX_ID_LENGTH and can_be_stored(text)


def _refuse_beside_filters(*, order: VisitOrder, **others: str | None) -> None:
    """Refuse what reports know nothing of."""
    given = [name for name, value in others.items() if value is not None]
    given += ["order"] if order is not VisitOrder.NEWEST else []
    if given:
        raise Problem.bad_parameter(given[0], "goes with none of filter, last and time_zone; leave it or these out")


@contextlib.contextmanager
def _naming_parts() -> Iterator[None]:
    try:
        yield
    except InvalidQuestion as error:
        raise Problem.bad_parameter(error.part, error.message) from error


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise Problem.bad_parameter(name, "must be a moment in ISO 8601, such as 2026-01-31T00:00:00Z") from error
    if moment.tzinfo is None:
        raise Problem.bad_parameter(name, "say the offset from UTC too, such as 2026-01-31T00:00:00Z")
    return moment


def _cursor(at: int, thing_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at}.{thing_id}".encode()).decode().rstrip("=")


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        at, _, thing_id = text.partition(".")
        place = int(at), thing_id
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("this cursor is none that a listing has returned; start again without it") from error
    if not _is_id(thing_id) or abs(place[0]) > 1 << 62:
        raise InvalidCursor("this cursor is none that a listing has returned; start again without it")
    return place
