"""Power cuts while the embedded store saves: what was acknowledged is there, once, and nothing is there by half."""

from __future__ import annotations

import pickle
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lastseen.stores.sqlite import SQLiteStore
from lastseen.testing.visit_copies import RULE, Replica, stored
from lastseen.visits.recount import Recount
from lastseen.visits.site import DEFAULT_SITE_ID
from tests.stores.power_cut import CannotHook, Disk, Step, prove
from tests.stores.recorded_saving import FILE, Facts, facts_of


@dataclass(slots=True)
class Promises:
    """What was acknowledged until some moment, and what was under way."""

    facts: Facts = field(default_factory=dict)
    begun: Facts = field(default_factory=dict)

    def note(self, kind: str, facts: Facts) -> None:
        """Go on to the next note."""
        if kind == "begun":
            self.begun = facts
        else:
            self.facts, self.begun = _with(self.facts, facts), {}


@dataclass(slots=True)
class Findings:
    """What many cuts left."""

    cuts: int = 0
    lost: int = 0
    """Cuts after which something acknowledged was gone, or there by half."""
    corrupt: int = 0
    """Cuts after which the file was broken, or visits were not those of the events."""
    under_way: Counter[str] = field(default_factory=Counter)
    """Cuts while something was being saved, by whether it is there."""
    messages: list[str] = field(default_factory=list)


def _with(facts: Facts, more: Facts) -> Facts:
    return {key: value for key, value in (facts | more).items() if value is not None}


def record(folder: Path, seed: int, count: int, synchronous: str) -> list[Step]:
    """Let a process save into a folder; return what the disk was told and what was promised."""
    file = folder.with_suffix(".steps")
    arguments = [str(folder), str(file), str(seed), str(count), synchronous]
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.recorded_saving", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps: list[Step] = pickle.loads(file.read_bytes())
    assert not [step for step in steps if step[0] == "broken"]
    return steps


def cut_often(folder: Path, *, rounds: int, cuts: int, count: int, synchronous: str = "FULL") -> Findings:
    """Save, cut at random moments and look; each round goes on with what a cut of the one before has left."""
    findings = Findings()
    dice = random.Random(rounds * cuts)
    base, before = folder / "start", Facts()
    base.mkdir()
    for round_ in range(rounds):
        disk = Disk(base)
        steps = record(base, round_ + 1, count, synchronous)
        assert sum(step[0] == "sync" for step in steps) or synchronous == "OFF"
        points = set(dice.sample(range(len(steps)), cuts))
        promises, survivors = Promises(before), []
        for number, step in enumerate(steps):
            disk.take(step)
            if step[0] == "note":
                promises.note(*step[1:])
            if number in points:
                target = folder / f"{round_}-{number}"
                disk.cut(target, dice)
                found = look(target / FILE, promises, findings)
                if found is not None:
                    survivors.append((target, found))
        if not survivors:
            break
        base, before = dice.choice(survivors)
    return findings


def look(file: Path, promises: Promises, findings: Findings) -> Facts | None:
    """Compare what a cut has left with what was promised; return what is there when all is well."""
    findings.cuts += 1
    try:
        problems, facts = _check(file)
    except Exception as error:  # whatever a broken file leads to
        problems, facts = [repr(error)], Facts()
    if problems:
        findings.corrupt += 1
        findings.messages += problems
        return None
    if promises.begun and facts == _with(promises.facts, promises.begun):
        findings.under_way["saved"] += 1
        return facts
    if facts == promises.facts:
        findings.under_way["not saved"] += bool(promises.begun)
        return facts
    findings.lost += 1
    different = sorted(key for key in facts.keys() | promises.facts.keys() if facts.get(key) != promises.facts.get(key))
    findings.messages.append(f"after {file.parent.parent.name}: {different[:5]} of {len(different)} differ")
    return None


def _check(file: Path) -> tuple[list[str], Facts]:
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        problems = [str(row) for row in connection.execute("PRAGMA integrity_check") if row != ("ok",)]
        problems += [f"no such row: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    store = SQLiteStore(file)
    with closing(store):
        facts = facts_of(store)
        if not facts:
            assert all_or_nothing(store), "only some migrations are there"
            return problems, facts
        recounted = Recount(store.visits, DEFAULT_SITE_ID, RULE).run()
        problems += [line for one in recounted if one.differs for line in one.differences()]
        replica = Replica()
        replica.catch_up(store.visits)
        if replica.visits_by_visitor() != stored(store.visits):
            problems.append("what a copy is told is not what is stored")
    return problems, facts


def all_or_nothing(store: SQLiteStore) -> bool:
    """Whether a store has none of its tables."""
    pending = store.pending_migrations()
    return store.migrate() == pending and not store.pending_migrations()


@pytest.mark.parametrize(("rounds", "cuts", "count"), [(2, 4, 60), pytest.param(10, 20, 150, marks=pytest.mark.faults)])
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, rounds: int, cuts: int, count: int) -> None:
    """Whatever of the unsynced writes reaches the disk: events, logins, keys, devices, sites and the trail are there.

    Each exactly once, no batch by half, the file whole, the visits those of the events; also what goes on from there.
    """
    findings = cut_often(tmp_path, rounds=rounds, cuts=cuts, count=count)
    assert findings.messages == []
    assert (findings.cuts, findings.lost, findings.corrupt) == (rounds * cuts, 0, 0)
    assert findings.under_way


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_without_a_sync_a_power_cut_takes_what_was_acknowledged(tmp_path: Path, synchronous: str) -> None:
    """The negative control: SQLite's own middle setting loses commits, the lowest breaks files too."""
    findings = cut_often(tmp_path, rounds=1, cuts=8, count=60, synchronous=synchronous)
    assert findings.lost + findings.corrupt > 0
    if synchronous == "NORMAL":
        assert findings.corrupt == 0


def test_a_library_that_cannot_be_hooked_is_no_success(tmp_path: Path) -> None:
    """Where nothing of what SQLite does is seen, the record says so and is none."""
    with pytest.raises(CannotHook, match="only set\\(\\) was seen"):
        prove(tmp_path, [])
