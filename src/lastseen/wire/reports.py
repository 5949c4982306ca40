"""Reports, as the API shows them."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

Figures = dict[str, float | int | None]


class ReportColumn(Struct, kw_only=True):
    """One column of a report."""

    name: str
    kind: str
    """`dimension` or `metric`."""
    unit: str
    """Of metrics `count`, `share` (0 to 1) or `seconds`; of dimensions `text` or `time`."""
    adds_up: bool | UnsetType = UNSET
    """Of metrics: whether all the rows sum up to the total; never for different visitors and averages."""


class ReportComparison(Struct, kw_only=True, rename={"from_": "from"}):
    """The period that is compared with."""

    from_: datetime
    to: datetime
    totals: Figures


class ReportView(Struct, kw_only=True, rename={"from_": "from"}):
    """The answer to one question."""

    site: str
    from_: datetime
    to: datetime
    """The first moment that does not count any more."""
    time_zone: str
    bots: str
    columns: list[ReportColumn]
    rows: list[dict[str, str | float | int | None]]
    """One member a column, null where unknown; what is compared is named `previous_…`."""
    totals: Figures
    """Of everything in the range, not of the rows shown."""
    comparison: ReportComparison | None
    has_more: bool
    """Whether the limit left rows out."""
    asked_at: datetime
    is_complete: bool
    """False while the copy that reports read is still being made."""
