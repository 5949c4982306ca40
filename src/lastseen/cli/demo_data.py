"""A believable week of some sixty clients. Pure: the moment and the dice are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

HOUR = 3_600
DAY = 24 * HOUR

Habit = Callable[[float, Random], bool]
"""Whether a client of a kind is active around this moment (seconds since 1970, UTC)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Clients that live alike: `silent_for` is how long ago they were last active, at the least."""

    names: tuple[str, ...]
    habit: Habit
    every: float
    """Seconds between two activities while the habit holds."""
    silent_for: float = 0.0
    live: float = 0.0
    """The chance to be active within one second, from now on."""


def _always(_at: float, _dice: Random) -> bool:
    return True


def _at_work(at: float, dice: Random) -> bool:
    moment = datetime.fromtimestamp(at, UTC)
    return moment.weekday() < 5 and 7 <= moment.hour < 18 and dice.random() < 0.9  # noqa: PLR2004 - office hours


def _in_the_evening(at: float, dice: Random) -> bool:
    return datetime.fromtimestamp(at, UTC).hour in {6, 7, 12, 17, 18, 19, 20, 21, 22} and dice.random() < 0.6  # noqa: PLR2004


def _at_night(at: float, _dice: Random) -> bool:
    return datetime.fromtimestamp(at, UTC).hour in {1, 2}


def _now_and_then(_at: float, dice: Random) -> bool:
    return dice.random() < 0.25  # noqa: PLR2004 - a quarter of its hours


def _numbered(pattern: str, count: int) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in range(1, count + 1))


KINDS = (
    Kind(names=_numbered("till-{:02d}", 12), habit=_always, every=600, live=0.10),
    Kind(names=_numbered("sensor-hall-{}", 10), habit=_always, every=900, live=0.05),
    Kind(names=("api-gateway", "web-frontend", "mobile-app"), habit=_always, every=300, live=0.60),
    Kind(names=_numbered("office-pc-{:02d}", 10), habit=_at_work, every=1_200, silent_for=6 * 60, live=0.004),
    Kind(names=_numbered("tablet-{}", 6), habit=_in_the_evening, every=1_800, silent_for=15 * 60, live=0.002),
    Kind(names=("import-crm", "import-shop", "report-mailer"), habit=_now_and_then, every=1_800, silent_for=40 * 60),
    Kind(names=_numbered("backup-agent-{}", 5), habit=_at_night, every=900, silent_for=2 * HOUR),
    Kind(names=_numbered("field-scanner-{}", 5), habit=_at_work, every=1_500, silent_for=30 * HOUR),
    Kind(
        names=("kiosk-lobby", "printer-cellar", "partner-acme", "partner-globex"),
        habit=_always,
        every=1_200,
        silent_for=3 * DAY,
    ),
    Kind(names=("legacy-sync", "test-rig"), habit=_now_and_then, every=3_600, silent_for=5 * DAY),
)


def demo_history(now: float, days: int, dice: Random) -> Iterator[tuple[str, float]]:
    """Yield (client, moment), for each client oldest first; the last moment is as long ago as the kind says."""
    for kind in KINDS:
        for name in kind.names:
            last = now - kind.silent_for * (1 + 0.2 * dice.random()) - dice.random() * 60
            begin = min(now - days * DAY * (0.5 + 0.5 * dice.random()), last - HOUR)
            yield name, begin
            at = begin
            while (at := at + kind.every * (0.5 + dice.random())) < last:
                if kind.habit(at, dice):
                    yield name, at
            yield name, last


def live_clients(dice: Random) -> list[str]:
    """Return the clients that are active within the next second."""
    return [name for kind in KINDS if kind.live for name in kind.names if dice.random() < kind.live]
