"""B5: a flush to SQLite beside the bare statement."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.measure import Row, rate, take_turns
from lastseen import ActivityTracker, LastSeen, TrackerSettings

TABLE_ROWS = 1_000_000
BATCHES = {100: 300, 1_000: 100, 10_000: 15, 100_000: 7}
"""Rows of a batch, and how often it is repeated: what takes a millisecond needs many rounds for a true middle one."""
CHUNK = 5_000
LEAST = 0.8
SETTINGS = TrackerSettings(
    flush_interval=timedelta(hours=1),
    max_buffer_size=None,
    max_pending=200_000,
    chunk_size=CHUNK,
    flush_deadline=timedelta(minutes=5),
    close_deadline=timedelta(minutes=5),
)
STORED_AT = datetime(2026, 1, 1, tzinfo=UTC)

UPSERT = """
INSERT INTO client_activity (client_id, last_seen, created_at) VALUES (?1, ?2, ?2)
ON CONFLICT (client_id) DO UPDATE SET last_seen = excluded.last_seen
WHERE client_activity.last_seen < excluded.last_seen
"""


def run() -> list[Row]:
    """Write the same keys by several roads, each in a file of its own: none finds pages that another has just read."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [hashlib.md5(str(number).encode()).hexdigest()[:20] for number in range(TABLE_ROWS)]
        files = [Path(folder, f"{name}.db") for name in ("bare", "recorder", "flush", "unsorted")]
        _fill(files[0], keys)
        for other in files[1:]:
            shutil.copy(files[0], other)
        return _compare(files, keys)


def _fill(file: Path, keys: list[str]) -> None:
    LastSeen.open(f"sqlite:///{file}", migrate=True).close()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN")
    connection.executemany(UPSERT, ((key, _text(STORED_AT)) for key in sorted(keys)))
    connection.execute("COMMIT")
    connection.close()


def _compare(files: list[Path], keys: list[str]) -> list[Row]:
    bare, unsorted = _open_bare(files[0]), _open_bare(files[3])
    recorder = LastSeen.open(f"sqlite:///{files[1]}")
    flushed = LastSeen.open(f"sqlite:///{files[2]}")
    tracker = ActivityTracker(flushed.store.clients, SETTINGS)
    moments = (STORED_AT + timedelta(seconds=second) for second in count(1))
    rows = []
    for size, repeats in BATCHES.items():
        batches = [random.Random(number).sample(keys, size) for number in range(repeats + 1)]
        rounds = take_turns(
            {
                "bare": partial(_bare, bare, iter(batches), moments),
                "recorder": partial(_recorder, recorder, iter(batches), moments),
                "flush": partial(_flush, tracker, iter(batches), moments),
                "unsorted": partial(_bare_unsorted, unsorted, iter(batches), moments),
            },
            repeats,
        )
        for name, case in (
            ("flush", "flush out of the buffer"),
            ("recorder", "recorder alone"),
        ):
            speed = 1 / rounds.ratio(name, "bare")
            rows.append(
                Row(
                    bar="B5",
                    case=f"SQLite, {case}, {size:,} of {TABLE_ROWS:,} rows",
                    figure=rate(rounds.median(name), "rows"),
                    limit=f"at least {LEAST:.0%} of bare",
                    peer=f"bare executemany {rate(rounds.median('bare'), 'rows')}",
                    ratio=f"{speed:.2f}",
                    spread=rounds.ratio_spread(name, "bare", inverted=True),
                    met=speed >= LEAST,
                )
            )
        rows.append(
            Row(
                bar="B5",
                case=f"SQLite, bare executemany out of a dictionary of floats, {size:,} of {TABLE_ROWS:,} rows",
                figure=rate(rounds.median("unsorted"), "rows"),
                peer=f"bare executemany {rate(rounds.median('bare'), 'rows')}",
                ratio=f"{1 / rounds.ratio('unsorted', 'bare'):.2f}",
                spread=rounds.ratio_spread("unsorted", "bare", inverted=True),
            )
        )
    tracker.close()
    flushed.close()
    recorder.close()
    unsorted.close()
    bare.close()
    return rows


def _open_bare(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 10000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _bare(connection: sqlite3.Connection, batches: Iterator[list[str]], moments: Iterator[datetime]) -> float:
    at = _text(next(moments))
    rows = sorted((key, at) for key in next(batches))
    began = time.perf_counter()
    for first in range(0, len(rows), CHUNK):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(UPSERT, rows[first : first + CHUNK])
        connection.execute("COMMIT")
    return (time.perf_counter() - began) / len(rows)


def _bare_unsorted(connection: sqlite3.Connection, batches: Iterator[list[str]], moments: Iterator[datetime]) -> float:
    """Begin where a flush begins: with a dictionary in the order in which the keys came, and times of the clock."""
    waiting = dict.fromkeys(next(batches), next(moments).timestamp())
    began = time.perf_counter()
    rows = [(key, _text(datetime.fromtimestamp(waiting[key], UTC))) for key in sorted(waiting)]
    for first in range(0, len(rows), CHUNK):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(UPSERT, rows[first : first + CHUNK])
        connection.execute("COMMIT")
    return (time.perf_counter() - began) / len(rows)


def _recorder(seen: LastSeen, batches: Iterator[list[str]], moments: Iterator[datetime]) -> float:
    at = next(moments)
    keys = sorted(next(batches))
    chunks = [dict.fromkeys(keys[first : first + CHUNK], at) for first in range(0, len(keys), CHUNK)]
    began = time.perf_counter()
    for chunk in chunks:
        seen.store.clients.batch_record_activity(chunk)
    return (time.perf_counter() - began) / len(keys)


def _flush(tracker: ActivityTracker, batches: Iterator[list[str]], moments: Iterator[datetime]) -> float:
    at, keys = next(moments), next(batches)
    for key in keys:
        tracker.record(key, at)
    began = time.perf_counter()
    result = tracker.flush()
    elapsed = time.perf_counter() - began
    assert result.updated_count == len(keys), result
    return elapsed / len(keys)


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")
