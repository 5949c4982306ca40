"""Power cuts while events are written to the spool and taken out of it: what was acknowledged comes back."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastseen.visits.event import Event
from tests.ingest.test_spool import reopened
from tests.stores.power_cut import Disk, Step


class Promises:
    """Batches that were acknowledged and not taken out since, those taken out, and those under way."""

    def __init__(self) -> None:
        self.kept: list[list[Event]] = []
        self.taken: list[list[Event]] = []
        self.begun: list[list[Event]] = []

    def note(self, kind: str, batches: list[list[Event]]) -> None:
        """Go on to the next note."""
        if kind == "begun":
            self.begun = batches
        elif kind == "acknowledged":
            self.kept, self.begun = self.kept + batches, []
        else:
            self.taken, self.kept = self.taken + batches, self.kept[len(batches) :]

    def hold_for(self, found: list[list[Event]]) -> bool:
        """Whether all that was promised is in what was found, in order and once, and nothing that never was."""
        left = [batch for batch in found if batch not in self.taken]
        whole = self.kept + self.begun
        again = len(found) - len(left)
        return len(self.kept) <= len(left) and left == whole[: len(left)] and again <= len(self.taken)


def record(folder: Path, rounds: int) -> list[Step]:
    """Let a process use a spool; return what the disk was told and what was promised."""
    folder.mkdir()
    file = folder.with_suffix(".steps")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ingest.recorded_spooling", str(folder), str(file), str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps: list[Step] = pickle.loads(file.read_bytes())
    assert not [step for step in steps if step[0] == "broken"]
    return steps


def bad_cuts(folder: Path, steps: list[Step], cuts: int) -> Iterator[int]:
    """Cut at random moments, and yield those after which a promise does not hold."""
    (folder / "empty").mkdir()
    disk, promises, dice = Disk(folder / "empty"), Promises(), random.Random(cuts)
    points = set(dice.sample(range(len(steps)), cuts))
    for number, step in enumerate(steps):
        disk.take(step)
        if step[0] == "note":
            promises.note(*step[1:])
        if number in points:
            target = folder / str(number)
            disk.cut(target, dice)
            batches, damages = reopened(target / "data" / "spool")
            if damages or not promises.hold_for(batches):
                yield number


@pytest.mark.parametrize(("rounds", "cuts"), [(60, 50), pytest.param(400, 500, marks=pytest.mark.faults)])
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, rounds: int, cuts: int) -> None:
    """Whatever of the unsynced reaches the disk: each batch that was appended and not taken out is there, in order.

    And no file is damaged.
    """
    steps = record(tmp_path / "used", rounds)
    assert {step[0] for step in steps} >= {"create", "create_folder", "write", "sync", "delete", "note"}
    assert list(bad_cuts(tmp_path, steps, cuts)) == []


@pytest.mark.parametrize("missing", ["the file's", "the folder's"])
def test_without_a_sync_a_power_cut_takes_what_was_acknowledged(tmp_path: Path, missing: str) -> None:
    """The negative control: the same writes on a disk that was not told to keep them, or not their names."""
    steps = record(tmp_path / "used", 60)
    spared = [step for step in steps if step[0] != "sync" or (".spool" in step[1]) is not (missing == "the file's")]
    assert len(spared) < len(steps)
    assert list(bad_cuts(tmp_path, spared, 40))
