"""B13: from the command to the first answer, and what the import costs; with bytecode, as `pip install` leaves it."""

from __future__ import annotations

import compileall
import http.client
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lastseen
from benchmarks.measure import Row, take_turns

ROUNDS = 9
MOST_TO_SERVE = 1.5
MOST_TO_IMPORT = 0.05
LASTSEEN = Path(sys.executable).with_name("lastseen")


def run() -> list[Row]:
    """Start processes in turns."""
    # Where the environment keeps Python from writing bytecode, each process would compile the package anew.
    compileall.compile_dir(Path(lastseen.__file__).parent, quiet=1)
    rounds = take_turns({"pass": _pass, "import": _import, "new": _serve_new, "known": _serve_known()}, ROUNDS)
    added = rounds.median_difference("import", "pass")
    peer = f"python -c pass {_milliseconds(rounds.median('pass'))}"
    rows = [
        Row(
            bar="B13",
            case="import lastseen",
            figure=f"{_milliseconds(added)} more",
            limit=f"under {_milliseconds(MOST_TO_IMPORT)}",
            peer=peer,
            ratio=f"{rounds.ratio('import', 'pass'):.2f}",
            spread=rounds.ratio_spread("import", "pass"),
            met=added < MOST_TO_IMPORT,
        )
    ]
    for name, case in (("new", "with a new data folder"), ("known", "with its database there")):
        rows.append(
            Row(
                bar="B13",
                case=f"lastseen serve to the first answer, {case}",
                figure=f"{_milliseconds(rounds.median(name))} (best {_milliseconds(rounds.best(name))})",
                limit=f"under {_milliseconds(MOST_TO_SERVE)}",
                peer=peer,
                ratio=f"{rounds.ratio(name, 'pass'):.1f}",
                spread=rounds.ratio_spread(name, "pass"),
                met=rounds.median(name) < MOST_TO_SERVE,
            )
        )
    return rows


def _pass() -> float:
    return _python("pass")


def _import() -> float:
    return _python("import lastseen")


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def _serve_new() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _first_answer(Path(folder, "data"))


class _serve_known:  # noqa: N801 - stands where a function stands
    """Serves from the same folder again and again."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()

    def __call__(self) -> float:
        return _first_answer(Path(self._folder.name, "data"))


def _first_answer(folder: Path) -> float:
    began = time.perf_counter()
    with serving(folder):
        return time.perf_counter() - began


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `lastseen serve` on a free port, data in the folder; yield the process and the port once it answers."""
    command = [str(LASTSEEN), "serve", "--port", "0", "--data-folder", str(folder), "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert address, "the server did not print its address"
            port = int(address[1])
            # It listens before it says so: the connection waits until the server takes it.
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/health/live")
            assert connection.getresponse().status == 200
            connection.close()
            yield process, port
        finally:
            process.terminate()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"
