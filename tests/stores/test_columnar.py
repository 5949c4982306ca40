"""The copy in DuckDB: whatever happens to the truth, and in whatever batches it is told, the copy becomes equal."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from threading import Thread
from time import monotonic

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastseen.clock import from_micros
from lastseen.errors import StoreError, StoreUnavailable
from lastseen.reports.asking import Reports
from lastseen.reports.copy import CopyInUse
from lastseen.reports.question import Question
from lastseen.reports.terms import Dimension, Metric
from lastseen.stores.columnar import opening
from lastseen.stores.columnar.duckdb import DuckDBCopy
from lastseen.stores.columnar.opening import open_copy
from lastseen.stores.memory.visits import MemoryVisits
from lastseen.visits.event import Event
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import Changes, VisitStore
from tests.reports.equal import assert_equal, rows
from tests.reports.material import histories
from tests.server.running import eventually

RULE = VisitRule()
HOUR = 3_600_000_000
OTHER_RULE = VisitRule(timeout=timedelta(hours=3), new_visit_on_utm_change=False)


def feed(copy: DuckDBCopy, store: VisitStore, limit: int, batches: int = 1_000_000) -> bool:
    """Apply batches until nothing is left, or as many as are given; return whether nothing is left."""
    for _ in range(batches):
        changes = store.changes(copy.position(), limit)
        if changes.position != copy.position():
            copy.apply(changes)
        if changes.is_complete:
            copy.finish_building()
            return True
    return False


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(30),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    limits=st.lists(st.sampled_from([1, 3, 7, 30]), min_size=6, max_size=6),
    is_refolded=st.booleans(),
    settle_from=st.sampled_from([0, 1, 3, 1_000]),
)
def test_the_copy_equals_the_truth_after_any_batches(
    history: Sequence[Event], cuts: Sequence[int], limits: Sequence[int], is_refolded: bool, settle_from: int
) -> None:
    """Late events, joined visitors, ended visits and another rule, fed in pieces of any size between them."""
    store, copy = MemoryVisits(), DuckDBCopy(None, threads=1, settle_from=settle_from, quiet=HOUR)
    waiting = list(history)
    for cut, limit in zip([*cuts, len(waiting)], limits, strict=False):
        store.save(waiting[:cut], lambda _: RULE)
        del waiting[:cut]
        feed(copy, store, limit, batches=3)
    if is_refolded:
        store.refold("default", store.visitor_ids("default"), OTHER_RULE)
    for visitor in store.visitor_ids("default")[:2]:
        for visit in store.visits_of_visitors("default", [visitor]).get(visitor, ()):
            store.end("default", visit.id, from_micros(visit.last_activity + 1), "timeout")
    assert feed(copy, store, limits[-1])
    assert_equal(copy, store)
    assert feed(copy, store, 5)
    assert_equal(copy, store)
    copy.close()


def saved(path: Path, events: Sequence[Event]) -> VisitStore:
    """Return a store on SQLite with these events."""
    from lastseen.stores.sqlite import SQLiteStore

    store = SQLiteStore(str(path))
    store.migrate()
    store.visits.save(events, lambda _: RULE)
    return store.visits


def simple(count: int, first: int = 0) -> list[Event]:
    """Return page views of a few visitors, ten minutes apart."""
    return [
        Event(
            id=f"e{number}",
            site_id="default",
            distinct_id=f"v{number % 5}",
            name="$pageview",
            at=1_780_000_000_000_000 + number * 600_000_000,
            received_at=0,
            url=f"https://e.org/{number % 3}",
        )
        for number in range(first, first + count)
    ]


def test_what_is_erased_leaves_the_copy() -> None:
    """Erased events and removed visits are gone; the others stay."""
    store, copy = MemoryVisits(), DuckDBCopy(None)
    store.save(simple(20), lambda _: RULE)
    feed(copy, store, 100)
    gone = store.events_of_visitors("default", ["v1"])["v1"]
    visits = store.visits_of_visitors("default", ["v1"])["v1"]
    copy.apply(
        Changes(
            position="later",
            erased=[("default", event.id) for event in gone],
            removed=[("default", visit.id) for visit in visits],
        )
    )
    assert rows(copy, "SELECT count(*) FROM events") == [(16,)]
    assert not rows(copy, "SELECT 1 FROM events SEMI JOIN (SELECT md5_number('default:v1') AS visitor) USING (visitor)")
    assert not rows(copy, "SELECT 1 FROM visits SEMI JOIN (SELECT md5_number('default:v1') AS visitor) USING (visitor)")
    copy.close()


SETTLED = "SELECT count(*) FROM visits WHERE is_settled"


def test_a_settled_visit_is_taken_out_when_it_changes_and_comes_back(tmp_path: Path) -> None:
    """A late event unsettles its visit and no other; the next settling links the rows as the truth has them."""
    store = saved(tmp_path / "truth.db", simple(200))
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    feed(copy, store, 1_000)
    assert_equal(copy, store, ["default"])
    settled = rows(copy, SETTLED)[0][0]
    assert settled > 20
    late = msgspec.structs.replace(simple(1, first=40)[0], id="late", url="https://e.org/late")
    store.save([late], lambda _: RULE)
    feed(copy, store, 1_000)
    assert rows(copy, SETTLED) == [(settled - 1,)]
    assert_equal(copy, store, ["default"])
    copy.close()
    eager = DuckDBCopy(tmp_path / "copy.duckdb", settle_from=1)
    store.save(simple(1, first=200), lambda _: RULE)
    feed(eager, store, 1_000)
    assert rows(eager, SETTLED)[0][0] > settled - 1
    assert_equal(eager, store, ["default"])
    eager.close()


def test_one_clock_that_is_ahead_settles_nothing_early(tmp_path: Path) -> None:
    """A visit dated a year ahead leaves the visits of the last hour as they are: they may still go on."""
    ahead = msgspec.structs.replace(simple(1, first=200)[0], at=1_812_000_000_000_000)
    store = saved(tmp_path / "truth.db", [*simple(200), ahead])
    copy = DuckDBCopy(None)
    feed(copy, store, 1_000)
    by_age = [is_settled for (is_settled,) in rows(copy, "SELECT is_settled FROM visits ORDER BY start")]
    assert by_age[:190] == [True] * 190
    assert by_age[-5:] == [False] * 5
    copy.close()


def test_visits_before_settled_ones_are_linked_with_them(tmp_path: Path) -> None:
    """What was settled learns of visits to the same pages that are settled later and began before; so does the rest."""
    store = saved(tmp_path / "truth.db", simple(60, first=60))
    copy = DuckDBCopy(None, settle_from=0, quiet=0)
    feed(copy, store, 1_000)
    linked = "SELECT count(*) FROM settled WHERE previous_start < 0 AND is_first_on_page"
    firsts = rows(copy, linked)
    store.save(simple(30), lambda _: RULE)
    feed(copy, store, 1_000)
    assert rows(copy, linked) == firsts
    assert_equal(copy, store, ["default"])
    store.save(simple(30, first=30), lambda _: RULE)
    feed(copy, store, 1_000)
    assert_equal(copy, store, ["default"])
    copy.close()


@pytest.mark.parametrize("settle_from", [1, 10_000])
def test_when_a_page_was_seen_before_is_packed_for_reading(tmp_path: Path, settle_from: int) -> None:
    """Settled with the first copying or after it: the column is in the way that is read fast."""
    store = saved(tmp_path / "truth.db", simple(200))
    copy = DuckDBCopy(tmp_path / "copy.duckdb", settle_from=settle_from, quiet=0)
    feed(copy, store, 1_000)
    store.save(simple(60, first=200), lambda _: RULE)
    feed(copy, store, 1_000)
    copy.close()
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    rows(copy, "CHECKPOINT")
    packed = (
        "SELECT DISTINCT compression FROM pragma_storage_info('settled') "
        "WHERE column_name = 'previous_start_of_kind' AND segment_type = 'BIGINT'"
    )
    assert rows(copy, packed) == [("BitPacking",)]
    copy.close()


def test_batches_that_are_settled_as_they_come_leave_numbers_for_others(tmp_path: Path) -> None:
    """A pair of visitor and page takes one number: there are enough for ever, also for visits that came late."""
    store, copy = saved(tmp_path / "truth.db", simple(20)), DuckDBCopy(None, settle_from=1, quiet=0)
    feed(copy, store, 1_000)
    highest: list[int] = []
    for number in range(3):
        store.save(
            [msgspec.structs.replace(each, distinct_id=f"new {number}") for each in simple(20, first=20 + 20 * number)],
            lambda _: RULE,
        )
        feed(copy, store, 1_000)
        highest += rows(copy, "SELECT max(pair) FROM settled")[0]
    assert 0 < highest[-1] - highest[0] <= 40
    assert_equal(copy, store, ["default"])
    copy.close()


def test_a_copy_is_there_after_a_restart(tmp_path: Path) -> None:
    """Position and rows are kept in the file; what is new is copied on top."""
    store = saved(tmp_path / "truth.db", simple(20))
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    feed(copy, store, 7)
    position = copy.position()
    copy.close()
    again = DuckDBCopy(tmp_path / "copy.duckdb")
    assert again.position() == position != ""
    store.save(simple(20, first=20), lambda _: RULE)
    feed(again, store, 7)
    assert_equal(again, store, ["default"])
    again.close()


@pytest.mark.parametrize("damage", ["text", "cut", "middle", "format", "mixing", "truth", "gone"])
def test_a_copy_that_is_of_no_use_is_thrown_away(tmp_path: Path, damage: str) -> None:
    """A broken file, an older format, an engine that mixes otherwise, another database's copy: all begins anew."""
    store = saved(tmp_path / "truth.db", simple(200))
    file = tmp_path / "copy.duckdb"
    copy = DuckDBCopy(file, truth="one")
    feed(copy, store, 50)
    if damage == "format":
        rows(copy, "UPDATE facts SET value = '0' WHERE name = 'format'")
    if damage == "mixing":
        rows(copy, "UPDATE facts SET value = value || '0' WHERE name = 'format'")
    copy.close()
    content = file.read_bytes()
    middle = content[:4096] + bytes(4096) + content[8192:]
    broken = {"text": b"no database", "cut": content[:5_000], "middle": middle}
    if damage in broken:
        file.write_bytes(broken[damage])
    if damage == "gone":
        file.unlink()
    again = DuckDBCopy(file, truth="another" if damage == "truth" else "one")
    assert again.position() == ""
    feed(again, store, 50)
    assert_equal(again, store, ["default"])
    again.close()


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("place", range(3, 10))
def test_a_damage_that_shows_late_is_healed(tmp_path: Path, place: int, follows: bool) -> None:
    """A file whose end is missing, or with a wrong stretch anywhere, opens: whoever reads that far copies again."""
    store = saved(tmp_path / "truth.db", simple(2_000))
    file = tmp_path / "copy.duckdb"
    copy = DuckDBCopy(file)
    feed(copy, store, 2_000)
    copy.close()
    content = file.read_bytes()
    at = len(content) * place // 10
    file.write_bytes(content[:at] if place % 2 else content[:at] + bytes(4_096) + content[at + 4_096 :])
    reports = Reports(store, lambda: DuckDBCopy(file))
    if follows:
        reports.follow()
    question = Question(
        metrics=(Metric.EVENTS,), by=(Dimension("page"),), since=date(2026, 1, 1), until=date(2027, 1, 1)
    )
    until = monotonic() + 30
    while (answer := reports.ask(question)).totals != (2_000,):
        assert not answer.is_complete
        assert monotonic() < until
    reports.close()


def test_a_good_copy_is_not_thrown_away(tmp_path: Path) -> None:
    """The negative control of the test above."""
    store = saved(tmp_path / "truth.db", simple(200))
    copy = DuckDBCopy(tmp_path / "copy.duckdb", truth="one")
    feed(copy, store, 50)
    copy.close()
    again = DuckDBCopy(tmp_path / "copy.duckdb", truth="one")
    assert again.position() != ""
    again.close()


def test_a_closed_copy_is_away_and_not_wrong(tmp_path: Path) -> None:
    """Who asks while a copy is made again, or the process ends, is told to come back: that is no fault of anything."""
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    question = Question(metrics=(Metric.EVENTS,), since=date(2026, 1, 1), until=date(2027, 1, 1))
    period = question.period(from_micros(0))
    assert copy.count(question, period).totals == (0,)
    copy.close()
    with pytest.raises(StoreUnavailable, match="made again"):
        copy.count(question, period)
    with pytest.raises(StoreUnavailable, match="made again"):
        copy.apply(Changes(position="1", events=simple(3)))


def test_closing_breaks_answers_off(tmp_path: Path) -> None:
    """A process that is told to end does not wait for questions that take minutes."""
    copy = DuckDBCopy(tmp_path / "copy.duckdb")
    outcomes: list[object] = []

    def ask() -> None:
        try:
            with copy._reading() as cursor:
                outcomes.append(cursor.execute("SELECT sum(hash(range)) FROM range(100000000000)"))
        except StoreUnavailable as error:
            outcomes.append(error)

    asking = [Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    eventually(lambda: len(copy._readers) == 3, "they ask")
    copy.close()
    for thread in asking:
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3


HOLDER = """
import sys
from pathlib import Path
from lastseen.stores.columnar.opening import open_copy
copy = open_copy(Path(sys.argv[1]), "address", "truth")
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let another process have a copy open."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"
        yield
        holder.stdin.close()


def test_each_process_has_a_copy_of_its_own(tmp_path: Path) -> None:
    """Who comes beside finds what it copied the last time, and the file of the first stays as it was."""
    for position in ("", "1"):
        with held(tmp_path):
            beside = open_copy(tmp_path, "address", "truth")
            assert beside.position() == position
            if not position:
                beside.apply(Changes(position="1", events=simple(3)))
            beside.close()
    first = open_copy(tmp_path, "address", "truth")
    assert first.position() == ""
    first.close()
    assert len(list(tmp_path.glob("reports-*.duckdb"))) == 2


def test_a_copy_beside_may_be_deleted(tmp_path: Path) -> None:
    """It is made again."""
    for _ in range(2):
        with held(tmp_path):
            beside = open_copy(tmp_path, "address", "truth")
            assert beside.position() == ""
            beside.apply(Changes(position="1", events=simple(3)))
            beside.close()
        next(tmp_path.glob("reports-*-2.duckdb")).unlink()


def test_no_more_processes_than_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told so, by the file's name, or gets a copy for this one time."""
    monkeypatch.setattr(opening, "MOST_COPIES", 1)
    with held(tmp_path):
        with pytest.raises(CopyInUse, match=r"reports-.*\.duckdb"):
            open_copy(tmp_path, "address", "truth")
        own = open_copy(tmp_path, "address", "truth", or_a_temporary_one=True)
        own.apply(Changes(position="1", events=simple(3)))
        own.close()
    assert len(list(tmp_path.glob("*.duckdb"))) == 1


def test_breaking_off_what_ends_just_then_is_no_error() -> None:
    """Whoever stops a server may come between the last statement of a batch and the end of its cursor."""
    copy = DuckDBCopy(None)

    def apply_many() -> None:
        for number in range(150):
            with contextlib.suppress(StoreError):  # those that were broken off
                copy.apply(Changes(position=str(number)))

    applying = Thread(target=apply_many)
    applying.start()
    interrupts = 0
    while applying.is_alive():
        copy.interrupt()
        interrupts += 1
    applying.join()
    assert interrupts > 150
    copy.close()
