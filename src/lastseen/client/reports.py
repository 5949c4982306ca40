"""Figures about visits and events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from lastseen.client.call import Call
from lastseen.reports.period import Compare
from lastseen.reports.question import Bots, Filter
from lastseen.reports.terms import Metric
from lastseen.reports.text import write_filter
from lastseen.wire.reports import ReportView


def ask(
    subject: str,
    *,
    metrics: Sequence[Metric | str] = (),
    by: Sequence[str] = (),
    filters: Sequence[Filter | str] = (),
    last: str | None = None,
    since: date | datetime | None = None,
    until: date | datetime | None = None,
    time_zone: str | None = None,
    compare: Compare | None = None,
    order: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    bots: Bots | None = None,
    site: str | None = None,
) -> Call[ReportView]:
    """Ask for a report about `visits`, `events` or `active`; see the documentation of reports for what can be asked.

    A filter is `country:is:DE`, or a `Filter`. `until` is the first moment that does not count any more.
    """
    query = {
        "metrics": ",".join(metrics) or None,
        "by": ",".join(by) or None,
        "filter": tuple(each if isinstance(each, str) else write_filter(each) for each in filters),
        "last": last,
        "from": since,
        "to": until,
        "time_zone": time_zone,
        "compare": compare,
        "order": order,
        "limit": limit,
        "offset": offset,
        "bots": bots,
        "site": site,
    }
    return Call(
        operation="GetReport",
        method="GET",
        template="/api/v1/reports/{subject}",
        answer=ReportView,
        path={"subject": subject},
        query=query,
    )
