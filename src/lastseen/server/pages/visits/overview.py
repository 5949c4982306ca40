"""The overview: figures over time, where visitors came from, what they saw; complete without a script, live with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from litestar import Request, get
from litestar.datastructures import State

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, utc
from lastseen.devices.key import Scope
from lastseen.reports.question import Bots, find_zone
from lastseen.reports.terms import Metric
from lastseen.server.api.visits import counted_visits
from lastseen.server.pages.exports import list_exports
from lastseen.server.pages.frame import show_problem
from lastseen.server.pages.hint import event_line, script_line
from lastseen.server.pages.live import Page, show_live, show_part, with_tag
from lastseen.server.pages.visits.addresses import VISITS, visit_exports
from lastseen.server.pages.visits.elsewhere import latest_visits
from lastseen.server.pages.visits.panels import chart_of, panel_of, panel_question, tiles_of
from lastseen.server.pages.visits.rows import visit_rows
from lastseen.server.pages.visits.view import PAGE, RANGES, TILES, View, bucket_of, days_of
from lastseen.server.pages.visits.words import days_words, filter_words
from lastseen.settings import format_span, parse_span
from lastseen.visits.site import DEFAULT_SITE_ID, Site
from lastseen.visits.store import VisitOrder, VisitQuery

PART = "visits_content.html"
BOTS = ((Bots.WITHOUT, "People"), (Bots.WITH, "With bots"), (Bots.ONLY, "Bots alone"))
PERIOD = 10_000
"""Milliseconds between two looks: each is half a dozen reports."""
RECENT = 8
COUNTS = TILES.index(Metric.EVENTS) + 1
"""So many of the figures above the chart are counts: nothing happened where these are zero."""

# A short choice for the field; every IANA name may be typed.
ZONES = (
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Kyiv",
    "Africa/Cairo",
    "Africa/Johannesburg",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "America/Sao_Paulo",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
)


@get(
    "/visits",
    needs=Scope.REPORTS_READ,
    sync_to_thread=True,
    include_in_schema=False,
    exception_handlers={Exception: show_problem},
)
def show_overview(request: Request[None, None, State], seen: LastSeen) -> Page:
    """Show the whole page."""
    content = _content(request, seen)
    return show_live(
        request, PART, content, title="Visits", path=PAGE, period=PERIOD, styles=("visits.css",), has_chart=True
    )


@get("/visits/rows", needs=Scope.REPORTS_READ, sync_to_thread=True, include_in_schema=False)
def show_overview_rows(request: Request[None, None, State], seen: LastSeen) -> Page:
    """Show what changes on the page; 304 when nothing did."""
    return show_part(request, PART, _content(request, seen))


def _content(request: Request[None, None, State], seen: LastSeen) -> dict[str, Any]:
    view = View.of(list(request.query_params.multi_items()))
    if "site" not in request.query_params:
        view = replace(view, site=_usual_site(seen))
    now = utc(SYSTEM_CLOCK.now())
    site = seen.sites.get(view.site)
    visits = seen.store.visits
    found = visits.list_visits(
        VisitQuery(site_id=site.id, order=VisitOrder.LAST_ACTIVE, bots=_bots(view), limit=RECENT)
    )
    content: dict[str, Any] = {"online": 0, "nothing": not found and not view.filters}
    if content["nothing"]:
        content["others"] = visits.count_visits(VisitQuery(site_id=site.id))
        content["others_href"] = view.address(bots=Bots.WITH)
    else:
        recent = counted_visits(seen, view.question(Metric.VISITS), RECENT)[0] if view.is_chosen else found
        content |= _figures(seen, view) | {
            "online": seen.reports.ask(view.online(now)).totals[0],
            "visits": visit_rows(recent, site.rule, now, view.zone),
        }
    return with_tag(content, now, **_around(request, seen, view, site))


def _usual_site(seen: LastSeen) -> str:
    """Return the site that is shown where none is named: the default one, or the first if that was deleted."""
    ids = [site.id for site in seen.sites.list()]
    return DEFAULT_SITE_ID if DEFAULT_SITE_ID in ids or not ids else ids[0]


def _figures(seen: LastSeen, view: View) -> dict[str, Any]:
    whole = seen.reports.ask(view.question(*TILES, compare=True))
    bucket = bucket_of(whole.period)
    series = seen.reports.ask(view.question(view.metric, by=bucket.value, compare=True))
    panels = [
        panel_of(view, place, seen.reports.ask(panel_question(view, dimension)))
        for place, dimension in enumerate(view.shown)
    ]
    first, last = days_of(whole.period)
    is_empty = not view.filters and not any(whole.totals[:COUNTS])
    return {
        "tiles": tiles_of(view, whole),
        "is_empty": is_empty,
        "elsewhere": latest_visits(seen.store.visits, view, whole.period, bots=_bots(view)) if is_empty else None,
        "chart": chart_of(view, series, bucket),
        "panels": panels,
        "period_words": days_words(first, last),
        "before_words": None if whole.compared_period is None else days_words(*days_of(whole.compared_period)),
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
        "filters": [
            {
                "words": filter_words(given),
                "href": view.address(filters=tuple(other for other in view.filters if other != given)),
            }
            for given in view.filters
        ],
        "ranges": [
            {
                "key": key,
                "label": label,
                "href": view.address(last=parse_span(key), first_day=None, last_day=None),
                "current": view.last is not None and format_span(view.last) == format_span(parse_span(key)),
            }
            for key, label in RANGES
        ],
    }


def _around(request: Request[None, None, State], seen: LastSeen, view: View, site: Site) -> dict[str, Any]:
    address = str(request.base_url).rstrip("/")
    zone = find_zone(view.zone)
    return {
        "view": view,
        "local": lambda moment: moment.astimezone(zone),
        "bots": [
            {"label": label, "href": view.address(bots=kind), "current": kind is view.bots} for kind, label in BOTS
        ],
        "list_href": view.list_address() if view.is_chosen else View(site=view.site, bots=view.bots).list_address(),
        "sites": seen.sites.list(),
        "zones": ZONES if view.zone in ZONES else (view.zone, *ZONES),
        "visits_exports": visit_exports(view.question(Metric.VISITS))
        if view.is_chosen
        else list_exports(
            VISITS, [("site", site.id), ("bots", view.bots.value), ("order", VisitOrder.LAST_ACTIVE.value)]
        ),
        "write_key": site.write_key,
        "script_line": script_line(address, site.write_key),
        "curl_line": event_line(address, site.write_key),
    }


def _bots(view: View) -> bool | None:
    return {"without": False, "only": True}.get(view.bots.value)
