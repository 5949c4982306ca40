"""The API's address of what a page shows, for programs and for spreadsheets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from lastseen.reports.question import Question
from lastseen.reports.text import write_filter
from lastseen.settings import format_span

Link = tuple[str, str]
"""What it is called, and its address."""

REPORTS = "/api/v1/reports"
VISITS = "/api/v1/visits"


def exports(question: Question) -> Sequence[Link]:
    """Return the addresses of the answer to a question, in every form that the API has."""
    fields = [
        ("site", question.site),
        ("metrics", ",".join(question.metrics)),
        ("by", ",".join(dimension.name for dimension in question.by)),
        ("last", format_span(question.last) if question.last else ""),
        ("from", question.since.isoformat() if question.since else ""),
        ("to", question.until.isoformat() if question.until else ""),
        ("time_zone", question.time_zone),
        ("compare", question.compare.value if question.compare else ""),
        ("bots", question.bots.value),
        ("limit", str(question.limit)),
        *(("filter", write_filter(each)) for each in question.filters),
    ]
    address = f"{REPORTS}/visits?{urlencode([(name, value) for name, value in fields if value])}"
    return (("JSON", address), ("CSV", f"{address}&format=csv"), ("Parquet", f"{address}&format=parquet"))
