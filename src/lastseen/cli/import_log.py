"""`lastseen import log`: access logs as page views, with the visits that they make."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lastseen.app import LastSeen
from lastseen.cli.files import FileProgress, name_of, opened, require_files
from lastseen.cli.lines import BrokenFile, decompressed
from lastseen.cli.log_reading import LogOptions, LogReading, ReadChunk, Repetitions, uncollected
from lastseen.cli.opening import configure_logging, refuse_memory
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import print_json
from lastseen.errors import LastSeenError
from lastseen.settings import Settings
from lastseen.stores import Store, TakesBulk
from lastseen.visits.event import Event
from lastseen.visits.site import DEFAULT_SITE_ID, Site
from lastseen.visits.store import VisitQuery

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen import log access.log access.log.*.gz --host example.org
  zcat -f access.log* | lastseen import log --site shop -
  lastseen import log access.log --all-requests --json
"""

SAVE_EVERY = 20_000
"""Events in one transaction: what an interruption costs at the most. More save hardly faster, and keep the processor
waiting until the first are read; they take about 1.5 KB of memory each."""
SHOWN_BAD_LINES = 10
STORE_DEADLINE = timedelta(minutes=1)
"""Other imports and a server may be writing: a batch waits for its turn."""
FUTURE_TOLERANCE = timedelta(minutes=5)

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
    with LastSeen.open(
        settings.database_url,
        migrate=True,
        tracking=settings.tracking(),
        visit_rule=settings.visit_rule(),
        pool_size=1,
        deadline=STORE_DEADLINE,
    ) as seen:
        known = seen.sites.get(site)
        if isinstance(seen.store, TakesBulk):
            seen.store.expect_bulk()
        options = LogOptions(
            host=host,
            all_requests=all_requests,
            bots=bots,
            latest=int((time.time() + FUTURE_TOLERANCE.total_seconds()) * 1_000_000),
            geo_database=settings.geo_database,
            kept_parameters=frozenset(settings.kept_url_parameters),
        )
        expected = sum(path.stat().st_size for path in files if path.is_file())
        reading = LogReading(known, options, expected=expected)
        try:
            with uncollected(), FileProgress(files) as progress, reading:
                import_files(files, reading, Importer(seen.store, known, summary, progress, batch))
                if not summary.has_host and summary.events:
                    progress.say(NO_HOST)
        except (LastSeenError, KeyboardInterrupt) as error:
            stopped = error
        else:
            summary.visits = seen.store.visits.count_visits(VisitQuery(site_id=known.id))
    _print_summary(summary, site, as_json=as_json, stopped=stopped)
    if stopped is not None:
        raise stopped
    if summary.unreadable or (summary.bad_lines and not summary.good_lines):
        raise typer.Exit(1)


NO_HOST = (
    "neither the lines nor the site's domains say which host this is: pages have no host, and the site's own pages "
    "count as referrers; name it with --host"
)


@dataclass(slots=True)
class Summary:
    """What an import did so far."""

    lines: int = 0
    events: int = 0
    saved: int = 0
    """How many of the events are in the database for certain."""
    new: int = 0
    bad_lines: int = 0
    first_bad_lines: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    visits: int | None = None
    """Of the site, at the end."""
    has_host: bool = False
    """Whether any event says on which host its page is."""

    @property
    def good_lines(self) -> int:
        """Lines that say what was requested, page view or not."""
        return self.lines - self.bad_lines


class Importer:
    """Collects events and saves them now and then; raises the error of a save that fails."""

    def __init__(self, store: Store, site: Site, summary: Summary, progress: FileProgress, batch: int) -> None:
        self._batch = batch
        self._store = store
        self.site = site
        self.progress = progress
        self._summary = summary
        self._waiting: list[Event] = []

    def take(self, file: str, chunk: ReadChunk, repetitions: Repetitions) -> None:
        """Take what some lines said."""
        summary = self._summary
        summary.lines += chunk.lines
        summary.events += len(chunk.events)
        for number, reason in chunk.bad_lines:
            self._bad(file, number, reason)
        if len(self._waiting) + len(chunk.events) > self._batch:
            self.save()
        self._waiting += map(repetitions.told_apart, chunk.events)
        if not summary.has_host and chunk.events:
            summary.has_host = any(event.url is not None and event.url[:1] != "/" for event in chunk.events)
        self.progress.update()

    def save(self) -> None:
        """Save what waits, in one transaction; interrupted and called again, it saves the same again."""
        if self._waiting:
            result = self._store.visits.save(self._waiting, lambda _site: self.site.rule)
            self._summary.new += result.new
            self._waiting = []
        self._summary.saved = self._summary.events

    def _bad(self, file: str, number: int, reason: str) -> None:
        summary = self._summary
        summary.bad_lines += 1
        if summary.bad_lines <= SHOWN_BAD_LINES:
            summary.first_bad_lines.append({"file": file, "line": number, "reason": reason})
            self.progress.say(f"{file}:{number}: {reason}")
        elif summary.bad_lines == SHOWN_BAD_LINES + 1:
            self.progress.say("further bad lines are only counted")

    def unreadable(self, file: str, reason: str) -> None:
        """Note that the rest of a file could not be read."""
        self._summary.unreadable.append({"file": file, "reason": reason})
        self.progress.say(f"{file}: {reason}; what came before is imported")


def import_files(files: list[Path], reading: LogReading, importer: Importer) -> None:
    """Import one file after the other."""
    for path in files:
        name = name_of(path)
        repetitions = Repetitions(importer.site)
        try:
            with opened(path) as stream:
                importer.progress.begin(name, path, stream)
                for chunk in reading.read(decompressed(stream)):
                    importer.take(name, chunk, repetitions)
        except (BrokenFile, OSError) as error:
            importer.unreadable(name, getattr(error, "strerror", None) or str(error))
    importer.save()


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
            f"read {lines}: {summary.events:,} events, {summary.new:,} of them new, {_bad(summary)}; "
            f"the site {site} has {summary.visits:,} visits"
        )
    else:
        typer.echo(
            f"stopped: at least {summary.saved:,} of {summary.events:,} events read so far are saved, {_bad(summary)}; "
            "import the same again, nothing is counted twice",
            err=True,
        )


def _bad(summary: Summary) -> str:
    return f"{summary.bad_lines:,} bad line{'' if summary.bad_lines == 1 else 's'}"
