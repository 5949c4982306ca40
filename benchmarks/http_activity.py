"""B7: activity over HTTP beside a raw ASGI echo, one process each, on one core; the load comes from another core."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, rate, take_turns
from benchmarks.start import serving

CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 7
LEAST = 0.7


def run() -> list[Row]:
    """Give both servers the same load in turns."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as ours, _echo() as peer:
        cores = sorted(os.sched_getaffinity(0))
        for process in (ours[0], peer[0]):
            os.sched_setaffinity(process.pid, {cores[0]})
        speeds: dict[int, list[float]] = {}
        rounds = take_turns(
            {
                "ours": partial(_load, *ours, "/api/v1/activity", cores[-1], speeds),
                "echo": partial(_load, *peer, "/", cores[-1], speeds),
            },
            ROUNDS,
        )
        answers = {name: median(speeds[process.pid]) for name, process in (("ours", ours[0]), ("echo", peer[0]))}
    speed = 1 / rounds.ratio("ours", "echo")
    return [
        Row(
            bar="B7",
            case=f"POST /api/v1/activity, 500 bytes, {CONNECTIONS} connections",
            figure=f"{rate(rounds.median('ours'), 'requests')} of processor time ({answers['ours']:,.0f} as it ran)",
            limit=f"at least {LEAST:.0%} of the echo",
            peer=f"raw ASGI echo {rate(rounds.median('echo'), 'requests')} ({answers['echo']:,.0f} as it ran)",
            ratio=f"{speed:.2f}",
            spread=rounds.ratio_spread("ours", "echo", inverted=True),
            met=speed >= LEAST,
        )
    ]


def _load(process: subprocess.Popen[str], port: int, path: str, core: int, speeds: dict[int, list[float]]) -> float:
    """Return the server's processor time a request: what else the machine does hardly changes that."""
    arguments = [str(port), path, str(CONNECTIONS), str(SECONDS), str(process.pid)]
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        os.sched_setaffinity(generator.pid, {core})
        assert generator.stdout is not None
        printed = generator.stdout.read().split()
    assert generator.returncode == 0, "the load generator failed"
    answers, busy = map(float, printed)
    speeds.setdefault(process.pid, []).append(answers)
    return busy / answers


@contextmanager
def _echo() -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "benchmarks.echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.terminate()
