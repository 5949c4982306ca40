"""`GET /api/v1/reports/…`: figures about visits and events."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from litestar import Controller, MediaType, Response, get
from litestar.params import Parameter, QueryParameter

from lastseen.app import LastSeen
from lastseen.devices.key import Scope
from lastseen.reports.export import table_of, to_json
from lastseen.reports.period import Compare
from lastseen.reports.question import MAX_LIMIT, MAX_OFFSET, Bots, Operator, Question
from lastseen.reports.terms import DIMENSIONS, InvalidQuestion, Metric
from lastseen.reports.text import read_question, split_names
from lastseen.server.api.exports import ExportOperation, Format, file_of
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.wire.reports import ReportView


class Subject(StrEnum):
    """What a report is about."""

    VISITS = "visits"
    EVENTS = "events"
    ACTIVE = "active"


Metrics = Annotated[str | None, Parameter(description=f"names with commas between: {', '.join(Metric)}")]
By = Annotated[str | None, Parameter(description=f"names with commas between: {', '.join(DIMENSIONS)}, property:NAME")]
Filters = Annotated[
    list[str] | None,
    QueryParameter(
        name="filter",
        description="dimension:operator:value, may be repeated; a|b for several values of one_of and none_of. "
        f"The operators are {', '.join(Operator)}",
    ),
]
Last = Annotated[str | None, Parameter(description="24h, 30d or 12w; whole days end with today")]
From = Annotated[str | None, QueryParameter(name="from", description="a date, or a moment")]
To = Annotated[str | None, QueryParameter(name="to", description="a date, or a moment; it is left out itself")]
Zone = Annotated[str, Parameter(description="IANA name, such as Europe/Berlin")]
Sorting = Annotated[str | None, Parameter(description="a metric or dimension; - before it for the largest first")]
Limit = Annotated[int, Parameter(ge=1, le=MAX_LIMIT, description="how many rows")]
Offset = Annotated[int, Parameter(ge=0, le=MAX_OFFSET, description="how many rows are passed over")]
SiteId = Annotated[str | None, Parameter(description="the site; default unless the key belongs to one")]


class ReportsController(Controller):
    """Reads only; the copy that answers is at most two seconds behind."""

    path = "/reports"
    tags = ("reports",)

    @get(
        "/{subject:str}",
        needs=Scope.REPORTS_READ,
        sync_to_thread=True,
        summary="Ask for figures about visits and events",
        operation_id="GetReport",
        operation_class=ExportOperation,
    )
    def report(  # noqa: PLR0917 - Litestar fills them by name
        self,
        seen: LastSeen,
        principal: Principal,
        subject: str,
        metrics: Metrics = None,
        by: By = None,
        filters: Filters = None,
        last: Last = None,
        since: From = None,
        until: To = None,
        time_zone: Zone = "UTC",
        compare: Compare | None = None,
        order: Sorting = None,
        limit: Limit = 100,
        offset: Offset = 0,
        bots: Bots = Bots.WITHOUT,
        site: SiteId = None,
        format: Format = Format.JSON,  # noqa: A002 - the name of the parameter
    ) -> Response[ReportView]:
        """Return metrics of visits, events or active visitors, broken down, filtered and compared."""
        if subject not in list(Subject):
            raise Problem(404, f"there is no report {subject[:50]!r}; there are {', '.join(Subject)}")
        try:
            question = read_question(
                subject,
                metrics=split_names(metrics),
                by=split_names(by),
                filters=filters or (),
                last=last,
                since=since,
                until=until,
                time_zone=time_zone,
                compare=compare,
                order=order,
                limit=limit,
                offset=offset,
                bots=bots,
                site=_site_of(principal, site),
            )
            seen.sites.get(question.site)
            return _answer(seen, question, format)
        except InvalidQuestion as error:
            raise Problem.bad_parameter(error.part, error.message) from error


def _site_of(principal: Principal, site: str | None) -> str:
    if principal.site_id is None:
        return DEFAULT_SITE_ID if site is None else site
    if site not in {None, principal.site_id}:
        raise Problem(404, "there is no such site")
    return principal.site_id


def _answer(seen: LastSeen, question: Question, form: Format) -> Response[ReportView]:
    answer = seen.reports.ask(question)
    if form is Format.JSON:
        return Response(msgspec.json.decode(to_json(answer), type=ReportView), media_type=MediaType.JSON)
    return file_of(table_of(answer), question.site, form)
