"""Power cuts while events are written to the spool and taken out of it: what was acknowledged comes back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastseen.ingest import spool as spool_module
from lastseen.ingest.spool import Spool
from lastseen.visits.event import Event
from tests.ingest.test_spool import ROOM, event, reopened
from tests.stores.power_cut import Disk, Step

SMALL_FILES = 6_000
"""Bytes of one file of the spool, so that there are many."""


class Watched:
    """A folder whose changes become steps of a disk: it is compared with what it was, at each sync and at each look."""

    def __init__(self, folder: Path, steps: list[Step]) -> None:
        self._folder = folder
        self._steps = steps
        self._known: dict[str, bytes | None] = {}
        self._fsync = os.fsync

    def fsync(self, handle: int) -> None:
        """Stand in for `os.fsync`: note what has changed, sync, and note what was synced."""
        self.look()
        self._fsync(handle)
        if (path := self._path_of(handle)) is not None:
            self._steps.append(("sync", path))

    def look(self) -> None:
        """Note what has changed."""
        now = {str(path.relative_to(self._folder)): _content(path) for path in sorted(self._folder.rglob("*"))}
        for path in sorted(self._known.keys() - now.keys(), reverse=True):
            self._steps.append(("delete", path))
        for path, content in now.items():
            self._compare(path, self._known.get(path), content, is_new=path not in self._known)
        self._known = now

    def _compare(self, path: str, before: bytes | None, content: bytes | None, *, is_new: bool) -> None:
        if is_new:
            self._steps.append(("create_folder" if content is None else "create", path))
        if content is None:
            return
        before = before or b""
        if len(content) < len(before):
            self._steps.append(("truncate", path, len(content)))
        assert content.startswith(before[: len(content)]), "the spool only appends"
        if len(content) > len(before):
            self._steps.append(("write", path, len(before), content[len(before) :]))

    def _path_of(self, handle: int) -> str | None:
        wanted = os.fstat(handle)
        for path in (self._folder, *self._folder.rglob("*")):
            if os.path.samestat(path.stat(), wanted):
                return str(path.relative_to(self._folder))
        return None


def _content(path: Path) -> bytes | None:
    return None if path.is_dir() else path.read_bytes()


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


def use(folder: Path, dice: random.Random, rounds: int, steps: list[Step], look: Callable[[], None]) -> None:
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
            look()
            spool = Spool(root, ROOM)
        look()
    spool.close()


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make many files of what is little."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", SMALL_FILES)


def record(folder: Path, rounds: int, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Use a spool and return what the disk was told."""
    steps: list[Step] = []
    folder.mkdir()
    watched = Watched(folder, steps)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", watched.fsync)
        use(folder, random.Random(rounds), rounds, steps, watched.look)
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
            if not promises.hold_for(reopened(target / "data" / "spool")[0]):
                yield number


@pytest.mark.parametrize(("rounds", "cuts"), [(60, 50), pytest.param(400, 500, marks=pytest.mark.faults)])
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int, cuts: int
) -> None:
    """Whatever of the unsynced reaches the disk: each batch that was appended and not taken out is there, in order."""
    steps = record(tmp_path / "used", rounds, monkeypatch)
    assert {step[0] for step in steps} >= {"create", "create_folder", "write", "sync", "delete", "note"}
    assert list(bad_cuts(tmp_path, steps, cuts)) == []


@pytest.mark.parametrize("missing", ["the file's", "the folder's"])
def test_without_a_sync_a_power_cut_takes_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """The negative control: the same writes on a disk that was not told to keep them, or not their names."""
    steps = record(tmp_path / "used", 60, monkeypatch)
    spared = [
        step for step in steps if step[0] != "sync" or step[1].endswith(".spool") is not (missing == "the file's")
    ]
    assert len(spared) < len(steps)
    assert list(bad_cuts(tmp_path, spared, 40))
