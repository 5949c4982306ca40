"""B8: events over HTTP, acknowledged after their commit, beside a raw ASGI echo; and batches of a hundred.

The event loop has one core and the load comes from another; the threads that commit and copy run where there is room.
Single events are compared by processor time of the whole process, which what else the machine does hardly changes: all
that it spends on a load, the copying for reports that comes after it too, by all events of that load. For batches the
limit is an absolute speed: printed as it ran, and as a core carries.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from tests.servers import PostgresServer

from benchmarks.measure import Row, rate, take_turns
from benchmarks.start import LASTSEEN
from lastseen.stores import open_store

CONNECTIONS = 128
BATCH_CONNECTIONS = 16
BATCH = 100
SECONDS = 3.0
ROUNDS = 5
LEAST = 0.4
LEAST_IN_BATCHES = 50_000


@dataclass
class Contender:
    """One server, and what it did in each round."""

    process: subprocess.Popen[str]
    port: int
    path: str
    key: str
    speeds: dict[int, list[float]] = field(default_factory=dict)
    """Answers a second as it ran, by events a request."""


def run() -> list[Row]:
    """Give all servers the same load in turns."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(PostgresServer())
        echo = stack.enter_context(_echo())
        stores = {
            "SQLite": stack.enter_context(_ours(folder / "sqlite", f"sqlite:///{folder / 'events.db'}")),
            "PostgreSQL": stack.enter_context(_ours(folder / "postgres", postgres.create_database())),
        }
        for contender in (echo, *stores.values()):
            os.sched_setaffinity(contender.process.pid, {cores[0]})
        timed = {"echo": partial(_load, echo, 1, CONNECTIONS, cores[-1])}
        for name, contender in stores.items():
            timed[name] = partial(_load, contender, 1, CONNECTIONS, cores[-1])
            timed[f"{name} batches"] = partial(_load, contender, BATCH, BATCH_CONNECTIONS, cores[-1])
        rounds = take_turns(timed, ROUNDS)
    rows = []
    for name, contender in stores.items():
        speed = 1 / rounds.ratio(name, "echo")
        rows.append(
            Row(
                bar="B8",
                case=f"POST /api/v1/events, one event of 500 bytes, {CONNECTIONS} connections, {name}",
                figure=_figure(rounds.median(name), contender.speeds[1], "events"),
                limit=f"at least {LEAST:.0%} of the echo",
                peer=f"raw ASGI echo {_figure(rounds.median('echo'), echo.speeds[1], 'requests')}",
                ratio=f"{speed:.2f}",
                spread=rounds.ratio_spread(name, "echo", inverted=True),
                met=speed >= LEAST,
            )
        )
        cost = rounds.median(f"{name} batches") / BATCH
        as_it_ran = [answers * BATCH for answers in contender.speeds[BATCH]]
        rows.append(
            Row(
                bar="B8",
                case=f"POST /api/v1/events, {BATCH} events a request, {BATCH_CONNECTIONS} connections, {name}",
                figure=_figure(cost, as_it_ran, "events"),
                limit=f"at least {LEAST_IN_BATCHES:,} a second",
                spread=f"{min(as_it_ran):,.0f} to {max(as_it_ran):,.0f} as it ran",
                met=median(as_it_ran) >= LEAST_IN_BATCHES,
            )
        )
    return rows


def _figure(cost: float, as_it_ran: list[float], what: str) -> str:
    return f"{rate(cost, what)} of processor time ({median(as_it_ran):,.0f} as it ran)"


def _load(contender: Contender, events: int, connections: int, core: int) -> float:
    """Return the server's processor time a request."""
    arguments = [str(contender.port), contender.path, contender.key, str(events), str(connections), str(SECONDS)]
    command = [sys.executable, "-m", "benchmarks.event_load", *arguments, str(contender.process.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        os.sched_setaffinity(generator.pid, {core})
        assert generator.stdout is not None
        printed = generator.stdout.read().split()
    assert generator.returncode == 0, "the load generator failed"
    speed, cost = map(float, printed)
    contender.speeds.setdefault(events, []).append(speed)
    return cost


@contextmanager
def _ours(folder: Path, database: str) -> Iterator[Contender]:
    command = [str(LASTSEEN), "serve", "--port", "0", "--data-folder", str(folder), "--database", database]
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().rpartition(":")[2])
            store = open_store(database)
            key = store.sites.list_sites()[0].write_key
            store.close()
            yield Contender(process, port, "/api/v1/events", key)
        finally:
            process.terminate()


@contextmanager
def _echo() -> Iterator[Contender]:
    command = [sys.executable, "-m", "benchmarks.echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Contender(process, int(process.stdout.readline()), "/", "none")
        finally:
            process.terminate()
