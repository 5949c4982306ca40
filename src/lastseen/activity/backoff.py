"""When to try again after a failure: 1, 2, 4 … 30 seconds, jittered."""

from __future__ import annotations

from collections.abc import Callable

FIRST_RETRY = 1.0
LAST_RETRY = 30.0
JITTER = 0.2


def retry_delay(failures: int, random: Callable[[], float]) -> float:
    """Return the seconds to wait after this many consecutive failures (1 or more).

    The jitter only lengthens: ten minutes of outage are then at most 25 attempts, whatever the dice say.
    """
    base = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10))
    return base * (1 + JITTER * random())


def jittered(period: float, random: Callable[[], float]) -> float:
    """Return the period, up to 20 % shorter or longer, so that processes do not beat together."""
    return period * (1 + JITTER * (2 * random() - 1))
