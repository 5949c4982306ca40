"""What a server does beside answering: end visits whose time is over, remove what may not be kept any longer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import LastSeenError

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

_logger = logging.getLogger("lastseen.server")


class Chores:
    """Does each chore again and again on one thread, until `close`; any number of servers may do the same ones.

    The first turn is `after` the start. A chore that fails is told in the log and has its next turn as ever.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, *, after: timedelta = timedelta(0)) -> None:
        self._clock = clock
        self._after = after.total_seconds()
        self._chores: list[tuple[str, Callable[[], object], float]] = []
        self._due: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lastseen-chores", daemon=True)

    def add(self, name: str, chore: Callable[[], object], every: timedelta) -> None:
        """Add a chore, before `start`."""
        self._chores.append((name, chore, every.total_seconds()))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def is_ending(self) -> bool:
        """Return whether it is to end: a chore that takes long asks now and then, and breaks off."""
        return self._ended.is_set()

    def end(self) -> None:
        """Do no more; `close` waits for the chore under way."""
        self._ended.set()

    def close(self) -> None:
        """Let the chore under way end, and do no more. Safe twice, and without a start."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()

    def turn(self) -> None:
        """Do what is due."""
        for name, chore, every in self._chores:
            now = self._clock.monotonic()
            if self._ended.is_set() or now < self._due.get(name, now):
                continue
            self._due[name] = now + every
            try:
                chore()
            except LastSeenError as error:
                _logger.warning("%s failed and will be tried again: %s", name, error)
            except Exception:
                _logger.exception("%s failed and will be tried again", name)

    def _work(self) -> None:
        shortest = min((every for _, _, every in self._chores), default=MINUTE.total_seconds())
        self._clock.wait(self._ended, self._after)
        while not self._ended.is_set():
            self.turn()
            self._clock.wait(self._ended, shortest)
