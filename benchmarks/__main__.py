"""Run the benchmarks: all of them, and write docs/performance.md; or the named ones, and only print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.measure import Row
from benchmarks.report import page, table

BARS = {
    "B1": "record",
    "B2": "memory",
    "B3": "middleware",
    "B4": "postgres_flush",
    "B5": "sqlite_flush",
    "B6": "sessions",
    "B7": "http_activity",
    "B8": "ingest",
    "B8-store": "visit_store",
    "B9": "fold",
    "B10": "reports",
    "B11": "log_import",
    "B12": "browser_script",
    "B13": "start",
    "B14": "api_keys",
}
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def main(names: list[str]) -> int:
    """Return 0, also when a limit is not met: these are figures, not tests."""
    unknown = sorted(set(names) - BARS.keys())
    if unknown:
        print(f"no such bar: {', '.join(unknown)}; there are {', '.join(BARS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    machine = describe()
    for name in names or BARS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        run: Callable[[], list[Row]] = import_module(f"benchmarks.{BARS[name]}").run
        found = run()
        rows += found
        print(table(found), flush=True)
    if not names:
        PAGE.write_text(page(rows, machine, datetime.now(UTC).date()), "utf-8")
        print(f"written to {PAGE.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
