"""A process that spools events and takes them out again, and records what the disk was told and what was promised.

It gets a folder, a file for the record, and a number of rounds.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from pathlib import Path
from typing import Any

from lastseen.ingest import spool as spool_module
from lastseen.ingest.spool import Spool
from tests.ingest.test_spool import ROOM, event
from tests.stores.power_cut import Step, record_sqlite

SMALL_FILES = 20_000
"""Bytes of one file of the spool, so that there are many."""


def use(folder: Path, dice: random.Random, rounds: int, steps: list[Step]) -> None:
    """Append, take out and restart at random, and note what was promised."""
    root = folder / "data" / "spool"
    spool, number = Spool(root, ROOM), 0
    for _ in range(rounds):
        kind = dice.random()
        if kind < 0.75:
            batches = [
                [event(number + each, properties={"text": "x" * dice.randrange(1_500)})]
                for each in range(dice.randint(1, 4))
            ]
            number += len(batches)
            steps.append(("note", "begun", batches))
            assert spool.append(batches) == len(batches)
            steps.append(("note", "acknowledged", batches))
        elif kind < 0.9:
            if not spool.is_empty:
                batches = list(spool.oldest())
                steps.append(("note", "taken", batches))
                spool.remove_oldest()
        else:
            while dice.random() < 0.5 and not spool.is_empty:
                steps.append(("note", "taken", list(spool.oldest())))
                spool.remove_oldest()
            spool.close()
            spool = Spool(root, ROOM)
    spool.close()


def record_removals(folder: Path, steps: list[Step]) -> None:
    """From now on add to the steps which databases and journals Python removes below a folder."""
    unlink = os.unlink

    def removing(path: Any, *arguments: Any, **options: Any) -> None:
        unlink(path, *arguments, **options)
        if Path(path).is_relative_to(folder) and ".spool" in Path(path).name:
            steps.append(("delete", str(Path(path).relative_to(folder))))

    os.unlink = removing


def main() -> None:
    """Record one run."""
    folder, record, rounds = sys.argv[1:]
    steps: list[Step] = []
    place = Path(folder).resolve()
    record_sqlite(place, steps)
    record_removals(place, steps)
    spool_module.SEGMENT_BYTES = SMALL_FILES
    use(place, random.Random(rounds), int(rounds), steps)
    Path(record).write_bytes(pickle.dumps(steps))


if __name__ == "__main__":
    main()
