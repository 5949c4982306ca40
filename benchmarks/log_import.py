"""B11: import of an access log with the visits built, beside a loop of one regular expression over the same lines."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, microseconds, rate, take_turns

LEAST = 100_000
COPIES = 60
"""Of the real log of 10,000 lines, each with visitors and days of its own, in the order of time."""
ROUNDS = 3
LOG = Path(__file__).parent.parent / "tests" / "data" / "apache_logs"
LASTSEEN = Path(sys.executable).with_name("lastseen")
COMBINED = re.compile(r'(\S+) \S+ \S+ \[([^\]]+)\] "([^"]*)" (\d{3}) (\S+) "([^"]*)" "([^"]*)"')
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DAY = re.compile(rb"\[(\d\d)/May/2015")


def run() -> list[Row]:
    """Import by the command, its start included; into SQLite, with commits that wait for the disk."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        lines = _write(log)
        contenders = {
            "loop": partial(_loop, log, lines),
            "pages": partial(_import, log, lines, ()),
            "all": partial(_import, log, lines, ("--all-requests",)),
        }
        if shutil.which("goaccess"):
            contenders["goaccess"] = partial(_goaccess, log, lines)
        rounds = take_turns(contenders, ROUNDS)
    peer = f"one regular expression {rate(rounds.median('loop'), 'lines')}"
    if "goaccess" in contenders:
        peer += f", GoAccess {rate(rounds.median('goaccess'), 'lines')}"
    cases = {
        "pages": f"page views of {lines:,} lines with their visits (4 of 10 lines are some, under 2 a visit)",
        "all": "every line an event (3 a visit)",
    }
    return [
        Row(
            bar="B11",
            case=case,
            figure=f"{rate(rounds.median(name), 'lines')}, {microseconds(rounds.median(name))} each",
            limit=f"at least {LEAST:,} lines/s" if name == "pages" else "",
            peer=peer,
            ratio=f"{1 / rounds.ratio(name, 'loop'):.2f}",
            spread=rounds.ratio_spread(name, "loop", inverted=True),
            met=1 / rounds.median(name) >= LEAST if name == "pages" else None,
        )
        for name, case in cases.items()
    ]


def _write(path: Path) -> int:
    """Write a long log out of the real one, month by month as a server would."""
    source = [line for line in LOG.read_bytes().splitlines() if line.endswith(b'"')]
    with path.open("wb") as out:
        for copy in range(COPIES):
            out.writelines(_moved(source, copy))
    return len(source) * COPIES


def _moved(lines: list[bytes], copy: int) -> Iterator[bytes]:
    """Give the lines other addresses and another month."""
    month = _MONTHS[copy % 12]
    stamp = rb"[\g<1>/" + month + rb"/" + str(2010 + copy // 12).encode()
    shift = random.Random(copy).randrange(256)
    for line in lines:
        address, _, rest = line.partition(b" ")
        head, _, tail = address.rpartition(b".")
        moved = b"%s.%d" % (head, (int(tail) + shift) % 256) if head and tail.isdigit() else address
        yield moved + b" " + _DAY.sub(stamp, rest, count=1) + b"\n"


def _loop(log: Path, lines: int) -> float:
    began = time.perf_counter()
    found = 0
    with log.open("r", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            found += COMBINED.match(line) is not None
    assert found == lines
    return (time.perf_counter() - began) / lines


def _import(log: Path, lines: int, options: tuple[str, ...]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [LASTSEEN, "import", "log", log, "--host", "semicomplete.com", *options]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--database", f"sqlite:///{folder}/lastseen.db"], check=True, stdout=subprocess.DEVNULL
        )
        return (time.perf_counter() - began) / lines


def _goaccess(log: Path, lines: int) -> float:
    began = time.perf_counter()
    command = ["goaccess", str(log), "--log-format=COMBINED", "-o", "json", "--no-progress"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) / lines
