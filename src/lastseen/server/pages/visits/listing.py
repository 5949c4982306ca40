"""All visits, the latest first."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from litestar import Request, get
from litestar.datastructures import State
from litestar.response import Template

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.server.pages.frame import show, show_problem
from lastseen.server.pages.relative import relative
from lastseen.server.pages.visits.addresses import VISITS
from lastseen.server.pages.visits.rows import visit_rows
from lastseen.server.problem import Problem
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.store import VisitQuery

PAGE_SIZE = 50
_KINDS = {"people": ("People", False), "bots": ("Bots", True), "all": ("All", None)}


@get(
    "/visits/list",
    needs=Scope.VISITS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    exception_handlers={Exception: show_problem},
)
def show_visits(  # noqa: PLR0917 - Litestar fills them by name
    request: Request[None, None, State],
    seen: LastSeen,
    site: str = DEFAULT_SITE_ID,
    visitor: str = "",
    kind: str = "people",
    after: str = "",
) -> Template:
    """Show one page of visits."""
    if kind not in _KINDS:
        raise Problem.bad_parameter("kind", f"one of {', '.join(_KINDS)}, not {kind[:100]!r}")
    found_site = seen.sites.get(site)
    fields = {"site": site, "visitor": visitor, "kind": kind}
    query = VisitQuery(
        site_id=site,
        visitor_id=visitor or None,
        bots=_KINDS[kind][1],
        after=_place(after),
        limit=PAGE_SIZE + 1,
    )
    found = seen.store.visits.list_visits(query)
    shown = found[:PAGE_SIZE]
    more = {**fields, "after": f"{shown[-1].start}.{shown[-1].id}"} if len(found) > PAGE_SIZE else None
    now = utc(SYSTEM_CLOCK.now())
    return show(
        request,
        "visit_list.html",
        site=site,
        visitor=visitor,
        cursor=after,
        visits=visit_rows(shown, found_site.rule, now),
        first=_address(fields),
        next=None if more is None else _address(more),
        kinds=[
            {"label": label, "href": _address({**fields, "kind": key}), "current": key == kind}
            for key, (label, _) in _KINDS.items()
        ],
        api=f"{VISITS}?{urlencode({name: value for name, value in _api_fields(site, visitor, kind).items() if value})}",
        relative=lambda moment: relative(moment, now),
    )


def _api_fields(site: str, visitor: str, kind: str) -> dict[str, Any]:
    return {"site": site, "visitor": visitor, "bots": {"people": "without", "bots": "only", "all": "with"}[kind]}


def _address(fields: dict[str, str]) -> str:
    usual = {"site": DEFAULT_SITE_ID, "kind": "people"}
    query = urlencode({name: value for name, value in fields.items() if value and usual.get(name) != value})
    return f"/visits/list?{query}" if query else "/visits/list"


def _place(after: str) -> tuple[int, str] | None:
    start, mark, visit_id = after.partition(".")
    if not after:
        return None
    if not mark or not start.removeprefix("-").isdecimal():
        raise Problem.bad_parameter("after", "follow the link to the next page; this is none that a page has shown")
    return int(start), visit_id
