"""Cuts connections to a server that does not answer.

A server's own `statement_timeout` ends a slow statement. It does not help when the server hangs or when the network
swallows what is sent: then the driver waits for as long as TCP does, which is hours. Shutting the socket down from
another thread makes the waiting call fail at once, whichever driver made it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lastseen.forking import reset_in_forked_children


@dataclass(slots=True, eq=False)
class Watch:
    """One connection under guard; `cut` tells whether it was shut down."""

    due: float
    """Monotonic seconds."""
    fileno: int
    """A duplicate, so that it means this connection even after the driver has closed its own."""
    cut: bool = False


class Watchdog:
    """One thread for all guarded connections of the process; it starts with the first of them."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin anew: the child has no such thread yet."""
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    @contextmanager
    def guard(self, fileno: int, seconds: float) -> Iterator[Watch]:
        """Shut the connection with this file descriptor down unless the block ends within the time."""
        watch = Watch(due=time.monotonic() + seconds, fileno=os.dup(fileno))
        self._add(watch)
        try:
            yield watch
        finally:
            with self._changed:
                self._watches.discard(watch)
                os.close(watch.fileno)

    def _add(self, watch: Watch) -> None:
        with self._changed:
            self._watches.add(watch)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="lastseen-watchdog", daemon=True)
                # No thread starts while the interpreter goes down; then the last flush runs unguarded.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            elif watch.due < self._wakes_at:
                self._wakes_at = watch.due
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for watch in [watch for watch in self._watches if watch.due <= now]:
                    self._watches.discard(watch)
                    watch.cut = True
                    _shut_down(watch.fileno)
                due = min((watch.due for watch in self._watches), default=float("inf"))
                # Most watches end long before they are due. To wake up once for one that has ended costs less than to
                # sleep for good and be woken by every new one.
                if self._wakes_at <= now or due < self._wakes_at:
                    self._wakes_at = due
                self._changed.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)


def _shut_down(fileno: int) -> None:
    connection = socket.socket(fileno=fileno)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    # The number stays its owner's to close.
    connection.detach()


WATCHDOG = Watchdog()
