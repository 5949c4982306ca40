"""Opening what a server needs, for as long as that takes: the database may be away, or have much to migrate."""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import monotonic, sleep
from typing import Generic, TypeVar

from lastseen.activity.backoff import retry_delay
from lastseen.server.http_servers import StopSignals, run_uvicorn

AT_ONCE = 2.0
"""Seconds in which a database that is there opens; from then on somebody answers."""
_SLOWEST = 3
"""Failures after which the pause between two attempts does not grow any more: about four seconds."""
_TOLD_EVERY = 15
"""Attempts that fail alike between two lines in the log."""
_LOOK = 0.05

_logger = logging.getLogger("lastseen.server")

Opened = TypeVar("Opened")


def open_patiently(
    open_once: Callable[[], Opened],
    may_pass: Callable[[Exception], bool],
    listener: socket.socket,
    signals: StopSignals,
) -> Opened | None:
    """Return what `open_once` opens; None for a signal that came before.

    An error that `may_pass` is waited for, any other is raised. While that takes long the listener is answered: the
    server lives, and is not ready. Opening goes on in a thread of its own, which a signal leaves behind: the process is
    about to end, and a change of the schema is one transaction.
    """
    attempts = _Attempts(open_once, may_pass)
    until = monotonic() + AT_ONCE
    while not attempts.opened.done() and not signals.received and monotonic() < until:
        wait([attempts.opened], _LOOK)
    if not attempts.opened.done() and not signals.received:
        _answer_meanwhile(attempts, listener, signals)
    return attempts.opened.result() if attempts.opened.done() else None


class _Attempts(Generic[Opened]):
    """Tries again and again, on a thread, until it works or nothing helps."""

    def __init__(self, open_once: Callable[[], Opened], may_pass: Callable[[Exception], bool]) -> None:
        self.opened: Future[Opened] = Future()
        self.reason = "the database is being opened, or its tables brought up to date"
        self._open_once = open_once
        self._may_pass = may_pass
        threading.Thread(target=self._work, name="lastseen-opening", daemon=True).start()

    def _work(self) -> None:
        try:
            self.opened.set_result(self._open())
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self.opened.set_exception(error)

    def _open(self) -> Opened:
        failures = 0
        while True:
            try:
                opened = self._open_once()
            except Exception as error:
                if not self._may_pass(error):
                    raise
                failures += 1
                self._pause(error, failures)
            else:
                if failures:
                    _logger.info("the database is there")
                return opened

    def _pause(self, error: Exception, failures: int) -> None:
        seconds = retry_delay(min(failures, _SLOWEST), random.random)
        reason = f"the database is not there yet: {error}"
        if reason != self.reason or failures % _TOLD_EVERY == 0:
            _logger.warning("%s; trying again every few seconds", reason)
        self.reason = reason
        sleep(seconds)


def _answer_meanwhile(attempts: _Attempts[Opened], listener: socket.socket, signals: StopSignals) -> None:
    from lastseen.server.waiting import Waiting

    app = Waiting(lambda: attempts.reason)
    # uvicorn closes what it is given; whoever connects while one application follows the other waits in the backlog.
    run_uvicorn(app, listener.dup(), lambda: None, signals, until=attempts.opened)
