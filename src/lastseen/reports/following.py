"""A thread that keeps a copy up to date: often while somebody asks, seldom while nobody does."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from lastseen.clock import Clock
from lastseen.errors import StoreError

FOLLOW_WITHIN = 2.0
"""Seconds that an answer is behind, at most. What just missed one batch waits for the rest of that, the pause, and the
next batch. A batch costs much by itself and little for each event: the fewer, the less they hold up."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 1.6
"""Seconds. No shorter, so that a rush of events cannot keep the copy busy without end."""
UNWATCHED_PAUSE = 5.0
"""Seconds while nobody asks; no longer, so that whoever asks again waits for little."""
WATCHED_FOR = 60.0
"""Seconds after a question in which the next one is expected."""
PATIENCE = 5.0
"""Seconds that a question waits for the copy after a pause in which nobody asked; then it is answered all the same."""


class Follower:
    """Calls `catch_up` again and again until the end, whatever it raises."""

    def __init__(self, catch_up: Callable[[], object], clock: Clock, logger: logging.Logger) -> None:
        self._catch_up = catch_up
        self._clock = clock
        self._log = logger
        self._asked_at = -math.inf
        self._pauses_long = False
        """Whether the copy may be behind by more than it should while somebody asks."""
        self._turned = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lastseen-reports", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether something may still be copied."""
        return self._thread.is_alive()

    def expect_question(self) -> None:
        """Note that somebody asks, and come back when the copy is at most `FOLLOW_WITHIN` behind.

        Or when it cannot be brought there now: an old answer is better than none.
        """
        self._asked_at = self._clock.monotonic()
        if self._pauses_long:
            with self._turned:
                self._wake.set()
                self._turned.wait_for(lambda: not self._pauses_long, PATIENCE)

    def end(self) -> None:
        """Begin no further turn, and let nobody wait for one."""
        self._stop.set()
        self._wake.set()
        with self._turned:
            self._pauses_long = False
            self._turned.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        is_well = True
        while not self._stop.is_set():
            began = self._clock.monotonic()
            try:
                self._catch_up()
                is_well = True
            except Exception as error:  # noqa: BLE001 - a follower that ended would leave answers old for ever
                if is_well and not self._stop.is_set():
                    self._log.warning("reports do not follow for now: %s", error, exc_info=_unexpected(error))
                is_well = False
            now = self._clock.monotonic()
            is_watched = now - self._asked_at < WATCHED_FOR
            with self._turned:
                self._pauses_long = not is_watched and not self._stop.is_set()
                self._turned.notify_all()
            self._clock.wait(self._wake, pause_after(now - began) if is_watched else UNWATCHED_PAUSE)
            self._wake.clear()


def pause_after(worked: float) -> float:
    """Return how long to wait after a batch that took so many seconds; the next one may take twice as long."""
    return min(max(FOLLOW_WITHIN - 3 * worked, SHORTEST_PAUSE), LONGEST_PAUSE)


def _unexpected(error: Exception) -> Exception | None:
    """Return the error where its text does not say enough."""
    return None if isinstance(error, StoreError) else error
