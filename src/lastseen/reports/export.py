"""Answers and other tables as CSV and JSON. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from lastseen.reports.answer import Answer

# A spreadsheet takes what begins like this for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | int | float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of plain values, as files hold them."""

    columns: Mapping[str, type]
    """The names in order, each with `bool`, `int`, `float` or `str`."""
    rows: Sequence[Sequence[Cell]]
    """One cell for each column, None where unknown."""


def table_of(answer: Answer) -> Table:
    """Return an answer's rows; what is compared is named `previous_…`."""
    names = [column.name for column in answer.columns]
    if answer.compared_period is not None:
        names += [f"previous_{name}" for name in answer.metrics]
    rows = [[record[name] for name in names] for record in answer.records()]
    kinds = {name: _kind(row[place] for row in rows) for place, name in enumerate(names)}
    return Table(columns=kinds, rows=rows)


def to_json(answer: Answer) -> bytes:
    """Return the whole answer as one JSON document."""
    return msgspec.json.encode(answer.document())


def to_csv(answer: Answer) -> str:
    """Return an answer's rows as `table_to_csv` does."""
    return table_to_csv(table_of(answer))


def table_to_csv(table: Table) -> str:
    """Return the rows with a line of names (RFC 4180); what is unknown is empty, truth is `true` or `false`.

    Text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.columns)
    writer.writerows([_cell(value) for value in row] for row in table.rows)
    return out.getvalue()


def _kind(values: Iterable[Cell]) -> type:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return int
    return float if kinds and kinds <= {int, float} else str


def _cell(value: Cell) -> Cell:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
