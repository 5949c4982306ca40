"""The API's address of what a page about visits shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lastseen.reports.question import Question
from lastseen.reports.text import write_filter
from lastseen.server.pages.exports import Link, exports, list_exports
from lastseen.settings import format_span

REPORTS = "/api/v1/reports"
VISITS = "/api/v1/visits"


def report_exports(question: Question) -> Sequence[Link]:
    """Return the addresses of the answer to a question, in every form that the API has."""
    fields = [
        ("metrics", ",".join(question.metrics)),
        ("by", ",".join(dimension.name for dimension in question.by)),
        ("compare", question.compare.value if question.compare else ""),
        ("limit", str(question.limit)),
        *_chosen(question),
    ]
    return exports(f"{REPORTS}/visits", fields)


def visit_exports(question: Question) -> Sequence[Link]:
    """Return the addresses of the visits that a question counts."""
    return list_exports(VISITS, _chosen(question))


def _chosen(question: Question) -> Iterator[tuple[str, str]]:
    """Yield what says which visits are counted."""
    yield "site", question.site
    yield "last", format_span(question.last) if question.last else ""
    yield "from", question.since.isoformat() if question.since else ""
    yield "to", question.until.isoformat() if question.until else ""
    yield "time_zone", question.time_zone
    yield "bots", question.bots.value
    for each in question.filters:
        yield "filter", write_filter(each)
