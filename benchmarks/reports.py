"""B10: reports over ten million events, beside hand-written queries on the same engine, and on the databases.

Processor time is printed beside the time that passed: the machine may have other work.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.measure import Row
from benchmarks.visit_rows import fill
from lastseen.reports.assembling import assemble
from lastseen.reports.question import Question
from lastseen.reports.text import read_question
from lastseen.stores.columnar.duckdb import CHECKPOINT_FROM, DuckDBCopy
from lastseen.stores.columnar.opening import MEMORY_LIMIT

EVENTS = 10_000_000
EVENTS_OF_PEERS = 1_000_000
ROUNDS = 5
LIMIT = 0.3
FIRST, LAST = date(2026, 2, 15), date(2026, 3, 17)
NOW = datetime(2026, 4, 1, tzinfo=UTC)
START, END = (int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**6 for day in (FIRST, LAST))

_VISITS = f"visits WHERE site = 'default' AND start >= {START} AND start < {END} AND NOT is_bot"
_EVENTS = f"events WHERE site = 'default' AND moment >= {START} AND moment < {END} AND NOT is_bot"
_FIRST = f"events WHERE site = 'default' AND visit_start >= {START} AND visit_start < {END} AND NOT is_bot"
_PAGES = f"""
SELECT * FROM (
    SELECT page, count(DISTINCT visitor) FROM {_FIRST} AND is_first_on_page GROUP BY page
) AS a JOIN (SELECT page, count(*) FROM {_EVENTS} AND is_page_view GROUP BY page) AS b ON a.page = b.page
ORDER BY 2 DESC LIMIT 100
"""


@dataclass(frozen=True)
class Case:
    """One report, and the same by hand; the text is fit for all three databases."""

    name: str
    question: Question
    by_hand: str


def _asked(**options: Any) -> Question:
    return read_question("visits", since=FIRST.isoformat(), until=LAST.isoformat(), **options)


CASES = (
    Case(
        "visitors, visits, bounces and duration by day",
        _asked(metrics=["visitors", "visits", "bounce_rate", "average_duration"], by=["day"]),
        f"SELECT start / 86400000000 - start % 86400000000 / 86400000000, count(DISTINCT visitor), count(*), "
        f"sum(CASE WHEN is_bounce THEN 1 ELSE 0 END), sum(duration) FROM {_VISITS} GROUP BY 1",
    ),
    Case("page views by page", _asked(metrics=["page_views"], by=["page"]),
         f"SELECT page, count(*) FROM {_EVENTS} AND is_page_view GROUP BY page ORDER BY 2 DESC LIMIT 100"),
    Case("visitors and page views by page", _asked(metrics=["visitors", "page_views"], by=["page"]), _PAGES),
    Case("visitors and visits by source", _asked(metrics=["visitors", "visits"], by=["source"]),
         f"SELECT source, count(DISTINCT visitor), count(*) FROM {_VISITS} GROUP BY source"),
    Case("visitors and visits by source, one country",
         _asked(metrics=["visitors", "visits"], by=["source"], filters=["country:is:DE"]),
         f"SELECT source, count(DISTINCT visitor), count(*) FROM {_VISITS} AND country = 'DE' GROUP BY source"),
    Case("visitors and visits by source, one page",
         _asked(metrics=["visitors", "visits"], by=["source"], filters=["page:is:/page/3"]),
         f"SELECT source, count(DISTINCT visitor), count(*) FROM {_VISITS} AND visit IN "
         f"(SELECT visit FROM {_FIRST} AND page = '/page/3') GROUP BY source"),
)  # fmt: skip
WORST = (
    Case("all five metrics of visits by page", _asked(by=["page"]), ""),
    Case("all five metrics of visits by source, one value of a property",
         _asked(by=["source"], filters=["property:plan:is:pro"]), ""),
    Case("visitors by page, all countries but one",
         _asked(metrics=["visitors"], by=["page"], filters=["country:is_not:PL"]), ""),
    Case("all five metrics of visits by page, all countries but one",
         _asked(by=["page"], filters=["country:is_not:PL"]), ""),
    Case("all five metrics of visits by country and page", _asked(by=["country", "page"]), ""),
    Case("all five metrics of visits by source, all pages but one",
         _asked(by=["source"], filters=["page:is_not:/page/3"]), ""),
    Case("all five metrics of visits by source, all values of a property but one",
         _asked(by=["source"], filters=["property:plan:is_not:pro"]), ""),
    Case("all five metrics of visits by page, all values of a property but one",
         _asked(by=["page"], filters=["property:plan:is_not:pro"]), ""),
    Case("all five metrics of visits by event, all events but one",
         _asked(by=["event"], filters=["event:is_not:event 3"]), ""),
)  # fmt: skip


def run() -> list[Row]:
    """Return the rows: each report beside the query by hand, the cost by days, and the databases at a smaller size."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reports.duckdb")
        count = fill(file, EVENTS)
        rows = _beside_bare(file, count)
        small = Path(folder, "small.duckdb")
        rows += _beside_databases(small, fill(small, EVENTS_OF_PEERS), Path(folder, "peer.db"))
    return rows


def _beside_bare(file: Path, count: int) -> list[Row]:
    copy = DuckDBCopy(file, memory=MEMORY_LIMIT)
    # The engine opens a file twice in one process only with the same options.
    bare = duckdb.connect(str(file), config={"memory_limit": MEMORY_LIMIT, "checkpoint_threshold": CHECKPOINT_FROM})
    rows = []
    for case in (*CASES, *WORST):
        mine = _measured(lambda question=case.question: _ask(copy, question))  # type: ignore[misc]
        by_hand = _measured(lambda text=case.by_hand: bare.execute(text).fetchall()) if case.by_hand else None  # type: ignore[misc]
        rows.append(
            Row(
                bar="B10",
                case=f"{count:,} events, 30 of 90 days: {case.name}",
                figure=mine.text,
                limit=f"under {LIMIT * 1_000:.0f} ms",
                peer=f"bare DuckDB {by_hand.text}" if by_hand else "",
                ratio=f"{mine.processor / by_hand.processor:.2f} of processor time" if by_hand else "",
                spread=mine.spread,
                met=mine.passed < LIMIT,
            )
        )
    for days in (1, 7, 30, 90):
        asked = read_question("visits", since="2026-01-01", until=str(date(2026, 1, 1) + timedelta(days=days)))
        mine = _measured(lambda question=asked: _ask(copy, question))  # type: ignore[misc]
        rows.append(Row(bar="B10", case=f"totals of {days} of 90 days", figure=mine.text, spread=mine.spread))
    bare.close()
    copy.close()
    return rows


def _beside_databases(file: Path, count: int, peer: Path) -> list[Row]:
    copy = DuckDBCopy(file, memory=MEMORY_LIMIT)
    database = _sqlite_of(copy, peer)
    rows = []
    for case in CASES:
        mine = _measured(lambda question=case.question: _ask(copy, question))  # type: ignore[misc]
        theirs = _measured(lambda text=case.by_hand: database.execute(text).fetchall())  # type: ignore[misc]
        rows.append(
            Row(
                bar="B10",
                case=f"{count:,} events: {case.name}",
                figure=mine.text,
                peer=f"SQLite, indexed by time {theirs.text}",
                ratio=f"{theirs.passed / mine.passed:.1f} times as long",
                spread=mine.spread,
            )
        )
    database.close()
    copy.close()
    return rows


def _ask(copy: DuckDBCopy, question: Question) -> object:
    return assemble(question, NOW, lambda period, keys: copy.count(question, period, keys=keys), is_complete=True)


def _sqlite_of(copy: DuckDBCopy, file: Path) -> sqlite3.Connection:
    """Put the same rows into SQLite, flat and indexed by time: the best that a query can hope for there."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA cache_size = -1000000")
    wanted = {
        "visits": ("site", "visit", "visitor", "start", "duration", "is_bounce", "is_bot", "source", "country"),
        "events": ("site", "visit", "visitor", "moment", "visit_start", "page", "is_page_view", "is_bot",
                   "is_first_on_page"),
    }  # fmt: skip
    for table, columns in wanted.items():
        texts = [f"hash({name})::VARCHAR" if name in {"visit", "visitor"} else name for name in columns]
        with copy._connection.cursor() as cursor:
            found = cursor.execute(f"SELECT {', '.join(texts)} FROM {table}").fetchall()
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", found)
        connection.execute("COMMIT")
    connection.execute("CREATE INDEX visits_by_start ON visits (site, start)")
    connection.execute("CREATE INDEX events_by_moment ON events (site, moment)")
    connection.execute("CREATE INDEX events_by_start ON events (site, visit_start)")
    connection.execute("ANALYZE")
    return connection


@dataclass(frozen=True)
class Measured:
    """What one question cost: the middle of the time that passed, and the least processor time."""

    passed: float
    processor: float
    spread: str

    @property
    def text(self) -> str:
        return f"{self.passed * 1e3:,.0f} ms ({self.processor * 1e3:,.0f} ms of processors)"


def _measured(ask: Callable[[], object]) -> Measured:
    ask()
    passed, processor = [], []
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        ask()
        passed.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    spread = f"{min(passed) * 1e3:,.0f} to {max(passed) * 1e3:,.0f} ms"
    return Measured(statistics.median(passed), min(processor), spread)
