"""`lastseen import`: bring in what is known already."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lastseen.activity.buffer import Outcome
from lastseen.activity.clients import ClientActivity
from lastseen.activity.settings import TrackerSettings
from lastseen.app import LastSeen
from lastseen.cli import import_log
from lastseen.cli.files import FileProgress, name_of, opened, require_files
from lastseen.cli.lines import BadLine, BrokenFile, decompressed, parse_activity, read_lines
from lastseen.cli.opening import configure_logging, refuse_memory
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import print_json
from lastseen.cli.unread import Unread
from lastseen.errors import LastSeenError
from lastseen.settings import Settings

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen import activity history.ndjson more.ndjson.gz
  jq -c '{client_id: .device, at: .time}' log.json | lastseen import activity -

[bold]A line[/bold]: {"client_id": "till-7", "at": "2026-01-31T12:00:00Z"} or {"client_id": "till-7", "at": 1769860800}
(seconds since 1970; larger numbers are milli-, micro- or nanoseconds)
"""

FLUSH_EVERY = 10_000
"""Lines between two flushes: what an interruption costs at the most."""

COUNTED_CLIENTS = 1_000_000
"""Up to this many, the clients of an import are counted exactly; their count must not take all the memory."""


class _KindsOfFiles(TyperGroup):
    """Names both commands when a file comes where one of them is expected."""

    # Any: the classes are Click's own or Typer's copies of them, which the release of Typer decides.
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command; end with what to write instead where there is a file."""
        name = args[0]
        if self.get_command(ctx, name) is None and (name == "-" or "." in name or Path(name).exists()):
            ctx.fail(
                f"what is {name}? An access log: lastseen import log {name}; "
                f"lines of activity: lastseen import activity {name}"
            )
        return super().resolve_command(ctx, args)


group = typer.Typer(
    cls=_KindsOfFiles, no_args_is_help=True, help="Bring in what is known already: activity, access logs."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group.command("log", epilog=import_log.EXAMPLES)(import_log.log)
    app.add_typer(group, name="import")


@group.callback()
def _root() -> None:
    """Bring in what is known already: activity, access logs."""


@group.command("activity", epilog=EXAMPLES)
@with_settings()
def activity(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Files; - is standard input."),
    ],
    *,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Import activity from files of JSON lines, plain or gzip; no server need run.

    Creates the database when there is none. Importing twice, or in another order, changes nothing: only the latest time
    of a client counts. Bad lines are counted, the first are shown, and the rest is imported. The exit code is 1 when a
    file could not be read to its end, when the database refuses a client, and when there were lines and none was good.
    """
    require_files(files)
    refuse_memory(settings)
    configure_logging(settings)
    summary = Summary()
    stopped: LastSeenError | KeyboardInterrupt | None = None
    seen = _open(settings)
    try:
        with FileProgress(files) as progress:
            _import(files, Importer(seen.clients, summary, progress), summary, progress)
    except (LastSeenError, KeyboardInterrupt) as error:
        stopped = error
    finally:
        seen.close()
    _print_summary(summary, as_json=as_json, stopped=stopped)
    if stopped is not None:
        raise stopped
    if summary.unreadable or summary.refused or (summary.bad_lines and not summary.activities):
        raise typer.Exit(1)


def _open(settings: Settings) -> LastSeen:
    # What a failed flush logs is what the command says at its end.
    logger = logging.getLogger("lastseen.import")
    logger.disabled = settings.log_level != "debug"
    tracking = _tracking(settings.tracking())
    return LastSeen.open(
        settings.database_url,
        migrate=True,
        tracking=tracking,
        visit_rule=settings.visit_rule(),
        pool_size=1,
        logger=logger,
    )


def _tracking(tracking: TrackerSettings) -> TrackerSettings:
    """Leave flushing to the importer, and give each flush the time that a slow database needs."""
    return replace(
        tracking,
        flush_interval=timedelta(days=1),
        max_buffer_size=None,
        min_persist_interval=timedelta(0),
        flush_deadline=timedelta(minutes=10),
    )


@dataclass(slots=True)
class Summary(Unread):
    """What an import did so far."""

    activities: int = 0
    saved: int = 0
    """How many of the activities are in the database for certain."""
    rows: int = 0
    """Rows inserted or moved forward."""
    refused: set[str] = field(default_factory=set)
    """Clients that the database refuses for ever."""
    client_hashes: set[int] = field(default_factory=set)

    def clients(self) -> str:
        """Say of how many clients the activities are."""
        count = len(self.client_hashes)
        return f"{count:,}" if count < COUNTED_CLIENTS else f"more than {count:,}"


class Importer:
    """Collects lines and writes them now and then; raises the error of a flush that fails.

    A client that is new gets the earliest of its moments among the lines of one flush as `created_at`: in a file sorted
    by time, the moment when it was first seen.
    """

    def __init__(self, clients: ClientActivity, summary: Summary, progress: FileProgress) -> None:
        self._clients = clients
        self._summary = summary
        self._progress = progress
        self._waiting: list[tuple[str, float]] = []
        self._first: dict[str, float] = {}
        # Later than the tracker tolerates is in the future; the clock is asked once, so a long import is strict.
        self._latest = time.time() + clients.tracker.settings.future_tolerance.total_seconds()

    def line(self, file: str, number: int, line: bytes | None) -> None:
        """Take one line, or count it as bad."""
        try:
            client_id, at = parse_activity(line, self._latest)
        except BadLine as error:
            self._summary.note_bad_line(file, number, str(error), self._progress)
            return
        self._waiting.append((client_id, at))
        self._summary.activities += 1
        self._note_first(client_id, at)
        if len(self._waiting) >= FLUSH_EVERY:
            self.flush()

    def _note_first(self, client_id: str, at: float) -> None:
        hashes = self._summary.client_hashes
        number = hash(client_id)
        if client_id in self._first:
            self._first[client_id] = min(at, self._first[client_id])
        elif number not in hashes:
            self._first[client_id] = at
            if len(hashes) < COUNTED_CLIENTS:
                hashes.add(number)

    def flush(self) -> None:
        """Write what waits; raises `FlushError`. Interrupted and called again, it writes the same again."""
        self._record(self._first.items())
        self._record((client_id, at) for client_id, at in self._waiting if self._first.get(client_id) != at)
        self._first.clear()
        self._waiting.clear()
        self._summary.saved = self._summary.activities

    def _record(self, activities: Iterable[tuple[str, float]]) -> None:
        for client_id, at in activities:
            if self._clients.record(client_id, at) is Outcome.DROPPED:
                self._write()
                self._clients.record(client_id, at)
        self._write()

    def _write(self) -> None:
        result = self._clients.flush()
        self._summary.rows += result.updated_count
        self._summary.refused.update(result.poison)


def _import(files: list[Path], importer: Importer, summary: Summary, progress: FileProgress) -> None:
    try:
        for path in files:
            name = name_of(path)
            try:
                with opened(path) as stream:
                    progress.begin(name, path, stream)
                    for number, line in read_lines(decompressed(stream)):
                        importer.line(name, number, line)
                        progress.tick()
            except (BrokenFile, OSError) as error:
                summary.note_unreadable(name, error, progress)
    except KeyboardInterrupt:
        importer.flush()
        raise
    importer.flush()


def _print_summary(summary: Summary, *, as_json: bool, stopped: BaseException | None) -> None:
    reason = None if stopped is None else str(stopped) or "interrupted"
    if as_json:
        print_json(
            {
                "activities": summary.activities,
                "clients": len(summary.client_hashes),
                "bad_lines": summary.bad_lines,
                "saved": summary.saved,
                "rows_changed": summary.rows,
                "first_bad_lines": summary.first_bad_lines,
                "refused_clients": sorted(summary.refused),
                "unreadable_files": summary.unreadable,
                "error": reason,
            }
        )
        return
    for client_id in sorted(summary.refused):
        typer.echo(f"the database refuses the client {client_id}", err=True)
    if stopped is None:
        typer.echo(
            f"imported {summary.activities:,} activities of {summary.clients()} clients, {summary.count_of_bad_lines()}"
        )
    else:
        typer.echo(
            f"stopped: at least {summary.saved:,} of {summary.activities:,} activities read so far are saved, "
            f"{summary.count_of_bad_lines()}; import the same again, nothing is counted twice",
            err=True,
        )
