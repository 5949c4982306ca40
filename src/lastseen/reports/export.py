"""Answers as CSV and JSON. Pure."""

from __future__ import annotations

import csv
import io

import msgspec

from lastseen.reports.answer import Answer

# A spreadsheet takes what begins like this for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_json(answer: Answer) -> bytes:
    """Return the whole answer as one JSON document."""
    return msgspec.json.encode(answer.document())


def to_csv(answer: Answer) -> str:
    """Return the rows with a line of names (RFC 4180); what is unknown is empty.

    Text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    names = [column.name for column in answer.columns]
    if answer.compared_period is not None:
        names += [f"previous_{name}" for name in answer.metrics]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([_cell(record[name]) for name in names] for record in answer.records())
    return out.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
