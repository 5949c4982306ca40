"""Interleaved repeats: contenders take turns, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Timed = Callable[[], float]
"""One repeat of one contender; returns what it cost (seconds an operation, unless the bar says otherwise)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table; the texts carry their units."""

    bar: str
    case: str
    figure: str
    limit: str = ""
    """The bar; empty for a figure that is only printed."""
    peer: str = ""
    ratio: str = ""
    spread: str = ""
    """Of the ratio over the repeats, lowest to highest; of the figure where there is no ratio."""
    met: bool | None = None
    """None where the bar names no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """What each contender cost in each round."""

    costs: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Return the middle cost."""
        return statistics.median(self.costs[name])

    def best(self, name: str) -> float:
        """Return the lowest cost."""
        return min(self.costs[name])

    def ratios(self, name: str, peer: str) -> list[float]:
        """Return cost by cost, each pair from the same round."""
        return [mine / theirs for mine, theirs in zip(self.costs[name], self.costs[peer], strict=True)]

    def ratio(self, name: str, peer: str) -> float:
        """Return the middle of the ratios."""
        return statistics.median(self.ratios(name, peer))

    def median_difference(self, name: str, peer: str) -> float:
        """Return the middle of what one costs more than the other, each pair from the same round."""
        return statistics.median(a - b for a, b in zip(self.costs[name], self.costs[peer], strict=True))

    def ratio_spread(self, name: str, peer: str, *, inverted: bool = False) -> str:
        """Return the lowest and the highest ratio; inverted for speeds instead of costs."""
        found = [1 / ratio if inverted else ratio for ratio in self.ratios(name, peer)]
        return f"{min(found):.2f} to {max(found):.2f}"


def take_turns(contenders: Mapping[str, Timed], rounds: int) -> Rounds:
    """Run A B C A B C …; the first round warms up and does not count. Every second round runs backwards."""
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        order = list(contenders.items())
        for name, contender in reversed(order) if turn % 2 else order:
            gc.collect()
            cost = contender()
            if turn:
                costs[name].append(cost)
    return Rounds(costs=costs)


def in_threads(work: Callable[[], object], threads: int) -> float:
    """Return the seconds from the common start until the last thread is done."""
    if threads == 1:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    barrier = threading.Barrier(threads + 1)

    def run() -> None:
        barrier.wait()
        work()

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in crew:
        thread.join()
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def nanoseconds(seconds: float) -> str:
    """Write a short span."""
    return f"{seconds * 1e9:,.0f} ns"


def microseconds(seconds: float) -> str:
    """Write a span of a request's size."""
    return f"{seconds * 1e6:,.1f} µs"


def rate(seconds_each: float, what: str) -> str:
    """Write a speed."""
    return f"{1 / seconds_each:,.0f} {what}/s"
