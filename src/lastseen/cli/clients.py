"""`lastseen clients`: who was active, and when. Reads the database itself; no server need run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from lastseen.activity.clients import ClientActivity, ClientPage
from lastseen.activity.status import ClientStatus
from lastseen.activity.store import MAX_PAGE, Client, ClientOrder
from lastseen.cli.opening import open_for_reading
from lastseen.cli.options import JsonOption, span, with_settings
from lastseen.cli.output import absolute, console, print_json, print_table, relative, status_text
from lastseen.settings import Settings

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen clients list --search printer --limit 20
  lastseen clients active --within 15m
  lastseen clients inactive --for 7d --all --json
  lastseen clients count
  lastseen clients show printer-12
"""

SHOWN_DAYS = 7
ACTIVE_WITHIN = timedelta(hours=1)
INACTIVE_FOR = timedelta(hours=24)

Within = Annotated[
    timedelta | None, typer.Option("--within", parser=span, metavar="SPAN", help="Seen within this span.")
]
For = Annotated[timedelta | None, typer.Option("--for", parser=span, metavar="SPAN", help="Not seen for this span.")]
Status = Annotated[ClientStatus | None, typer.Option("--status", help="Only clients of this status.")]
Search = Annotated[str, typer.Option("--search", metavar="TEXT", help="Part of the client id; ASCII case is ignored.")]
Order = Annotated[ClientOrder, typer.Option("--order", help="How they are sorted.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many to print.")]
Cursor = Annotated[str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on after an earlier page.")]
All = Annotated[bool, typer.Option("--all", help="Print all of them, whatever the limit.")]

group = typer.Typer(no_args_is_help=True, help="Who was active, and when.", epilog=EXAMPLES)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="clients")


@group.command("list")
@with_settings()
def list_clients(
    *,
    within: Within = None,
    inactive_for: For = None,
    status: Status = None,
    search: Search = "",
    order: Order = ClientOrder.NEWEST,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List clients, last seen first."""
    wanted = {"active_within": within, "inactive_for": inactive_for, "status": status, "search": search}
    _print_list(
        settings, {**wanted, "order": order, "limit": limit, "cursor": cursor}, everything=everything, as_json=as_json
    )


@group.command()
@with_settings()
def active(
    *,
    within: Annotated[
        timedelta | None,
        typer.Option("--within", parser=span, metavar="SPAN", help="Seen within this span; by default 1h."),
    ] = None,
    search: Search = "",
    order: Order = ClientOrder.NEWEST,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List the clients seen within a span, last seen first."""
    wanted = {"active_within": ACTIVE_WITHIN if within is None else within, "search": search}
    _print_list(
        settings, {**wanted, "order": order, "limit": limit, "cursor": cursor}, everything=everything, as_json=as_json
    )


@group.command()
@with_settings()
def inactive(
    *,
    inactive_for: Annotated[
        timedelta | None,
        typer.Option("--for", parser=span, metavar="SPAN", help="Not seen for this span; by default 24h."),
    ] = None,
    search: Search = "",
    order: Order = ClientOrder.OLDEST,
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """List the clients not seen for a span, silent for longest first."""
    wanted = {"inactive_for": INACTIVE_FOR if inactive_for is None else inactive_for, "search": search}
    _print_list(
        settings, {**wanted, "order": order, "limit": limit, "cursor": cursor}, everything=everything, as_json=as_json
    )


@group.command()
@with_settings()
def count(
    *,
    within: Within = None,
    inactive_for: For = None,
    status: Status = None,
    search: Search = "",
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Count clients: by status, or how many the options leave."""
    with open_for_reading(settings) as seen:
        if within is None and inactive_for is None and status is None:
            counts = seen.clients.counts(search)
            document = {name: getattr(counts, name) for name in ("total", *ClientStatus)}
        else:
            total = seen.clients.count(active_within=within, inactive_for=inactive_for, status=status, search=search)
            document = {"count": total}
    if as_json:
        print_json(document)
    elif len(document) == 1:
        typer.echo(document["count"])
    else:
        rows: list[list[Text | str]] = [[status_text(status), _right(document[status])] for status in ClientStatus]
        print_table(["STATUS", "CLIENTS"], [*rows, ["total", _right(document["total"])]])


@group.command()
@with_settings()
def show(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The whole id.")],
    *,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Show one client; exit code 1 when it was never seen."""
    now = datetime.now(UTC)
    since = (now - timedelta(days=SHOWN_DAYS)).replace(minute=0, second=0, microsecond=0)
    with open_for_reading(settings) as seen:
        client = seen.clients.get(client_id)
        hours = seen.clients.active_hours([client_id], since).get(client_id, [])
        status = None if client is None else seen.clients.status(client)
    if client is None or status is None:
        typer.echo(f"lastseen: no client {client_id} was ever seen", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json({**_document(client, status), "active_hours": hours})
        return
    rows: list[list[Text | str]] = [
        ["client", client.client_id],
        ["status", status_text(status)],
        ["last seen", f"{relative(client.last_seen_at, now)}   {absolute(client.last_seen_at)}"],
        ["first seen", f"{relative(client.created_at, now)}   {absolute(client.created_at)}"],
        ["active hours", f"{len(hours)} in the last {SHOWN_DAYS} days"],
    ]
    print_table(["", ""], rows, header=False)


def _print_list(settings: Settings, query: dict[str, Any], *, everything: bool, as_json: bool) -> None:
    with open_for_reading(settings) as seen:
        print_clients(seen.clients, query, everything=everything, as_json=as_json)


def print_clients(
    clients: ClientActivity, query: dict[str, Any], *, everything: bool = False, as_json: bool = False
) -> None:
    """Print one page of `ClientActivity.list(**query)`, or all pages, for people or for programs."""
    if everything:
        query = {**query, "limit": MAX_PAGE}
    pages = _pages(clients, query, everything=everything)
    if as_json:
        _print_pages_as_json(clients, pages)
    else:
        _print_pages(clients, pages)


def _pages(clients: ClientActivity, query: dict[str, Any], *, everything: bool) -> Iterator[ClientPage]:
    page = clients.list(**query)
    yield page
    while everything and page.next_cursor is not None:
        page = clients.list(**{**query, "cursor": page.next_cursor})
        yield page


def _print_pages_as_json(clients: ClientActivity, pages: Iterator[ClientPage]) -> None:
    found, next_cursor = [], None
    for page in pages:
        found += [_document(client, clients.status(client)) for client in page]
        next_cursor = page.next_cursor
    print_json({"clients": found, "next_cursor": next_cursor})


def _print_pages(clients: ClientActivity, pages: Iterator[ClientPage]) -> None:
    columns = ["CLIENT", "STATUS", "LAST SEEN", "AT"]
    next_cursor = None
    for position, page in enumerate(pages):
        now = datetime.now(UTC)
        rows = [_row(client, clients.status(client), now) for client in page]
        if rows:
            print_table(columns, rows, header=position == 0)
        elif position == 0:
            console(stderr=True).print("no clients")
        next_cursor = page.next_cursor
    if next_cursor is not None:
        console(stderr=True).print(f"there are more: --cursor {next_cursor}, or --all", style="dim")


def _right(number: int) -> Text:
    return Text(f"{number:,}", justify="right")


def _row(client: Client, status: ClientStatus, now: datetime) -> list[Text | str]:
    seen_at = client.last_seen_at
    return [client.client_id, status_text(status), relative(seen_at, now), absolute(seen_at)]


def _document(client: Client, status: ClientStatus) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "last_seen_at": client.last_seen_at,
        "created_at": client.created_at,
        "status": status,
    }
