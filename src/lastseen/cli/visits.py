"""`lastseen visits`: who visited a site, from where, and why each visit began. Reads the database itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from lastseen.app import LastSeen
from lastseen.cli import rebuild
from lastseen.cli.import_log import SiteOption
from lastseen.cli.opening import open_for_reading
from lastseen.cli.options import JsonOption, span, with_settings
from lastseen.cli.output import absolute, console, no_value, print_json, print_table
from lastseen.clock import to_micros
from lastseen.errors import InvalidCursor
from lastseen.settings import Settings
from lastseen.visits.event import Event
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.store import MAX_PAGE, VisitOrder, VisitQuery
from lastseen.visits.visit import StartReason, Visit
from lastseen.wire.visits import EventView, VisitDetails, VisitList, VisitView

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen visits list --within 24h --people
  lastseen visits list --reason campaign --json
  lastseen visits show 4f1c…   [dim]a visit, by its id or that of any of its events[/dim]
  lastseen visits count
  lastseen visits rebuild --timeout 60m --dry-run
"""

Within = Annotated[
    timedelta | None, typer.Option("--within", parser=span, metavar="SPAN", help="Begun within this span.")
]
Visitor = Annotated[
    str | None, typer.Option("--visitor", metavar="ID", help="Of this visitor, by any of the distinct ids.")
]
Reason = Annotated[StartReason | None, typer.Option("--reason", help="Begun for this reason.")]
Bots = Annotated[bool | None, typer.Option("--bots/--people", help="Only the one or the other.", show_default=False)]

_IS_MOMENT = re.compile("-?[0-9]{1,18}", re.ASCII).fullmatch
"""Microseconds, before 1970 as well; of many thousand digits Python makes no number."""

group = typer.Typer(no_args_is_help=True, help="Who visited a site, from where, and why.", epilog=EXAMPLES)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group.command("rebuild", epilog=rebuild.EXAMPLES)(rebuild.rebuild)
    app.add_typer(group, name="visits")


@group.command("list")
@with_settings()
def list_visits(
    *,
    site: SiteOption = DEFAULT_SITE_ID,
    within: Within = None,
    visitor: Visitor = None,
    reason: Reason = None,
    bots: Bots = None,
    url: Annotated[str | None, typer.Option("--url", metavar="TEXT", help="Part of the entry address.")] = None,
    order: Annotated[VisitOrder, typer.Option("--order", help="How they are sorted.")] = VisitOrder.NEWEST,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many to print.")] = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on after an earlier page.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all of them, whatever the limit.")] = False,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List visits, the newest first."""
    after = None if cursor is None else _place_of(cursor, order)
    now = datetime.now(UTC)
    with open_for_reading(settings) as seen:
        known = seen.sites.get(site)
        query = VisitQuery(
            site_id=known.id,
            started_from=None if within is None else now - within,
            visitor_id=visitor,
            bots=bots,
            start_reason=reason,
            url=url,
            order=order,
            after=after,
            limit=MAX_PAGE if everything else limit,
        )
        pages = list(_pages(seen, query)) if everything else [seen.store.visits.list_visits(query)]
    visits = [_as_of(visit, known.rule, now) for page in pages for visit in page]
    more = _cursor_of(visits[-1], order) if visits and not everything and len(visits) == limit else None
    if as_json:
        print_json(VisitList(visits=[VisitView.of(visit, known.rule, now) for visit in visits], next_cursor=more))
        return
    if not visits:
        console(stderr=True).print("no visits")
        return
    columns = ["VISIT", "STARTED", "DURATION", "PAGES", "FROM", "BECAUSE", "ENTRY"]
    beneath = tuple(map(columns.index, ("FROM", "BECAUSE", "ENTRY")))
    print_table(columns, [_row(visit) for visit in visits], gives_way=beneath[-1], whole=(0,), beneath=beneath)
    if more is not None:
        console(stderr=True).print(f"there may be more: --cursor {more}, or --all", style="dim")


@group.command()
@with_settings()
def show(
    visit_id: Annotated[str, typer.Argument(metavar="VISIT_ID", help="Its id, or that of any event in it.")],
    *,
    site: SiteOption = DEFAULT_SITE_ID,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Show one visit: why it began and ended, and what happened in it; exit code 1 when there is none."""
    with open_for_reading(settings) as seen:
        known, now = seen.sites.get(site), datetime.now(UTC)
        visit = seen.store.visits.get(known.id, visit_id)
        events = () if visit is None else seen.store.visits.events_of(visit)
    if visit is None:
        typer.echo(f"lastseen: the site {site} has no visit {visit_id}", err=True)
        raise typer.Exit(1)
    if as_json:
        view = VisitView.of(visit, known.rule, now)
        print_json(VisitDetails(visit=view, events=[EventView.of(event) for event in events]))
        return
    visit = _as_of(visit, known.rule, now)
    print_table(["", ""], _facts(visit), header=False)
    typer.echo("")
    columns = ["AFTER", "EVENT", "PAGE", "FROM"]
    print_table(columns, [_event_row(event, visit) for event in events], gives_way=columns.index("PAGE"))


@group.command()
@with_settings()
def count(
    *,
    site: SiteOption = DEFAULT_SITE_ID,
    within: Within = None,
    reason: Reason = None,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Count visits: all, those of bots, and those of people."""
    with open_for_reading(settings) as seen:
        since = None if within is None else datetime.now(UTC) - within
        known = seen.sites.get(site).id
        counts = {
            name: seen.store.visits.count_visits(
                VisitQuery(site_id=known, started_from=since, start_reason=reason, bots=bots)
            )
            for name, bots in (("all", None), ("bots", True), ("people", False))
        }
    if as_json:
        print_json(counts)
    else:
        print_table(["", "VISITS"], [[name, Text(f"{number:,}", justify="right")] for name, number in counts.items()])


def _as_of(visit: Visit, rule: VisitRule, now: datetime) -> Visit:
    """Return the visit as it is now: ended where its time is over, whether or not that is written."""
    return close_overdue(visit, to_micros(now), rule) or visit


def _pages(seen: LastSeen, query: VisitQuery) -> Iterator[Sequence[Visit]]:
    while page := seen.store.visits.list_visits(query):
        yield page
        if len(page) < query.limit:
            return
        query = replace(query, after=_place(page[-1], query.order))


def _cursor_of(visit: Visit, order: VisitOrder) -> str:
    moment, visit_id = _place(visit, order)
    return f"{order}:{moment}:{visit_id}"


def _place_of(cursor: str, order: VisitOrder) -> tuple[int, str]:
    made_for, _, rest = cursor.partition(":")
    moment, _, visit_id = rest.partition(":")
    if made_for != order or not visit_id or not _IS_MOMENT(moment):
        raise InvalidCursor(f"this cursor is not one of a listing by {order}; start again without it")
    return int(moment), visit_id


def _place(visit: Visit, order: VisitOrder) -> tuple[int, str]:
    return (visit.last_activity if order is VisitOrder.LAST_ACTIVE else visit.start), visit.id


def _row(visit: Visit) -> list[Text | str]:
    return [
        visit.id,
        absolute(visit.started_at),
        _clock(visit.duration),
        Text(str(visit.page_views), justify="right"),
        (visit.channel or no_value("channel")) + (" (bot)" if visit.is_bot else ""),
        _because(visit),
        visit.entry_url or no_value("entry"),
    ]


def _because(visit: Visit) -> str:
    """Say why a visit began, with what was compared."""
    evidence = visit.start_evidence
    values = [] if evidence is None else [value for value in (evidence.before, evidence.after) if value is not None]
    return f"{visit.start_reason}: {' → '.join(values)}" if values else str(visit.start_reason)


def _ended(visit: Visit) -> str:
    if visit.ended_at is None:
        return f"open, last active {absolute(visit.last_activity_at)}"
    evidence = visit.end_evidence
    values = [] if evidence is None else [value for value in (evidence.before, evidence.after) if value is not None]
    reason = f"{visit.end_reason}: {' → '.join(values)}" if values else f"{visit.end_reason}"
    return f"{absolute(visit.ended_at)}   {reason}"


def _facts(visit: Visit) -> list[list[Text | str]]:
    device = visit.device
    what = [] if device is None else [device.type, device.browser, device.os]
    where = [] if visit.geo is None else [visit.geo.city, visit.geo.region, visit.geo.country]
    facts = {
        "visit": visit.id,
        "visitor": visit.visitor_id + (f" (user {visit.user_id})" if visit.user_id else ""),
        "started": f"{absolute(visit.started_at)}   {_because(visit)}",
        "ended": _ended(visit),
        "duration": _clock(visit.duration),
        "before it": visit.previous_id or "",
        "pages": f"{visit.page_views:,} of {visit.event_count:,} events{', a bounce' if visit.is_bounce else ''}",
        "entry": visit.entry_url or "",
        "exit": visit.exit_page or "",
        "from": " · ".join(part for part in (visit.channel, visit.referrer) if part),
        "campaign": " / ".join(part for part in _campaign(visit) if part),
        "device": ", ".join(part for part in what if part) + (" (bot)" if visit.is_bot else ""),
        "place": ", ".join(part for part in where if part),
    }
    return [[name, value] for name, value in facts.items() if value]


def _campaign(visit: Visit) -> list[str | None]:
    return [] if visit.utm is None else [visit.utm.source, visit.utm.medium, visit.utm.campaign]


def _event_row(event: Event, visit: Visit) -> list[Text | str]:
    after = timedelta(microseconds=event.at - visit.start)
    page = event.url or (no_value("page") if event.is_pageview else "")
    return [_clock(after), event.name, page, event.referrer_domain or ""]


def _clock(length: timedelta) -> str:
    """Write a length as hours, minutes and seconds."""
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
