"""One copy of reports a file: in one process, in a forked child, and in folders of any name."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from lastseen import LastSeen
from lastseen.reports.copy import CopyInUse
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.columnar.opening import look_at_copies, open_copy
from lastseen.visits.rule import VisitRule
from tests.reports.test_asking import events_in
from tests.stores.test_columnar import simple


def test_two_in_one_process_count_everything_once(tmp_path: Path) -> None:
    """An application that opens its database twice gets the right answers from both, each with a copy of its own."""
    address = f"sqlite:///{tmp_path}/truth.db"
    with (
        LastSeen.open(address, migrate=True, data_folder=tmp_path) as one,
        LastSeen.open(address, data_folder=tmp_path) as other,
    ):
        for first in (0, 3):
            one.store.visits.save(simple(3, first=first), lambda _site: VisitRule())
            for each in (one, other):
                assert events_in(each.reports) == first + 3
    assert len(list(tmp_path.glob("*.duckdb"))) == 2


def test_a_file_is_free_again_when_its_copy_is_closed_or_gone(tmp_path: Path) -> None:
    """The negative control: it is the open copy that keeps the next one away."""
    file = tmp_path / "copy.duckdb"
    first = DuckDBCopy(file)
    with pytest.raises(CopyInUse, match="this process"):
        DuckDBCopy(file)
    first.close()
    second = DuckDBCopy(file)
    first.close()
    with pytest.raises(CopyInUse):
        DuckDBCopy(tmp_path / "." / "copy.duckdb")
    del second
    gc.collect()
    DuckDBCopy(file).close()


FORKING = """
import os, sys
from pathlib import Path
from lastseen import LastSeen
from lastseen.visits.rule import VisitRule
from tests.reports.test_asking import events_in
from tests.stores.test_columnar import simple

address, folder = sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None
with LastSeen.open(address, migrate=True, data_folder=folder) as seen:
    seen.store.visits.save(simple(3), lambda _site: VisitRule())
    print("parent", events_in(seen.reports), flush=True)
    child = os.fork()
    seen.store.visits.save(simple(3, first=3 if child else 6), lambda _site: VisitRule())
    if child == 0:
        print("child", events_in(seen.reports) >= 6, flush=True)
        sys.exit(0)
    print("end of the child", os.waitpid(child, 0)[1])
    print("parent", events_in(seen.reports))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_forked_child_makes_a_copy_of_its_own(tmp_path: Path, has_folder: bool) -> None:
    """Both answer right, the child ends as it should, and the parent's file bears a kill right after that."""
    address = f"sqlite:///{tmp_path}/truth.db"
    folder = [str(tmp_path)] if has_folder else []
    command = [sys.executable, "-c", FORKING, address, *folder]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines() == ["parent 3", "child True", "end of the child 0", "parent 9"], found.stderr
    with LastSeen.open(address, data_folder=tmp_path) as seen:
        assert events_in(seen.reports) == 9


@pytest.mark.parametrize("name", ["clock", "permissions", "corrupt", "usual"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """A damaged copy is thrown away, wherever it is: its name says nothing about what the engine has found."""
    folder = tmp_path / name
    open_copy(folder, "address", "truth").close()
    (file,) = folder.iterdir()
    file.write_bytes(b"no database")
    ((_, said),) = look_at_copies(folder, "address")
    assert said.startswith("cannot be read")
    open_copy(folder, "address", "truth").close()
    assert list(folder.iterdir()) == [file]
    ((_, said),) = look_at_copies(folder, "address")
    assert said.endswith("bytes")
