"""Events that wait on disk: what was appended comes back whole and in order, whatever happened to the files."""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from lastseen.ingest.salvage import PAGE
from lastseen.ingest.spool import SEGMENT_BYTES, Damage, Spool, SpoolFull
from lastseen.visits.event import Device, Event, Geo
from lastseen.visits.utm import UtmParams

ROOM = 100 * 1024 * 1024


def event(number: int, **changes: object) -> Event:
    fields: dict[str, object] = {
        "id": f"e{number}",
        "site_id": "default",
        "distinct_id": f"v{number % 3}",
        "name": "$pageview",
        "at": 1_795_348_800_000_000 + number,
        "received_at": 1_795_348_800_000_001 + number,
    }
    return Event(**{**fields, **changes})  # type: ignore[arg-type]


FULL = event(
    0,
    url="https://shop.test/☃",
    referrer="https://search.test/",
    referrer_domain="search.test",
    utm=UtmParams(source="letter"),
    user_id="u",
    session_id="s",
    window_id="w",
    flags=5,
    engaged_ms=7,
    device=Device(os="Linux"),
    geo=Geo(country="DE"),
    properties={"deep": [{"a": None}], "long": "x" * 300, "big": 2**100},
)


def drained(spool: Spool) -> list[list[Event]]:
    """Take everything out."""
    batches: list[list[Event]] = []
    while not spool.is_empty:
        batches += spool.oldest()
        spool.remove_oldest()
    return batches


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Whole batches, in their order, every field as it was; then nothing is left, on disk neither."""
    spool = Spool(tmp_path / "spool", ROOM)
    assert spool.is_empty
    assert not (tmp_path / "spool").exists()
    assert spool.append([[FULL], [event(1), event(2)]]) == 2
    assert spool.append([[event(3)]]) == 1
    assert spool.waiting == 4
    assert spool.size > 0
    assert drained(spool) == [[FULL], [event(1), event(2)], [event(3)]]
    assert (spool.is_empty, spool.waiting, spool.size) == (True, 0, 0)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_it_outlives_its_process(tmp_path: Path) -> None:
    """What waits when the process ends is found by the next, and what was being written when it died is not."""
    spool = Spool(tmp_path, ROOM)
    spool.append([[event(1)], [event(2)]])
    spool.close()
    later = Spool(tmp_path, ROOM)
    assert later.waiting == 2
    later.append([[event(3)]])
    assert drained(later) == [[event(1)], [event(2)], [event(3)]]
    later.close()


def test_what_is_appended_while_it_empties_comes_last(tmp_path: Path) -> None:
    """The order is that of the appends."""
    spool = Spool(tmp_path, ROOM)
    spool.append([[event(1)]])
    first = spool.oldest()
    assert next(first) == [event(1)]
    spool.append([[event(2)]])
    assert list(first) == []
    spool.remove_oldest()
    assert drained(spool) == [[event(2)]]
    spool.close()


def test_what_cannot_be_read_again_is_kept_aside(tmp_path: Path) -> None:
    """A batch that was written on a shorter stack than it is read on costs itself alone."""
    value: list[object] = []
    for _ in range(sys.getrecursionlimit() - 150):
        value = [value]
    spool = Spool(tmp_path, ROOM)
    spool.append([[event(1)], [event(2, properties={"a": value})], [event(3)]])

    def deeper(frames: int) -> list[list[Event]]:
        return drained(spool) if frames == 0 else deeper(frames - 1)

    assert deeper(200) == [[event(1)], [event(3)]]
    assert [path.name for path in tmp_path.glob("*/*.damaged")] == ["00000001.damaged"]
    spool.close()


def test_copies_of_a_damaged_file_are_in_nobodys_way(tmp_path: Path) -> None:
    """Whoever looks may leave files of any name."""
    folder = tmp_path / "1"
    folder.mkdir()
    for name in ("00000004.damaged.gz", "5 copy.damaged", "00000003.damaged"):
        (folder / name).write_bytes(b"")
    spool = Spool(tmp_path, ROOM)
    spool.append([[event(1)]])
    assert [path.name for path in folder.glob("*.spool")] == ["00000005.spool"]
    assert drained(spool) == [[event(1)]]
    spool.close()


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    """The second takes a folder of its own, and each drains its own events."""
    one, other = Spool(tmp_path, ROOM), Spool(tmp_path, ROOM)
    one.append([[event(1)]])
    other.append([[event(2)]])
    assert drained(other) == [[event(2)]]
    assert drained(one) == [[event(1)]]
    one.close()
    other.close()


def test_what_another_process_left_is_taken_over(tmp_path: Path) -> None:
    """A second server that never comes back leaves its events to the next start, or to the one that goes on."""
    one, other = Spool(tmp_path / "spool", ROOM), Spool(tmp_path / "spool", ROOM)
    one.append([[event(1)]])
    other.append([[event(2)]])
    one.adopt()
    assert one.waiting == 1
    other.close()
    one.adopt()
    one.adopt()
    assert (one.waiting, one.is_empty) == (2, False)
    one.append([[event(3)]])
    one.close()
    next_start = Spool(tmp_path / "spool", ROOM)
    assert sorted(batch[0].id for batch in drained(next_start)) == ["e1", "e2", "e3"]
    next_start.close()
    assert not (tmp_path / "spool").exists()


def test_a_folder_that_is_taken_over_is_nobody_elses(tmp_path: Path) -> None:
    """Neither one that begins anew nor one that looks around reads it, too."""
    one, other = Spool(tmp_path, ROOM), Spool(tmp_path, ROOM)
    one.append([[event(1)]])
    other.append([[event(2)]])
    one.close()
    other.close()
    owner, late = Spool(tmp_path, ROOM), Spool(tmp_path, ROOM)
    late.adopt()
    assert (owner.waiting, late.waiting) == (2, 0)
    late.append([[event(9)]])
    assert drained(late) == [[event(9)]]
    assert len(drained(owner)) == 2
    late.close()
    owner.close()


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.spool*"))


def test_it_is_full_when_it_has_its_bytes(tmp_path: Path) -> None:
    """Batches are taken as long as there is room, whole or not at all; after draining there is room again."""
    spool = Spool(tmp_path, ROOM // 100)
    batch = [event(1, properties={"text": "x" * 100_000})]
    taken = spool.append([batch] * 20)
    assert 5 < taken < 10
    while True:
        try:
            taken += spool.append([batch])
        except SpoolFull:
            break
    assert taken < 10
    assert taken * 100_000 < spool.size == bytes_on_disk(tmp_path) <= ROOM // 100
    assert drained(spool) == [batch] * taken
    assert spool.append([batch]) == 1
    spool.close()


@pytest.mark.parametrize("length", [1, 700, 2_040, 3_900, 4_060, 4_100, 8_200, 50_000])
def test_it_never_has_more_than_its_bytes(tmp_path: Path, length: int) -> None:
    """Whatever the size of the batches, and whether they come one by one or together."""
    spool = Spool(tmp_path, 300_000)
    batch = [event(1, properties={"text": "x" * length})]
    together, taken = 1, 1
    while taken:
        taken = spool.append([batch] * together) if spool.size < 200_000 else 0
        assert bytes_on_disk(tmp_path) == spool.size <= 300_000
        together += 7
    with pytest.raises(SpoolFull):
        spool.append([[event(2, properties={"text": "x" * 100_000})]])
    spool.close()


def test_large_amounts_are_spread_over_files(tmp_path: Path) -> None:
    """A file that is stored is removed while others wait, so that the size on disk follows."""
    spool = Spool(tmp_path, ROOM)
    batch = [event(number, properties={"text": "x" * 1_000}) for number in range(2_000)]
    for _ in range(2 * SEGMENT_BYTES // 2_000_000 + 1):
        spool.append([batch])
    before = spool.size
    assert before > SEGMENT_BYTES
    list(spool.oldest())
    spool.remove_oldest()
    assert 0 < spool.size < before
    assert spool.size == bytes_on_disk(tmp_path)
    spool.close()


@contextmanager
def a_disk_of(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a disk that is full does not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_keeps_nothing_half(tmp_path: Path) -> None:
    """What does not fit is refused, what was appended before stays readable, and with room it goes on."""
    spool = Spool(tmp_path, ROOM)
    small, large = [event(1)], [event(2, properties={"text": "x" * 50_000})]
    spool.append([small])
    for _ in range(3):
        with a_disk_of(20_000), pytest.raises(SpoolFull):
            spool.append([large])
    assert spool.append([[event(3)], large]) == 2
    assert drained(spool) == [small, [event(3)], large]
    spool.close()


def test_a_full_disk_is_not_filled_with_empty_files(tmp_path: Path) -> None:
    """However often clients come again, nothing is left of what did not fit."""
    spool = Spool(tmp_path, ROOM)
    large = [event(1, properties={"text": "x" * 50_000})]
    for _ in range(3):
        with a_disk_of(20_000), pytest.raises(SpoolFull):
            spool.append([large])
    assert (spool.is_empty, spool.size, bytes_on_disk(tmp_path)) == (True, 0, 0)
    assert spool.append([large]) == 1
    assert drained(spool) == [large]
    spool.close()


# Damage


def batch_of(number: int) -> list[Event]:
    """Return a batch that is recognised in a file by its number; each seventh is longer than a page."""
    return [
        event(number, properties={"mark": f"<{number}>", "text": "y" * (12_000 if number % 7 == 6 else 200)}),
        event(100 + number, properties={"end": f"</{number}>"}),
    ]


BATCHES = [batch_of(number) for number in range(60)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of many batches; return its folder."""
    folder = tmp_path_factory.mktemp("original")
    spool = Spool(folder, ROOM)
    for batch in BATCHES:
        spool.append([batch])
    spool.close()
    return folder


def reopened(folder: Path) -> tuple[list[list[Event]], list[Damage]]:
    damages: list[Damage] = []
    spool = Spool(folder, ROOM, on_damage=damages.append)
    batches = drained(spool)
    assert spool.size == 0
    spool.close()
    return batches, damages


def places(content: bytes) -> list[set[int]]:
    """Return for each batch the pages that it may be on: those from where it begins to where it ends."""
    found = []
    for number in range(len(BATCHES)):
        ends = sorted(content.index(mark) // PAGE for mark in (b'"<%d>"' % number, b'"</%d>"' % number))
        found.append(set(range(ends[0], ends[1] + 1)))
    return found


def damaged_copy(original: Path, target: Path) -> Path:
    shutil.copytree(original, target)
    return next(target.rglob("*.spool"))


def check_damaged(folder: Path, intact: list[list[Event]]) -> None:
    """Assert that what is intact comes back, in order and once, nothing that never was, and that a loss is told."""
    batches, damages = reopened(folder)
    assert batches == [batch for batch in BATCHES if batch in batches]
    assert [batch for batch in intact if batch not in batches] == []
    if len(batches) < len(BATCHES):
        assert [damage.found for damage in damages] == [len(batches)]
        assert damages[0].lost > 0
    assert len(list(folder.rglob("*.damaged"))) == len(damages)
    assert not list(folder.rglob("*.spool*"))


def cut_and_check(original: Path, folder: Path, cuts: int) -> None:
    size = next(original.rglob("*.spool")).stat().st_size
    for offset in random.Random(cuts).sample(range(size), cuts):
        file = damaged_copy(original, folder / str(offset))
        content = file.read_bytes()
        with file.open("r+b") as opened:
            opened.truncate(offset)
        pages = places(content)
        before = [batch for batch, on in zip(BATCHES, pages, strict=True) if (max(on) + 1) * PAGE <= offset]
        check_damaged(folder / str(offset), before)
        shutil.rmtree(folder / str(offset), ignore_errors=True)  # gone when all was well


def test_a_file_that_was_cut(original: Path, tmp_path: Path) -> None:
    """At whatever byte it ends, every batch before that comes back, nothing else does, and a loss is reported."""
    cut_and_check(original, tmp_path, 25)


@pytest.mark.faults
def test_a_file_that_was_cut_at_three_hundred_places(original: Path, tmp_path: Path) -> None:
    """The same, three hundred times."""
    cut_and_check(original, tmp_path, 300)


def flip_and_check(original: Path, folder: Path, offsets: list[int]) -> None:
    dice = random.Random(len(offsets))
    for round_, offset in enumerate(offsets):
        file = damaged_copy(original, folder / str(round_))
        content = bytearray(file.read_bytes())
        pages = places(bytes(content))
        content[offset] ^= 1 << dice.randrange(8)
        file.write_bytes(content)
        elsewhere = [batch for batch, on in zip(BATCHES, pages, strict=True) if offset // PAGE not in on]
        check_damaged(folder / str(round_), elsewhere)
        shutil.rmtree(folder / str(round_), ignore_errors=True)  # gone when all was well


def test_flipped_bits(original: Path, tmp_path: Path) -> None:
    """One wrong bit anywhere: the batches on other pages come back, none that never was; a loss is reported."""
    size = next(original.rglob("*.spool")).stat().st_size
    flip_and_check(original, tmp_path, random.Random(1).sample(range(size), 25))


@pytest.mark.faults
def test_two_hundred_flipped_bits(original: Path, tmp_path: Path) -> None:
    """The same, two hundred times."""
    size = next(original.rglob("*.spool")).stat().st_size
    flip_and_check(original, tmp_path, random.Random(2).sample(range(size), 200))


@pytest.mark.parametrize(
    ("place", "bit"),
    [
        pytest.param(lambda _: 0, 0x01, id="the file's head"),
        pytest.param(lambda content: content.index(b"CREATE TABLE") + 4, 0x80, id="the schema, not even text"),
        pytest.param(lambda _: PAGE, 0x01, id="the table's root"),
    ],
)
def test_a_wrong_bit_where_sqlite_begins(
    original: Path, tmp_path: Path, place: Callable[[bytes], int], bit: int
) -> None:
    """Without the first pages SQLite reads nothing; every batch is on another page, and comes back."""
    content = next(original.rglob("*.spool")).read_bytes()
    assert not {0, 1} & {page for pages in places(content) for page in pages}
    file = damaged_copy(original, tmp_path / "broken")
    broken = bytearray(content)
    broken[place(content)] ^= bit
    file.write_bytes(broken)
    with closing(sqlite3.connect(file)) as connection, pytest.raises((sqlite3.DatabaseError, UnicodeDecodeError)):
        connection.execute("SELECT * FROM batches").fetchall()
    batches, damages = reopened(tmp_path / "broken")
    assert batches == BATCHES
    assert [damage.found for damage in damages] == [len(BATCHES)]


def test_without_a_checksum_a_flipped_bit_would_be_believed(original: Path, tmp_path: Path) -> None:
    """The negative control: SQLite reads an event that never was and finds nothing wrong; the checksum does."""
    file = damaged_copy(original, tmp_path / "flipped")
    content = file.read_bytes()
    assert content.count(b'"id":"e7"') == 1
    file.write_bytes(content.replace(b'"id":"e7"', b'"id":"e6"'))
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT events FROM batches ORDER BY number").fetchall()
    believed = [msgspec.json.decode(row[0], type=list[Event]) for row in rows]
    assert len(believed) == len(BATCHES)
    assert believed[7][0].id == "e6"
    batches, damages = reopened(tmp_path / "flipped")
    assert batches == BATCHES[:7] + BATCHES[8:]
    assert len(damages) == 1


@pytest.mark.parametrize(
    "change", ["DELETE FROM batches WHERE number = 8", "UPDATE batches SET number = 99 WHERE number = 8"]
)
def test_a_batch_that_is_missing_is_reported(original: Path, tmp_path: Path, change: str) -> None:
    """Also when each of the others is right: their numbers have no gap, and a number is part of what is checked."""
    file = damaged_copy(original, tmp_path / "gap")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(change)
        connection.commit()
    batches, damages = reopened(tmp_path / "gap")
    assert batches == BATCHES[:7] + BATCHES[8:]
    assert len(damages) == 1


WRITER = """
import sys
from pathlib import Path
from lastseen.ingest.spool import Spool
from tests.ingest.test_spool import event
spool = Spool(Path(sys.argv[1]), 10**9)
for number in range(10**9):
    spool.append([[event(number)]])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_kill_between_two_bytes(tmp_path: Path) -> None:
    """A process that is killed while it appends: what it said was appended is there, each once, in order."""
    for round_ in range(2):
        folder = tmp_path / str(round_)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}
        ) as writer:
            assert writer.stdout is not None
            said = [int(next(writer.stdout)) for _ in range(20 + 17 * round_)]
            writer.kill()
            said += [int(line) for line in writer.stdout if line.endswith("\n")]
        numbers = [batch[0].at - 1_795_348_800_000_000 for batch in reopened(folder)[0]]
        assert numbers[: len(said)] == said
        assert len(numbers) <= len(said) + 1
