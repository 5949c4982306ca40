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
    connection: socket.socket
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
        # A duplicate: the driver may close its own, and the number may mean another file by then.
        watch = Watch(due=time.monotonic() + seconds, connection=socket.socket(fileno=os.dup(fileno)))
        self._add(watch)
        try:
            yield watch
        finally:
            with self._changed:
                self._watches.discard(watch)
                watch.connection.close()

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
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for watch in [watch for watch in self._watches if watch.due <= now]:
                    self._watches.discard(watch)
                    watch.cut = True
                    with suppress(OSError):
                        watch.connection.shutdown(socket.SHUT_RDWR)
                self._wakes_at = min((watch.due for watch in self._watches), default=float("inf"))
                self._changed.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)


WATCHDOG = Watchdog()
