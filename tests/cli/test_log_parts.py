"""The parts of a long log: read and saved by several processes they give what one process gives, whoever is killed."""

from __future__ import annotations

import errno
import gzip
import io
import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from math import inf
from pathlib import Path

import pytest

from lastseen.cli.files import FileProgress
from lastseen.cli.lines import BrokenFile, decompressed
from lastseen.cli.log_parts import Importer, Summary, parts_of, sizes_of_parts
from lastseen.cli.log_reading import LogOptions, Repetitions, keys_of, repeated
from lastseen.cli.log_saving import Beginning, Chunks, PartSaver, size_of_batches
from lastseen.errors import StoreError
from lastseen.stores import open_store
from lastseen.stores.visit_batch import prepare
from lastseen.testing.streams import event
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID, Site
from lastseen.visits.sites import Sites
from lastseen.visits.visit import Visit
from tests.cli import logs
from tests.cli.logs import LOG

OPTIONS = LogOptions(all_requests=True, latest=2**62)
BATCH = 700
PART = 300_000
"""Bytes: the log has nine parts of a block or two."""
Imported = tuple[Summary, list[Event], list[Visit]]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Make a database with the site, whose secret is drawn once: ids come from it."""
    path = tmp_path / "empty.db"
    store = open_store(f"sqlite:///{path}")
    store.migrate()
    Sites(store.sites).ensure_first()
    store.close()
    return path


@pytest.fixture
def imported(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Imported]:
    """Import the log with so many other processes, and return what has become of it."""
    monkeypatch.setattr("lastseen.cli.log_parts.ALONE_UP_TO", 0)

    def run(workers: int, before_part: Callable[[Importer, int], object] = lambda _importer, _part: None) -> Imported:
        path = tmp_path / f"with-{workers}.db"
        path.write_bytes(empty.read_bytes())
        return _import(f"sqlite:///{path}", workers, before_part)

    return run


def _import(database: str, workers: int, before_part: Callable[[Importer, int], object]) -> Imported:
    store = open_store(database)
    try:
        site, summary = Sites(store.sites).get(DEFAULT_SITE_ID), Summary()
        with (
            LOG.open("rb") as stream,
            FileProgress([]) as progress,
            Importer(summary, most_workers=workers) as importer,
        ):
            importer.begin(Beginning(database, site, OPTIONS, BATCH), PartSaver(store, site, OPTIONS, BATCH), progress)
            repetitions = Repetitions()
            for number, chunks in enumerate(parts_of(decompressed(stream), PART)):
                before_part(importer, number)
                importer.take("log", chunks, repetitions)
            before_part(importer, -1)
            importer.finish()
        return summary, sorted(store.visits.all_events(site.id), key=lambda each: each.order), logs.visits_in(database)
    finally:
        store.close()


def test_several_processes_import_the_same(imported: Callable[..., Imported]) -> None:
    """Events, visits, what is counted and the numbers of bad lines are those of one process."""
    alone, several = imported(0), imported(2)
    assert several == alone
    summary, events, _ = alone
    assert (summary.lines, summary.saved, summary.new) == (logs.LINES, logs.EVENTS, logs.EVENTS)
    assert [line["line"] for line in summary.first_bad_lines] == [logs.BAD_LINE]
    assert len({each.id for each in events}) == logs.EVENTS


@pytest.mark.parametrize(("part", "victims"), [(1, 1), (3, 2), (-1, 1)], ids=["one-early", "all", "one-at-the-end"])
def test_a_killed_process_costs_nothing(imported: Callable[..., Imported], part: int, victims: int) -> None:
    """Whatever it was about when it was killed, its part is imported by the first process, each event once.

    What it had saved by then is not new any more.
    """
    helpers: list[int] = []

    def kill(importer: Importer, number: int) -> None:
        if number == part:
            helpers.extend(importer.helpers[:victims])
            for helper in helpers:
                os.kill(helper, 9)

    (summary, *saved), (alone, *saved_alone) = imported(2, kill), imported(0)
    assert saved == saved_alone
    assert replace(summary, new=alone.new) == alone
    assert summary.new <= alone.new
    assert len(helpers) == victims


@pytest.mark.parametrize("others", [0, 1])
def test_where_no_more_processes_are_to_be_had_fewer_do_it(
    imported: Callable[..., Imported], monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """A machine's limit of processes or open files makes an import slower, and stops none."""
    pipe, had = multiprocessing.Pipe, iter(range(others))

    def limited() -> object:
        if next(had, None) is None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return pipe()

    counts: list[int] = []
    monkeypatch.setattr(multiprocessing, "Pipe", limited)
    found = imported(2, lambda importer, _part: counts.append(len(importer.helpers)))
    assert found == imported(0)
    assert max(counts) == others


def test_what_can_be_done_before_a_transaction_is(imported: Callable[..., Imported], tmp_path: Path) -> None:
    """Every batch of a part is prepared while others may write."""
    kept_out: list[bool] = []

    def note(events: Sequence[Event], rule: VisitRule) -> Sequence[Event]:
        with closing(sqlite3.connect(tmp_path / "with-0.db", timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                kept_out.append(True)
            else:
                kept_out.append(False)
        return prepare(events, rule)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastseen.cli.log_saving.prepare", note)
        summary, _, _ = imported(0)
    assert summary.new == logs.EVENTS
    assert len(kept_out) > logs.EVENTS / BATCH
    assert not any(kept_out)


@pytest.mark.parametrize(
    ("events", "sizes"),
    [(0, []), (1, [1]), (700, [700]), (720, [720]), (1_049, [1_049]), (1_051, [526, 525]), (2_150, [717, 717, 716])],
)
def test_a_part_is_saved_in_batches_of_about_one_size(events: int, sizes: list[int]) -> None:
    """A few events more than wanted do not make a transaction of their own, and none has half as many again."""
    size = size_of_batches(events, BATCH)
    assert [min(size, events - start) for start in range(0, events, size)] == sizes


def test_a_database_that_refuses_ends_the_import(imported: Callable[..., Imported], tmp_path: Path) -> None:
    """What another process could not save is raised here, as if it had been tried here."""

    def take_away(importer: Importer, number: int) -> None:
        if number == 0:
            store = open_store(f"sqlite:///{tmp_path}/with-2.db")
            with store.visits._database.write() as connection:  # type: ignore[attr-defined]
                connection.execute("DROP TABLE lastseen_visits")
            store.close()

    with pytest.raises(StoreError, match="lastseen_visits"):
        imported(2, take_away)


def test_lines_that_repeat_themselves_are_told_apart(empty: Path) -> None:
    """The second and third of a line are events of their own, the same in whatever parts they come."""
    store = open_store(f"sqlite:///{empty}")
    site: Site = Sites(store.sites).get(DEFAULT_SITE_ID)
    store.close()
    a, b = (event(f"{name:0>32}", "ann", at=1, site_id=site.id) for name in "ab")
    assert Repetitions().among(keys_of([a, b, a, a])) == {2: 1, 3: 2}
    in_parts = Repetitions()
    assert in_parts.among(keys_of([a, b])) == {}
    assert in_parts.among(keys_of([a])) == {0: 1}
    assert in_parts.among(keys_of([a, b])) == {0: 2, 1: 1}
    ids = {a.id, repeated(a, 1, site).id, repeated(a, 2, site).id, repeated(b, 1, site).id}
    assert len(ids) == 4
    assert repeated(a, 2, site).id == repeated(a, 2, site).id


@pytest.mark.parametrize("size", [1, 9, 1_000, 12_000_000])
def test_parts_grow_until_they_are_as_large_as_asked(size: int) -> None:
    """Each by a quarter at most from the second on, which all have soon."""
    sizes = list(islice(sizes_of_parts(size), 20))
    assert sizes == sorted(sizes)
    assert sizes[-1] == size
    assert all(later <= earlier * 5 // 4 + 1 for earlier, later in pairwise(sizes[1:]))


@pytest.mark.parametrize("is_compressed", [True, False], ids=["gzip", "plain"])
def test_the_last_parts_of_a_file_are_smaller(tmp_path: Path, *, is_compressed: bool) -> None:
    """Each is half of what is left, about, as long as that is worth a part; where nothing tells they stay large."""
    whole = b"".join(b"%d\n" % number for number in range(1_200_000))
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(whole, 1) if is_compressed else whole)
    progress = FileProgress([path])
    with path.open("rb") as stream:
        assert progress.left() == inf
        progress.begin("log", path, stream)
        parts = list(parts_of(decompressed(stream), 1_000_000, progress.left))
        assert progress.left() == 0
    assert b"".join(chunk for part in parts for _, chunk in part) == whole
    sizes = [sum(len(chunk) for _, chunk in part) for part in parts]
    assert max(sizes) >= 1_000_000
    assert sizes[-2] < 700_000
    assert sizes[-1] < 300_000
    parts = list(parts_of(io.BytesIO(whole), 1_000_000))
    assert max(sum(len(chunk) for _, chunk in part) for part in parts[-2:]) >= 1_000_000


def test_parts_have_all_lines_in_their_order() -> None:
    """With the number of each chunk's first line; what comes before a file breaks off is there."""
    whole = b"".join(b"%d\n" % number for number in range(200_000))
    parts: list[Chunks] = list(parts_of(io.BytesIO(whole), 600_000))
    assert b"".join(chunk for part in parts for _, chunk in part) == whole
    assert len(parts) > 2
    assert all(chunk.startswith(b"%d\n" % (number - 1)) for part in parts for number, chunk in part)

    class Breaking(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            found = super().read1(size)
            if not found:
                raise BrokenFile("cut short")
            return found

    found: list[Chunks] = []
    with pytest.raises(BrokenFile):
        found.extend(parts_of(Breaking(whole), 600_000))
    assert sum(len(chunk) for part in found for _, chunk in part) > len(whole) - 100_000
