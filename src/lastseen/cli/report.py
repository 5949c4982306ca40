"""`lastseen report`: questions about visits and events. Reads the database itself; no server need run."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from lastseen.cli.opening import open_for_reading
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import absolute, console, no_value, print_json, print_table
from lastseen.errors import ConfigurationError
from lastseen.reports.answer import Answer, Column, Figure
from lastseen.reports.asking import Copied, Reports
from lastseen.reports.export import to_csv
from lastseen.reports.period import Compare
from lastseen.reports.question import MAX_LIMIT, Bots
from lastseen.reports.terms import DIMENSIONS, InvalidQuestion, Metric
from lastseen.reports.text import read_question, split_names
from lastseen.settings import Settings
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.store import VisitQuery, VisitStore

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen report visits --by page --last 30d
  lastseen report visits --by day --from 2015-05-01 --to 2015-06-01 --time-zone Europe/Berlin
  lastseen report visits --by source --where country:is:DE --compare previous
  lastseen report events --by event --where property:plan:is:pro --json
  lastseen report active --by month --last 365d --csv
  lastseen report visits --by day --parquet visits.parquet

[bold]Filters[/bold]

  dimension:operator:value    is, is_not, contains, contains_not
  dimension:operator:a|b      one_of, none_of
  dimension:operator          unknown, known
"""


class Subject(StrEnum):
    """What a report is about."""

    VISITS = "visits"
    EVENTS = "events"
    ACTIVE = "active"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=EXAMPLES)(report)


@with_settings()
def report(
    subject: Annotated[Subject, typer.Argument(help="Which metrics are shown unless others are named.")],
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", metavar="NAMES", help=f"{', '.join(DIMENSIONS)} or property:NAME; repeated or with commas."
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="NAMES", help=f"Separated by commas: {', '.join(Metric)}.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="FILTER", help="Such as country:is:DE; may be repeated.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--last", metavar="SPAN", help="24h, 30d, 12w; days end with today.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DATE", help="From this date or moment on.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Up to this date or moment, which is left out.")
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", metavar="NAME", help="Such as Europe/Berlin.")] = "UTC",
    compare: Annotated[Compare | None, typer.Option("--compare", help="The period before, or the year before.")] = None,
    order: Annotated[
        str | None, typer.Option("--order", metavar="NAME", help="A metric or dimension; -NAME for the largest first.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="How many rows.")] = 100,
    bots: Annotated[Bots, typer.Option("--bots", help="Whether what programs did counts.")] = Bots.WITHOUT,
    site: Annotated[str, typer.Option("--site", metavar="ID", help="The site.")] = DEFAULT_SITE_ID,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write the rows to this Parquet file.")
    ] = None,
    settings: Settings,
) -> None:
    """Count visitors, visits, page views and events, broken down as you like."""
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    try:
        question = read_question(
            subject,
            metrics=split_names(metrics),
            by=[name for names in by or () for name in split_names(names)],
            filters=where or (),
            last=last,
            since=since,
            until=until,
            compare=compare,
            order=order,
            bots=bots,
            time_zone=time_zone,
            limit=limit,
            site=site,
        )
    except InvalidQuestion as error:
        option = "where" if error.part == "filter" else error.part.replace("_", "-")
        raise ConfigurationError(f"--{option}: {error.message}") from error
    with open_for_reading(settings) as seen:
        seen.sites.get(site)
        reports = seen.open_reports(or_a_temporary_copy=True)
        try:
            _catch_up(reports)
            answer = reports.ask(question)
            if parquet is not None:
                _write(parquet, reports.parquet(answer))
        finally:
            reports.close()
        if not as_json and not any(answer.totals):
            _print_nothing(answer, seen.store.visits)
    if as_json:
        print_json(answer.document())
    elif as_csv:
        sys.stdout.write(to_csv(answer))
    elif parquet is None:
        _print_answer(answer)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--parquet") from error


def _catch_up(reports: Reports) -> None:
    """Copy what is new; something is shown only when that takes a while and somebody looks."""
    columns = (SpinnerColumn(), TextColumn("copying for reports: {task.fields[events]:,} events"), TimeElapsedColumn())
    err = console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None, events=0)

        def show(copied: Copied) -> None:
            progress.update(task, events=copied.events)

        reports.catch_up(show)


def _print_answer(answer: Answer) -> None:
    names = [column.name.upper().replace("_", " ") for column in answer.columns]
    dimensions = [column for column in answer.columns if not column.is_metric]
    metrics = [column for column in answer.columns if column.is_metric]
    rows: list[list[Text | str]] = []
    if dimensions:
        for row in answer.rows:
            shown = [
                no_value(column.name) if key is None else key for column, key in zip(dimensions, row.keys, strict=True)
            ]
            rows.append([*shown, *_figures(metrics, row.figures, row.compared)])
        blank = [""] * (len(dimensions) - 1)
        rows.append(["total", *blank, *_figures(metrics, answer.totals, answer.compared_totals)])
    else:
        rows.append([*_figures(metrics, answer.totals, answer.compared_totals)])
    print_table(names, rows)
    if answer.has_more:
        console(stderr=True).print(f"there are more than {answer.question.limit} rows: --limit", style="dim")


def _print_nothing(answer: Answer, visits: VisitStore) -> None:
    """Say in which time nothing was found, and when there was something last: imported logs may be old."""
    period = answer.period
    newest = visits.list_visits(VisitQuery(site_id=answer.question.site, limit=1))
    known = (
        f"the newest visit of the site began {absolute(newest[0].started_at)}" if newest else "the site has no visits"
    )
    text = f"nothing from {absolute(period.start)} to {absolute(period.end)}; {known}"
    console(stderr=True).print(f"{text}; choose the time with --from and --to" if newest else text, style="dim")


def _figures(
    metrics: list[Column], figures: tuple[Figure, ...], compared: tuple[Figure, ...] | None
) -> list[Text | str]:
    before: tuple[Figure, ...] = compared or (None,) * len(figures)
    return [
        Text(_figure(metric, figure) + _change(figure, earlier), justify="right")
        for metric, figure, earlier in zip(metrics, figures, before, strict=True)
    ]


def _figure(metric: Column, figure: Figure) -> str:
    if figure is None:
        return "-"
    if metric.unit == "share":
        return f"{figure:.1%}"
    return f"{figure:,.1f} s" if metric.unit == "seconds" else f"{figure:,}"


def _change(figure: Figure, before: Figure) -> str:
    if before is None or figure is None:
        return ""
    return f" ({(figure - before) / before:+.0%})" if before else " (new)" if figure else " (=)"
