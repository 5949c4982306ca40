"""`lastseen import log`: access logs as page views, with the visits that they make."""

from __future__ import annotations

import time
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import typer

from lastseen.app import LastSeen
from lastseen.cli.files import FileProgress, name_of, opened, require_files
from lastseen.cli.lines import BrokenFile, decompressed
from lastseen.cli.log_parts import Importer, Summary, parts_of
from lastseen.cli.log_reading import LogOptions, Repetitions
from lastseen.cli.log_saving import STORE_DEADLINE, Beginning, PartSaver, prepare_for_bulk, uncollected
from lastseen.cli.opening import configure_logging, refuse_memory
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import print_json
from lastseen.errors import LastSeenError
from lastseen.settings import Settings
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.store import VisitQuery

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen import log access.log access.log.*.gz --host example.org
  zcat -f access.log* | lastseen import log --site shop -
  lastseen import log access.log --all-requests --json
"""

SAVE_EVERY = 20_000
"""Events in one transaction, and in a part, or about as many: what an interruption costs at the most. More save hardly
faster, and keep the next process waiting; they take about 4 KB of memory each."""
FUTURE_TOLERANCE = timedelta(minutes=5)
_LINE, _LINES_OF_A_PAGE_VIEW = 240, 600
"""Bytes of a usual log."""
_LEAST_PART, _MOST_PART = 1024 * 1024, 64 * 1024 * 1024

SiteOption = Annotated[str, typer.Option("--site", metavar="SITE", help="The id of the site.")]


@with_settings(
    "geo_database",
    "kept_url_parameters",
    "visit_timeout",
    "visit_max_duration",
    "new_visit_on_referrer_change",
    "new_visit_on_utm_change",
)
def log(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files; - is standard input.")],
    *,
    site: SiteOption = DEFAULT_SITE_ID,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="NAME", help="Host of the pages, where the lines name none."),
    ] = None,
    all_requests: Annotated[
        bool, typer.Option("--all-requests", help="Count every line as an event, not page views alone.")
    ] = False,
    bots: Annotated[
        Literal["known", "declared"],
        typer.Option("--bots", help="What is marked as a bot: what is known to be one, or only what says so itself."),
    ] = "known",
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=1_000_000, help="About so many events in one transaction.")
    ] = SAVE_EVERY,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Import access logs, plain or gzip, and build the visits; no server need run.

    Common and combined lines, with or without the virtual host, and JSON lines. A page view is a GET that was answered
    with success and asked for no style sheet, script, image or the like. Bots are marked, not left out. Importing
    twice, in another order, or again after an interruption, changes nothing. Bad lines are counted and shown by number.
    The exit code is 1 when a file could not be read to its end, and when there were lines and none was good.
    """
    require_files(files)
    refuse_memory(settings)
    configure_logging(settings)
    summary = Summary()
    stopped: LastSeenError | KeyboardInterrupt | None = None
    expected = sum(path.stat().st_size for path in files if path.is_file())
    with (
        Importer(summary, expected=expected) as importer,
        LastSeen.open(
            settings.database_url,
            migrate=True,
            tracking=settings.tracking(),
            visit_rule=settings.visit_rule(),
            pool_size=1,
            deadline=STORE_DEADLINE,
        ) as seen,
    ):
        known = seen.sites.get(site)
        prepare_for_bulk(seen.store)
        options = LogOptions(
            host=host,
            all_requests=all_requests,
            bots=bots,
            latest=int((time.time() + FUTURE_TOLERANCE.total_seconds()) * 1_000_000),
            geo_database=settings.geo_database,
            kept_parameters=frozenset(settings.kept_url_parameters),
        )
        beginning = Beginning(settings.database_url, known, options, batch)
        here = PartSaver(seen.store, known, options, batch)
        try:
            with uncollected(), FileProgress(files) as progress:
                importer.begin(beginning, here, progress)
                size = size_of_parts(batch, all_requests=all_requests)
                import_files(files, importer, summary, progress, size)
                if not summary.has_host and summary.events:
                    progress.say(NO_HOST)
        except (LastSeenError, KeyboardInterrupt) as error:
            stopped = error
        else:
            summary.visits = seen.store.visits.count_visits(VisitQuery(site_id=known.id))
        # Whoever closes a SQLite file last takes in its write-ahead log; of two that close it at once neither does.
        importer.close()
    _print_summary(summary, site, as_json=as_json, stopped=stopped)
    if stopped is not None:
        raise stopped
    if summary.unreadable or (summary.bad_lines and not summary.good_lines):
        raise typer.Exit(1)


def size_of_parts(batch: int, *, all_requests: bool) -> int:
    """Return how many bytes of a log make about so many events."""
    return min(max(batch * (_LINE if all_requests else _LINES_OF_A_PAGE_VIEW), _LEAST_PART), _MOST_PART)


NO_HOST = (
    "neither the lines nor the site's domains say which host this is: pages have no host, and the site's own pages "
    "count as referrers; name it with --host"
)


def import_files(files: list[Path], importer: Importer, summary: Summary, progress: FileProgress, size: int) -> None:
    """Import one file after the other, in parts of about so many bytes."""
    for path in files:
        name = name_of(path)
        repetitions = Repetitions()
        try:
            with opened(path) as stream:
                progress.begin(name, path, stream)
                # Behind the end of any other file there is more to come.
                left = progress.left if path is files[-1] else _much
                for chunks in parts_of(decompressed(stream), size, left):
                    importer.take(name, chunks, repetitions)
        except (BrokenFile, OSError) as error:
            summary.note_unreadable(name, error, progress)
    importer.finish()


def _much() -> float:
    return inf


def _print_summary(summary: Summary, site: str, *, as_json: bool, stopped: BaseException | None) -> None:
    reason = None if stopped is None else str(stopped) or "interrupted"
    if as_json:
        print_json(
            {
                "site": site,
                "lines": summary.lines,
                "events": summary.events,
                "new_events": summary.new,
                "saved": summary.saved,
                "visits": summary.visits,
                "bad_lines": summary.bad_lines,
                "first_bad_lines": summary.first_bad_lines,
                "unreadable_files": summary.unreadable,
                "error": reason,
            }
        )
    elif stopped is None:
        lines = f"{summary.lines:,} line{'' if summary.lines == 1 else 's'}"
        typer.echo(
            f"read {lines}: {summary.events:,} events, {summary.new:,} of them new, {summary.count_of_bad_lines()}; "
            f"the site {site} has {summary.visits:,} visits"
        )
    else:
        typer.echo(
            f"stopped: at least {summary.saved:,} of {summary.events:,} events read so far are saved, "
            f"{summary.count_of_bad_lines()}; import the same again, nothing is counted twice",
            err=True,
        )
