"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lastseen.activity.status import ClientStatus

STATUS_STYLES = {
    ClientStatus.ONLINE: "green",
    ClientStatus.RECENT: "cyan",
    ClientStatus.IDLE: "yellow",
    ClientStatus.INACTIVE: "bright_black",
}

# Into a pipe nothing is wrapped or cut: a line stays a line, whatever its length.
_PIPE_WIDTH = 2_000

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def console(*, stderr: bool = False) -> Console:
    """Return a console for people: coloured on a terminal (unless NO_COLOR is set), plain into a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def print_table(
    columns: list[str],
    rows: list[list[Text | str]],
    *,
    header: bool = True,
    gives_way: int | None = None,
    whole: tuple[int, ...] = (),
) -> None:
    """Print rows under their columns; on a narrow terminal one column gives way by wrapping.

    That is the first, or of names and values without a header the second. The columns of `whole` are never cut, to be
    copied; where there is no room at all, the end of the line is.
    """
    out = console()
    if gives_way is None:
        gives_way = 0 if header else 1
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for position, column in enumerate(columns):
        width = max((len(row[position]) for row in rows), default=0) if position in whole else None
        table.add_column(column, no_wrap=position != gives_way, overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def relative(moment: datetime, now: datetime) -> str:
    """Say how long ago a moment was, in its largest unit."""
    seconds = int((now - moment) / timedelta(seconds=1))
    for unit, length in _UNITS:
        if (count := seconds // length) >= 1:
            return f"{count:,} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def absolute(moment: datetime) -> str:
    """Write a UTC moment to the second, as ISO 8601."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def status_text(status: ClientStatus) -> Text:
    """Return the status word behind a dot of its colour."""
    return Text(f"● {status}", style=STATUS_STYLES[status])
