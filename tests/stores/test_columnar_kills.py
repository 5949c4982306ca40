"""Kill -9 in the midst of copying, again and again: the copy equals the truth after the restart."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lastseen.reports.asking import Reports
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.sqlite import SQLiteStore
from tests.reports.equal import assert_equal
from tests.stores.test_columnar import RULE, simple

FEEDER = """
import sys
from pathlib import Path
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])
copy = DuckDBCopy(Path(sys.argv[2]), settle_from=2)
print("begin", flush=True)
while True:
    changes = store.visits.changes(copy.position(), 15)
    if changes.position != copy.position():
        copy.apply(changes)
    if changes.is_complete:
        copy.finish_building()
        print("done", flush=True)
        sys.stdin.read()
"""
ADDED = 150


def kill_and_compare(folder: Path, kills: int, seed: int) -> None:
    """Add events, start a copying process, kill it after some part of a second, and compare."""
    chance = random.Random(seed)
    truth, file = folder / "truth.db", folder / "copy.duckdb"
    store = SQLiteStore(str(truth))
    store.migrate()
    in_the_midst = 0
    for turn in range(kills):
        events = simple(ADDED, first=turn * ADDED)
        chance.shuffle(events)
        store.visits.save(events, lambda _: RULE)
        if chance.random() < 0.3:
            file.unlink(missing_ok=True)
        in_the_midst += _killed_while_copying(truth, file, chance.uniform(0, 0.35))
        copy = DuckDBCopy(file, settle_from=2)
        reports = Reports(store.visits, lambda copy=copy: copy)  # type: ignore[misc]  # bound in this turn
        reports.catch_up()
        assert_equal(copy, store.visits, ["default"])
        reports.close()
    store.close()
    assert in_the_midst, "no kill came while something was copied: the test tested nothing"


def _killed_while_copying(truth: Path, file: Path, seconds: float) -> bool:
    command = [sys.executable, "-c", FEEDER, str(truth), str(file)]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as feeder:
        assert feeder.stdout is not None
        assert feeder.stdout.readline() == b"begin\n"
        threading.Timer(seconds, feeder.kill).start()
        return feeder.stdout.readline() != b"done\n"


def test_killed_while_copying(tmp_path: Path) -> None:
    """Five kills at random moments, some of a first copying, some of one that goes on."""
    kill_and_compare(tmp_path, kills=5, seed=1)


@pytest.mark.faults
def test_killed_fifty_times_while_copying(tmp_path: Path) -> None:
    """Fifty kills at random moments on one truth that grows."""
    kill_and_compare(tmp_path, kills=50, seed=2)
