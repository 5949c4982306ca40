"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lastseen.activity.status import ClientStatus
from lastseen.reports.terms import Dimension

STATUS_STYLES = {
    ClientStatus.ONLINE: "green",
    ClientStatus.RECENT: "cyan",
    ClientStatus.IDLE: "yellow",
    ClientStatus.INACTIVE: "bright_black",
}

# Into a pipe nothing is wrapped or cut: a line stays a line, whatever its length.
_PIPE_WIDTH = 2_000
_GAP = 3
"""Blanks between two columns."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def console(*, stderr: bool = False) -> Console:
    """Return a console for people: coloured on a terminal (unless NO_COLOR is set), plain into a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """Print one JSON document; what the terminal's encoding lacks is escaped as JSON does it."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


def print_table(
    columns: list[str],
    rows: list[list[Text | str]],
    *,
    header: bool = True,
    gives_way: int | None = None,
    whole: tuple[int, ...] = (),
    beneath: tuple[int, ...] = (),
) -> None:
    """Print rows under their columns; on a narrow terminal one column gives way by wrapping.

    That is the first, or of names and values without a header the second. The columns of `whole` are never cut, to be
    copied; where there is no room at all, the end of the line is. Where the columns of `beneath` are given and a row
    does not fit into one line, they follow in a line of their own. What could steer a terminal is shown escaped:
    anybody may send names and addresses.
    """
    out = console()
    shown = [[_shown(cell) for cell in row] for row in rows]
    if beneath and out.is_terminal and _width(columns, shown) > out.width:
        _print_in_two_lines(out, columns, shown, beneath)
        return
    if gives_way is None:
        gives_way = 0 if header else 1
    table = _new_table(header=header)
    for position, column in enumerate(columns):
        width = max((len(row[position]) for row in shown), default=0) if position in whole else None
        table.add_column(column, no_wrap=position != gives_way, overflow="fold", min_width=width)
    for row in shown:
        table.add_row(*row)
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def _new_table(*, header: bool) -> Table:
    return Table(box=None, show_header=header, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")


def _width(columns: list[str], rows: list[list[Text]]) -> int:
    """Return how wide the widest line of a table is when nothing gives way."""
    widths = [max([len(column), *(row[place].cell_len for row in rows)]) for place, column in enumerate(columns)]
    return sum(widths) + _GAP * (len(columns) - 1)


def _print_in_two_lines(out: Console, columns: list[str], rows: list[list[Text]], beneath: tuple[int, ...]) -> None:
    above = [place for place in range(len(columns)) if place not in beneath]
    widths = {place: max([len(columns[place]), *(row[place].cell_len for row in rows)]) for place in above}
    gap = " " * _GAP
    out.print(Text(gap.join(f"{columns[place]:{widths[place]}}" for place in above), style="bold"))
    for row in rows:
        for place in above:
            (row[place].pad_left if row[place].justify == "right" else row[place].pad_right)(
                widths[place] - row[place].cell_len
            )
        out.print(Text(gap).join(row[place] for place in above), no_wrap=True, overflow="ellipsis")
        more = Text(" · ").join(row[place] for place in beneath if row[place])
        if more:
            out.print(Padding(more, (0, 0, 0, 2)), style="dim", overflow="fold")


def _shown(cell: Text | str) -> Text:
    """Return a cell without what a terminal would obey: control characters and marks of direction are written out."""
    text = Text(cell) if isinstance(cell, str) else cell
    if not text.plain.isprintable():
        text.plain = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in text.plain
        )
    return text


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


def no_value(dimension: str) -> str:
    """Say that a dimension of reports has no value here; in brackets, as such a text might be a value, too."""
    return f"({Dimension(dimension).without_value})"


def status_text(status: ClientStatus) -> Text:
    """Return the status word behind a dot of its colour."""
    return Text(f"● {status}", style=STATUS_STYLES[status])
