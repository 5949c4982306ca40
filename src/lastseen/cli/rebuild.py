"""`lastseen visits rebuild`: fold a site's whole history again, by a new rule or by its own."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lastseen.app import LastSeen
from lastseen.cli.import_log import SiteOption
from lastseen.cli.log_saving import STORE_DEADLINE
from lastseen.cli.opening import configure_logging, refuse_memory, require_file
from lastseen.cli.options import JsonOption, span, with_settings
from lastseen.cli.output import console, print_json, print_table
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import ConfigurationError
from lastseen.settings import Settings, format_span
from lastseen.visits.recount import Recount, Tally, refold_all
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID, Site
from lastseen.visits.sites import CACHED_FOR, Sites
from lastseen.visits.visit import StartReason

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen visits rebuild --timeout 60m --dry-run   [dim]what would change[/dim]
  lastseen visits rebuild --timeout 60m             [dim]change it, for the site's new events too[/dim]
  lastseen visits rebuild                           [dim]by the site's own rule: finish what was interrupted[/dim]
"""

SettleOption = Annotated[
    bool,
    typer.Option("--no-server", help="No server uses this database now: do not wait until it knows the rule."),
]


@with_settings()
def rebuild(
    *,
    site: SiteOption = DEFAULT_SITE_ID,
    timeout: Annotated[
        timedelta | None, typer.Option("--timeout", parser=span, metavar="SPAN", help="A longer silence ends a visit.")
    ] = None,
    max_duration: Annotated[
        timedelta | None, typer.Option("--max-duration", parser=span, metavar="SPAN", help="No visit lasts longer.")
    ] = None,
    referrer_change: Annotated[
        bool | None,
        typer.Option(
            "--referrer-change/--no-referrer-change", help="Another referrer begins a visit.", show_default=False
        ),
    ] = None,
    utm_change: Annotated[
        bool | None,
        typer.Option("--utm-change/--no-utm-change", help="Another campaign begins a visit.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and change nothing.")] = False,
    no_server: SettleOption = False,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Fold all events of a site again: first show what changes, then change it, and keep the rule with the site.

    What is not given stays as the site has it. Interrupted, it is finished by running it again without options.
    """
    given = {
        "timeout": timeout,
        "max_duration": max_duration,
        "new_visit_on_referrer_change": referrer_change,
        "new_visit_on_utm_change": utm_change,
    }
    configure_logging(settings)
    refuse_memory(settings)
    require_file(settings)
    with LastSeen.open(
        settings.database_url, tracking=settings.tracking(), pool_size=1, deadline=STORE_DEADLINE
    ) as seen:
        read_at = SYSTEM_CLOCK.monotonic()
        known = seen.sites.get(site)
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        rule = replace(known.rule, **changes)
        difference = _difference(seen, known, rule)
        if not as_json:
            _print(difference, known.rule, rule)
        changed = None
        if not dry_run:
            keep_rule(seen.sites, known, rule, None if no_server else read_at)
            changed = _fold(seen, known.id, rule, difference.visitors)
    if as_json:
        print_json(_document(difference, rule, changed))
    elif changed is None:
        typer.echo("nothing was changed")
    else:
        typer.echo(f"{changed:,} visits are new, changed or gone; the site {known.id} keeps the rule")


class _Difference:
    """What a rule makes of a site's events, beside what is stored."""

    def __init__(self) -> None:
        self.now = Tally()
        self.then = Tally()
        self.visitors = 0
        self.changed_visitors = 0


def _difference(seen: LastSeen, site: Site, rule: VisitRule) -> _Difference:
    difference = _Difference()
    for found in Recount(seen.store.visits, site.id, rule).run(sure=False):
        difference.visitors += 1
        difference.changed_visitors += found.differs
        difference.now.add(found.stored)
        difference.then.add(found.folded)
    return difference


def keep_rule(sites: Sites, known: Site, rule: VisitRule, read_at: float | None, clock: Clock = SYSTEM_CLOCK) -> None:
    """Give the site the rule, and return when every server folds new events by it.

    The rule that the site had already may have been changed elsewhere just before it was read, at `read_at`
    (monotonic); None: no server is running. Raises `ConfigurationError` when somebody else changes the rule meanwhile:
    by what was shown, nothing may be folded then.
    """
    _require_rule(sites, known.id, known.rule)
    if rule != known.rule:
        sites.change(known.id, rule=rule)
        read_at = None if read_at is None else clock.monotonic()
    if read_at is not None:
        _wait_for_servers(read_at, clock)
        _require_rule(sites, known.id, rule)


def _require_rule(sites: Sites, site_id: str, rule: VisitRule) -> None:
    if sites.get(site_id).rule != rule:
        raise ConfigurationError(
            f"somebody else has changed the rule of the site {site_id} in the meantime; run it again to see first what "
            "that makes of the visits"
        )


def _wait_for_servers(read_at: float, clock: Clock) -> None:
    """Wait until every server has looked the site up again since a moment."""
    seconds = read_at + CACHED_FOR.total_seconds() + 1 - clock.monotonic()
    if seconds > 0:
        sys.stderr.write(f"waiting {seconds:.0f} seconds until servers know the rule; --no-server does without\n")
        clock.wait(threading.Event(), seconds)


def _fold(seen: LastSeen, site_id: str, rule: VisitRule, visitors: int) -> int:
    """Fold after the rule is kept: whoever is interrupted between the two finds out by `doctor`, and runs it again."""
    err = console(stderr=True)
    columns = (TextColumn("visitors"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task("visitors", total=visitors)
        changed = refold_all(seen.store.visits, site_id, rule, lambda count: bar.advance(task, count))
    _require_rule(seen.sites, site_id, rule)
    return changed


def _rows(difference: _Difference) -> list[tuple[str, str, str, str]]:
    now, then = difference.now, difference.then
    reasons = [reason for reason in StartReason if now.reasons[reason] or then.reasons[reason]]
    numbers = [
        ("visits", now.visits, then.visits),
        *((f"  begun: {reason}", now.reasons[reason], then.reasons[reason]) for reason in reasons),
        ("page views", now.page_views, then.page_views),
        ("bounces", now.bounces, then.bounces),
    ]
    rows = [(name, f"{before:,}", f"{after:,}", f"{after - before:+,}") for name, before, after in numbers]
    length = then.mean_duration - now.mean_duration
    longer = f"{'-' if length < timedelta(0) else '+'}{format_span(abs(length))}"
    rows.append(("mean duration", format_span(now.mean_duration), format_span(then.mean_duration), longer))
    return rows


def _print(difference: _Difference, before: VisitRule, after: VisitRule) -> None:
    for name, value in asdict(after).items():
        if value != getattr(before, name):
            typer.echo(f"{name}: {_shown(getattr(before, name))} → {_shown(value)}")
    rows: list[list[Text | str]] = [
        [name, *(Text(value, justify="right") for value in values)] for name, *values in _rows(difference)
    ]
    print_table(["", "NOW", "THEN", "DIFFERENCE"], rows)
    typer.echo(f"{difference.changed_visitors:,} of {difference.visitors:,} visitors have other visits")


def _shown(value: object) -> str:
    return format_span(value) if isinstance(value, timedelta) else str(value).lower()


def _document(difference: _Difference, rule: VisitRule, changed: int | None) -> dict[str, Any]:
    def numbers(tally: Tally) -> dict[str, Any]:
        return {
            "visits": tally.visits,
            "page_views": tally.page_views,
            "bounces": tally.bounces,
            "mean_duration": tally.mean_duration.total_seconds(),
            "reasons": {str(reason): count for reason, count in sorted(tally.reasons.items())},
        }

    return {
        "rule": {
            name: value.total_seconds() if isinstance(value, timedelta) else value
            for name, value in asdict(rule).items()
            if not isinstance(value, frozenset)
        },
        "visitors": difference.visitors,
        "changed_visitors": difference.changed_visitors,
        "now": numbers(difference.now),
        "then": numbers(difference.then),
        "applied": changed is not None,
        "changed_visits": changed,
    }
