"""B1: what `record()` costs a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from benchmarks.measure import Rounds, Row, in_threads, nanoseconds, percentile, take_turns
from lastseen import ActivityTracker, ClientActivity, TrackerSettings
from lastseen.stores.memory import MemoryStore

KEYS = [f"client-{number:06d}" for number in range(400)]
LAPS = 150
ROUNDS = 15
QUIET = TrackerSettings(flush_interval=timedelta(hours=1), max_buffer_size=None)
MOST = 1e-6
MOST_WITH_TIME_GIVEN = 4.0
MOST_WITH_CLOCK = 7.0

Record = Callable[..., object]


class NullRecorder:
    """Takes every batch and keeps nothing."""

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        return len(updates)


def run() -> list[Row]:
    """Compare with dictionaries, with the time given and with the clock read, in 1 and in 4 threads."""
    rows = []
    for threads in (1, 4):
        rows += _waiting_keys(threads)
    rows += _new_keys()
    for threads in (1, 4):
        rows += _tail(threads)
    return rows


def _waiting_keys(threads: int) -> list[Row]:
    contenders = {
        "bare": partial(_timed, _bare_given, threads),
        "bare clock": partial(_timed, _bare_clock, threads),
        "guard": partial(_timed, _guarded, threads),
        "lock": partial(_timed, partial(_lap_given, _locked_dict()), threads),
        "lock clock": partial(_timed, partial(_lap_clock, _locked_dict()), threads),
    }
    for name, record in _recorders().items():
        contenders[name] = partial(_timed, partial(_lap_given, record), threads)
        contenders[name + " clock"] = partial(_timed, partial(_lap_clock, record), threads)
    rounds = take_turns(contenders, ROUNDS)
    crew = f"{threads} thread{'s' * (threads > 1)}"
    rows = [
        _peer(rounds, "bare", f"bare d[k] = t, {crew}"),
        _peer(rounds, "guard", f"d[k] = t with a max guard, {crew}"),
        _peer(rounds, "lock", f"dict behind a lock, max guard, {crew}"),
        _peer(rounds, "bare clock", f"bare d[k] = time(), {crew}"),
        _peer(rounds, "lock clock", f"dict behind a lock with the clock, {crew}"),
    ]
    for name in _recorders():
        rows.append(_judged(rounds, name, f"{name}(key, at), {crew}", MOST_WITH_TIME_GIVEN))
        rows.append(_judged(rounds, name + " clock", f"{name}(key), reads the clock, {crew}", MOST_WITH_CLOCK))
    return rows


def _recorders() -> dict[str, Record]:
    return {
        "ActivityTracker.record": ActivityTracker(NullRecorder(), QUIET).record,
        "ClientActivity.record": ClientActivity(MemoryStore().clients, QUIET).record,
    }


def _judged(rounds: Rounds, name: str, case: str, most: float) -> Row:
    ratio = rounds.ratio(name, "bare")
    return Row(
        bar="B1",
        case=case,
        figure=f"{nanoseconds(rounds.median(name))} (best {nanoseconds(rounds.best(name))})",
        limit=f"under 1 µs and at most {most:g} times bare",
        peer=f"bare {nanoseconds(rounds.median('bare'))}",
        ratio=f"{ratio:.2f}",
        spread=rounds.ratio_spread(name, "bare"),
        met=rounds.median(name) < MOST and ratio <= most,
    )


def _peer(rounds: Rounds, name: str, case: str) -> Row:
    return Row(
        bar="B1",
        case=case,
        figure=f"{nanoseconds(rounds.median(name))} (best {nanoseconds(rounds.best(name))})",
        ratio=f"{rounds.ratio(name, 'bare'):.2f}",
        spread=rounds.ratio_spread(name, "bare"),
    )


def _timed(lap: Callable[[], None], threads: int) -> float:
    return in_threads(lap, threads) / (threads * LAPS * len(KEYS))


def _bare_given() -> None:
    at, times = time.time(), dict.fromkeys(KEYS, 0.0)
    for _ in range(LAPS):
        for key in KEYS:
            times[key] = at


def _bare_clock() -> None:
    now, times = time.time, dict.fromkeys(KEYS, 0.0)
    for _ in range(LAPS):
        for key in KEYS:
            times[key] = now()


def _guarded() -> None:
    at, times = time.time(), dict.fromkeys(KEYS, 0.0)
    for _ in range(LAPS):
        for key in KEYS:
            if times.get(key, 0.0) < at:
                times[key] = at


def _lap_given(record: Record) -> None:
    at = time.time()
    for _ in range(LAPS):
        for key in KEYS:
            record(key, at)


def _lap_clock(record: Record) -> None:
    for _ in range(LAPS):
        for key in KEYS:
            record(key)


def _locked_dict() -> Record:
    lock, times, now = threading.Lock(), dict.fromkeys(KEYS, 0.0), time.time

    def record(key: str, at: float | None = None) -> None:
        if at is None:
            at = now()
        with lock:
            if times.get(key, 0.0) < at:
                times[key] = at

    return record


def _new_keys() -> list[Row]:
    """Time first records: after a flush a key goes the longer way, through the checks and the lock."""
    keys = [f"client-{number:06d}" for number in range(10_000)]
    contenders = {
        "bare": partial(_first_bare, keys),
        "ActivityTracker.record": partial(_first, lambda: ActivityTracker(NullRecorder(), QUIET).record, keys),
        "ClientActivity.record": partial(_first, lambda: ClientActivity(MemoryStore().clients, QUIET).record, keys),
        "ClientActivity.record again": partial(_first_again, keys),
    }
    rounds = take_turns(contenders, ROUNDS)
    cases = {
        "ActivityTracker.record": "ActivityTracker.record, first of a key",
        "ClientActivity.record": "ClientActivity.record, first of a client in its hour",
        "ClientActivity.record again": "ClientActivity.record, first of a client after a flush",
    }
    return [
        Row(
            bar="B1",
            case=case,
            figure=f"{nanoseconds(rounds.median(name))} (best {nanoseconds(rounds.best(name))})",
            limit="under 1 µs",
            peer=f"bare insert {nanoseconds(rounds.median('bare'))}",
            ratio=f"{rounds.ratio(name, 'bare'):.2f}",
            spread=rounds.ratio_spread(name, "bare"),
            met=rounds.median(name) < MOST,
        )
        for name, case in cases.items()
    ]


def _first_bare(keys: list[str]) -> float:
    at, times = time.time(), dict[str, float]()
    began = time.perf_counter()
    for key in keys:
        times[key] = at
    return (time.perf_counter() - began) / len(keys)


def _first(make: Callable[[], Record], keys: list[str]) -> float:
    return _timed_once(make(), keys)


def _first_again(keys: list[str]) -> float:
    clients = ClientActivity(MemoryStore().clients, QUIET)
    for key in keys:
        clients.record(key)
    clients.flush()
    return _timed_once(clients.record, keys)


def _timed_once(record: Record, keys: list[str]) -> float:
    at = time.time()
    record("the record that starts the thread", at)
    began = time.perf_counter()
    for key in keys:
        record(key, at)
    return (time.perf_counter() - began) / len(keys)


def _tail(threads: int) -> list[Row]:
    """Time call by call, with the default settings, so beside a flush thread that is kept busy."""
    rows = []
    for name, record in {
        "ActivityTracker.record": ActivityTracker(NullRecorder()).record,
        "dict behind a lock": _locked_dict(),
    }.items():
        costs: list[float] = []
        in_threads(partial(_time_each, record, costs), threads)
        at_share = {share: nanoseconds(percentile(costs, share) / 1e9) for share in (0.5, 0.99, 0.999)}
        rows.append(
            Row(
                bar="B1",
                case=f"{name}, call by call, {threads} thread{'s' * (threads > 1)}",
                figure=f"p99.9 {at_share[0.999]} (p50 {at_share[0.5]}, p99 {at_share[0.99]})",
            )
        )
    return rows


def _time_each(record: Record, costs: list[float]) -> None:
    clock = time.perf_counter_ns
    mine = []
    for _ in range(LAPS):
        for key in KEYS:
            began = clock()
            record(key)
            mine.append(clock() - began)
    costs.extend(mine)
