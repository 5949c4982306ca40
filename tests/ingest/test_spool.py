"""Events that wait on disk: what was appended comes back whole and in order, whatever happened to the files."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastseen.ingest.spool import MAGIC, SEGMENT_BYTES, Damage, Spool, SpoolFull
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


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    """The second takes a folder of its own, and each drains its own events."""
    one, other = Spool(tmp_path, ROOM), Spool(tmp_path, ROOM)
    one.append([[event(1)]])
    other.append([[event(2)]])
    assert drained(other) == [[event(2)]]
    assert drained(one) == [[event(1)]]
    one.close()
    other.close()


def test_it_is_full_when_it_has_its_bytes(tmp_path: Path) -> None:
    """Batches are taken as long as there is room, whole or not at all; after draining there is room again."""
    spool = Spool(tmp_path, 2_000)
    batch = [event(1, properties={"text": "x" * 500})]
    assert spool.append([batch] * 5) == 2
    with pytest.raises(SpoolFull):
        spool.append([batch])
    assert drained(spool) == [batch, batch]
    assert spool.append([batch]) == 1
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
    assert spool.size == sum(path.stat().st_size for path in tmp_path.rglob("*.spool"))
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


# Damage


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Write a file of 30 batches; return it, and where each batch ends."""
    folder = tmp_path_factory.mktemp("original")
    spool = Spool(folder, ROOM)
    ends = []
    for number in range(30):
        spool.append([[event(number), event(100 + number, properties={"n": number})]])
        ends.append(spool.size)
    spool.close()
    return folder, ends


def reopened(folder: Path) -> tuple[list[list[Event]], list[Damage]]:
    damages: list[Damage] = []
    spool = Spool(folder, ROOM, on_damage=damages.append)
    batches = drained(spool)
    spool.close()
    return batches, damages


BATCHES = [[event(number), event(100 + number, properties={"n": number})] for number in range(30)]


def damaged_copy(original: tuple[Path, list[int]], target: Path) -> Path:
    shutil.copytree(original[0], target)
    return next(target.rglob("*.spool"))


@pytest.mark.parametrize("seed", range(3))
def test_a_file_that_was_cut(original: tuple[Path, list[int]], tmp_path: Path, seed: int) -> None:
    """At whatever byte it ends, every batch before that comes back, nothing else does, and the rest is reported."""
    ends = original[1]
    for round_, offset in enumerate(random.Random(seed).sample(range(ends[-1]), 100)):
        file = damaged_copy(original, tmp_path / str(round_))
        with file.open("r+b") as opened:
            opened.truncate(offset)
        batches, damages = reopened(tmp_path / str(round_))
        whole = sum(end <= offset for end in ends)
        assert batches == BATCHES[:whole]
        clean_cut = offset in {*ends, len(MAGIC)}
        assert [damage.lost for damage in damages] == (
            [] if clean_cut else [offset - ([len(MAGIC), *ends][whole] if offset >= len(MAGIC) else 0)]
        )


@pytest.mark.parametrize("seed", range(2))
def test_flipped_bits(original: tuple[Path, list[int]], tmp_path: Path, seed: int) -> None:
    """One wrong bit anywhere: the batches before it come back, none that never was; the rest is reported and kept."""
    ends = original[1]
    dice = random.Random(seed)
    for round_ in range(100):
        offset = dice.randrange(ends[-1])
        file = damaged_copy(original, tmp_path / str(round_))
        content = bytearray(file.read_bytes())
        content[offset] ^= 1 << dice.randrange(8)
        file.write_bytes(content)
        batches, damages = reopened(tmp_path / str(round_))
        before = sum(end <= offset for end in ends) if offset >= len(MAGIC) else 0
        assert batches == BATCHES[:before]
        assert len(damages) == 1
        assert list((tmp_path / str(round_)).rglob("*.damaged"))


def test_without_a_checksum_a_flipped_bit_would_be_believed(original: tuple[Path, list[int]], tmp_path: Path) -> None:
    """The negative control: the same bytes with a checksum made to fit come back as events that never were."""
    import struct
    import zlib

    file = damaged_copy(original, tmp_path / "forged")
    content = bytearray(file.read_bytes())
    start = len(MAGIC)
    (length,) = struct.unpack_from("<I", content, start)
    payload = bytes(content[start + 8 : start + 8 + length]).replace(b'"e0"', b'"f0"')
    checksum = zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "little")))
    content[start + 4 : start + 8 + length] = struct.pack("<I", checksum) + payload
    file.write_bytes(content)
    batches, damages = reopened(tmp_path / "forged")
    assert batches[0][0].id == "f0"
    assert damages == []


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
    for round_ in range(3):
        folder = tmp_path / str(round_)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}
        ) as writer:
            assert writer.stdout is not None
            said = [int(next(writer.stdout)) for _ in range(50 + 37 * round_)]
            writer.kill()
            said += [int(line) for line in writer.stdout if line.endswith("\n")]
        numbers = [batch[0].at - 1_795_348_800_000_000 for batch in reopened(folder)[0]]
        assert numbers[: len(said)] == said
        assert len(numbers) <= len(said) + 1
