"""All visits, the latest first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from litestar import Request, get
from litestar.datastructures import State
from litestar.response import Template

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.reports.question import Bots, find_zone
from lastseen.reports.terms import Metric
from lastseen.server.api.visits import counted_visits
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import show, show_problem
from lastseen.server.pages.relative import relative
from lastseen.server.pages.visits.addresses import VISITS, visit_exports
from lastseen.server.pages.visits.rows import visit_rows
from lastseen.server.pages.visits.view import View, days_of
from lastseen.server.pages.visits.words import days_words, filter_words
from lastseen.server.problem import Problem
from lastseen.visits.store import VisitQuery
from lastseen.visits.visit import Visit

PAGE_SIZE = 50
KINDS = ((Bots.WITHOUT, "People"), (Bots.ONLY, "Bots"), (Bots.WITH, "All"))
_BOTS = {Bots.WITHOUT: False, Bots.ONLY: True, Bots.WITH: None}
_NO_VISITS = {
    Bots.WITHOUT: "No visits of people yet.",
    Bots.ONLY: "No visits of bots yet.",
    Bots.WITH: "No visits yet.",
}
_CHOOSING = frozenset({"filter", "from", "last"})
"""What of an address leaves visits out."""
_IS_MOMENT = re.compile("-?[0-9]{1,18}", re.ASCII).fullmatch
"""Microseconds; of many thousand digits Python makes no number."""


@get(
    "/visits/list",
    needs=Scope.VISITS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    exception_handlers={Exception: show_problem},
)
def show_visits(request: Request[None, None, State], seen: LastSeen, visitor: str = "", after: str = "") -> Template:
    """Show one page of visits: all of a site or of a visitor, or those that a view with filters or days counts."""
    view = View.of(list(request.query_params.multi_items()))
    site = seen.sites.get(view.site)
    chosen = not visitor and bool(_CHOOSING.intersection(request.query_params))
    place = _place(after)
    if chosen:
        found: Sequence[Visit]
        found, has_more = counted_visits(seen, view.question(Metric.VISITS), PAGE_SIZE, after=place)
    else:
        query = VisitQuery(
            site_id=site.id, visitor_id=visitor or None, bots=_BOTS[view.bots], after=place, limit=PAGE_SIZE + 1
        )
        found = seen.store.visits.list_visits(query)
        has_more = len(found) > PAGE_SIZE
    shown = found[:PAGE_SIZE]
    now, zone = utc(SYSTEM_CLOCK.now()), find_zone(view.zone)
    more = {"after": f"{shown[-1].start}.{shown[-1].id}"} if has_more and shown else None
    of_visitor = {"visitor": visitor} if visitor else {}
    return show(
        request,
        "visit_list.html",
        site=site.id,
        visitor=visitor,
        cursor=after,
        visits=visit_rows(shown, site.rule, now, view.zone),
        empty_list=_none(view, is_part=chosen or bool(visitor or after)),
        back=view.address(),
        filters=[filter_words(given) for given in view.filters] if chosen else [],
        days=days_words(*days_of(view.question(Metric.VISITS).period(now))) if chosen else "",
        everything=_everything(view),
        first=view.list_address(**of_visitor),
        next=None if more is None else view.list_address(**of_visitor, **more),
        kinds=[
            {
                "label": label,
                "href": replace(view, bots=kind).list_address(**of_visitor),
                "current": kind is view.bots,
            }
            for kind, label in KINDS
        ],
        exports=visit_exports(view.question(Metric.VISITS))
        if chosen
        else list_exports(VISITS, [("site", site.id), *of_visitor.items(), ("bots", view.bots.value)]),
        relative=lambda moment: relative(moment, now),
        local=lambda moment: moment.astimezone(zone),
    )


def _everything(view: View) -> str:
    return View(site=view.site, zone=view.zone, bots=view.bots).list_address()


def _none(view: View, *, is_part: bool) -> dict[str, str]:
    """Return what an empty list says, and where its link leads."""
    if is_part:
        return {"words": "No visit matches.", "link": "Show all visits", "href": _everything(view)}
    return {"words": _NO_VISITS[view.bots], "link": "How to count the first one", "href": view.address()}


def _place(after: str) -> tuple[int, str] | None:
    start, mark, visit_id = after.partition(".")
    if not after:
        return None
    if not mark or not _IS_MOMENT(start):
        raise Problem.bad_parameter("after", "follow the link to the next page; this is none that a page has shown")
    return int(start), visit_id
