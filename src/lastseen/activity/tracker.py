"""Records activity in memory, writes it in batches: one buffer, one flush thread.

How `record` stays lock-free without losing a touch
---------------------------------------------------
A key that already waits is moved forward by instructions that read, compare and store. CPython hands the interpreter
lock to another thread only at a call, at a function's start and at a backward jump (the "eval breaker",
`Python/ceval.c`); these have none of them, so nothing comes between the read and the store, and a flush takes the
dictionary either before or after both. `tests/activity/test_tracker_races.py` reads the bytecode and fails when that
changes. A new key is put in the same way while there is `room`: a number that is set under the lock, counts down, and
is zero whenever a new key has to be looked at (the first one, the one that triggers a flush, a full or closed buffer)
and while a flush takes the dictionary. On an interpreter without that lock, or other than CPython, every record takes
the lock instead.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from random import Random

from lastseen.activity.backoff import jittered, retry_delay
from lastseen.activity.buffer import ActivityBuffer, Outcome, Superseded
from lastseen.activity.flush import BatchWriter, FlushResult
from lastseen.activity.health import ActivityHealth, HealthStatus
from lastseen.activity.key import MAX_KEY_LENGTH, key_problem
from lastseen.activity.recorder import ActivityRecorder, require_recorder
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.updates import Updates
from lastseen.clock import SYSTEM_CLOCK, Clock, seconds_since_1970, utc
from lastseen.errors import FlushError, SchemaError
from lastseen.forking import reset_in_forked_children

_ACCEPTED = Outcome.ACCEPTED
_READ_COMPARE_STORE_IS_ATOMIC = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()

SIZE_FLUSH_SPACING = 0.2
"""Seconds that a flush by size follows the one before at the least: five statements a second, however fast keys come.
Without it, ten thousand requests a second of a few hundred keys are a hundred small batches a second, and a third of a
server's time."""


class ActivityTracker:
    """Answers "this key was active" without I/O and writes what it heard in batches.

    `recorder` writes the batches; `MissingAbility` is raised when it cannot. `on_flush_error` is called on the flush
    thread with a `FlushError` after each failed flush, `on_flush` with a `FlushResult` after each flush that had
    something to write; what they raise is logged. `random` returns numbers in [0, 1) for the jitter. `superseded`: see
    `ActivityBuffer`. `pending_changed` is called under the lock when `pending` is another dictionary, before anybody
    reads the old one, and when what could not be written has come back into it.

    The flush thread starts with the first record, and again in a process that was forked; a forked child begins with an
    empty buffer, its parent keeps what waits. The tracker closes itself at interpreter exit when nobody did before.
    """

    def __init__(
        self,
        recorder: ActivityRecorder,
        settings: TrackerSettings | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        on_flush: Callable[[FlushResult], object] | None = None,
        random: Callable[[], float] | None = None,
        superseded: Superseded | None = None,
        pending_changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._recorder = require_recorder(recorder)
        self.settings = settings or TrackerSettings()
        self._clock = clock
        self._now = clock.now
        self._logger = logger or logging.getLogger("lastseen")
        self._on_flush_error = on_flush_error
        self._on_flush = on_flush
        self._superseded = superseded
        self._pending_changed = pending_changed
        # A generator of our own: applications and tests seed the global one and count on its sequence.
        self._random = random or Random().random  # noqa: S311 - no secret
        self._closed, self._closes_by = False, 0.0
        self._unsaved = 0
        # Of its own, so that it alone is taken back.
        self._at_exit = partial(_close_at_exit, weakref.ref(self))
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with nothing: at birth, and in a forked child, whose copies of locks and threads mean nothing."""
        interval = self.settings.min_persist_interval.total_seconds()
        self._buffer = ActivityBuffer(self.settings.max_pending, interval, self._superseded)
        # What may be moved forward without the lock; without an atomic expression for that, nothing is ever found here
        # and every record takes the lock.
        self.pending: dict[str, float] = self._buffer.pending if _READ_COMPARE_STORE_IS_ATOMIC else {}
        self.room = 0
        # Reentrant: a signal handler or a finalizer may record while this thread is inside.
        self.lock = threading.RLock()
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._size_flush_allowed_at = 0.0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._failures = 0
        self._schema_error: SchemaError | None = None
        self._last_success_at: float | None = None
        self._dropped = self._rejected = self._poison = self._flushes = self._updated = 0
        self._last_rejection: str | None = None
        self._overflowed = self._overflow_logged = False

    def record(self, key: str, at: datetime | float | None = None) -> Outcome:
        """Note that the key was active, now or at the given time; never blocks on I/O, never raises.

        `at` is an aware datetime or seconds since 1970. The same key again keeps only the latest time. A key that is
        not a string of 1 to 255 printable characters, and a naive or impossible time, are refused and counted.
        """
        try:
            if at is None:
                at = self._now()
            elif type(at) is not float:  # a Decimal compares with a float, and can be written by nobody
                return self._record_slowly(key, at)
            pending = self.pending
            if pending[key] < at:  # noqa: PLR1730 - `max` would be a call
                pending[key] = at
        except KeyError:
            return self._record_first(key, at)
        except Exception:  # noqa: BLE001 - a request never fails for its tracking
            return self._record_slowly(key, at)
        return _ACCEPTED

    def _record_first(self, key: object, at: object) -> Outcome:
        plain = type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable() and type(at) is float
        # Nothing comes between the last of these looks and the store.
        if plain and 0 <= at < math.inf and self.room > 0 and key not in self.pending:  # type: ignore[operator]
            self.room -= 1
            self.pending[key] = at  # type: ignore[index, assignment]
            return _ACCEPTED
        return self._record_slowly(key, at)

    def _record_slowly(self, key: object, at: object) -> Outcome:
        try:
            moment = seconds_since_1970(at)
            if moment is not None and key_problem(key) is None:
                return self.put(str.__str__(key), moment)
        except Exception as error:  # noqa: BLE001 - as above; not logged here, because a log handler may block
            return self._reject(f"{type(error).__name__}: {error}")
        return self.reject(key)

    def reject(self, key: object) -> Outcome:
        """Count an activity whose key or time can never be stored."""
        problem = key_problem(key)
        return self._reject(f"key {problem}" if problem else "time must be aware, finite and after 1970")

    def _reject(self, reason: str) -> Outcome:
        with self.lock:
            self._rejected += 1
            self._last_rejection = reason
        return Outcome.REJECTED

    def put(self, key: str, at: float) -> Outcome:
        """Record a key and a moment that have been checked (`key_problem`, `seconds_since_1970`), under the lock."""
        with self.lock:
            # Until the room is counted again, whoever brings a new key waits for the lock: what is counted stays true.
            self.room = 0
            if self._closed or not self._buffer.put(key, at, self._clock.monotonic()):
                self._dropped += 1
                self._overflowed = not self._closed
                return Outcome.DROPPED
            if self._thread is None:
                self._start()
            self._watch_size()
        return _ACCEPTED

    def _watch_size(self) -> None:
        """Wake the flush thread when enough waits, and tell how many keys may come until somebody has to look again."""
        limit = self.settings.max_buffer_size
        waiting = len(self._buffer.pending)
        left = self.settings.max_pending if limit is None or self.is_failing else limit - waiting
        if left <= 0:
            if not self._wake.is_set():
                self._wake.set()
            left = self.settings.max_pending
        if waiting and self._thread is not None and self.pending is self._buffer.pending:
            # The last one of them comes and looks.
            self.room = min(left - 1, self._buffer.room)

    def waiting(self, key: str) -> datetime | None:
        """Return the latest time of a key that was recorded in this process and is not written yet, or None."""
        with self.lock:
            at = self._buffer.waiting(key)
        return None if at is None else utc(min(at, self._latest_moment()))

    def waiting_times(self) -> list[tuple[str, float]]:
        """Return every key that waits, with its time (seconds since 1970); a key in two places comes twice."""
        with self.lock:
            return list(self._buffer.times())

    def flush(self) -> FlushResult:
        """Write everything that waits, at once, in this thread; waits for a flush that is under way.

        Raises `FlushError` when something could not be written; that stays in memory and is tried again.
        """
        result = self._flush(everything=True)
        if result.error is not None:
            raise FlushError(result.error, result.batch_size) from result.error
        return result

    def _flush(self, *, everything: bool) -> FlushResult:
        with self._flushing:
            with self.lock:
                self.room = 0
                batch = self._buffer.take(self._clock.monotonic(), everything=everything)
                if _READ_COMPARE_STORE_IS_ATOMIC:
                    self.pending = self._buffer.pending
                self._pending_changed()
            if not batch:
                return FlushResult()
            began = self._clock.monotonic()
            deadline = began + self.settings.flush_deadline.total_seconds()
            writer = BatchWriter(self._recorder, self.settings.chunk_size, deadline, self._clock.monotonic)
            try:
                writer.write(Updates.of(batch, self._latest_moment()))
            finally:
                self._settle(writer, len(batch))
            result = FlushResult(
                updated_count=writer.updated_count,
                batch_size=len(batch),
                duration=self._clock.monotonic() - began,
                poison=tuple(writer.poison),
                error=writer.error,
            )
            self._log(result, writer)
        self._tell(result)
        return result

    def _latest_moment(self) -> float:
        return self._now() + self.settings.future_tolerance.total_seconds()

    def _settle(self, writer: BatchWriter, batch_size: int) -> None:
        failed = writer.error is not None
        came_back = len(writer.saved) + len(writer.poison) < batch_size  # an interrupt of this thread ends a batch, too
        with self.lock:
            now = self._clock.monotonic()
            self._buffer.settle([*writer.saved, *writer.poison], now if writer.saved else None)
            if came_back:
                self._pending_changed()
            self._poison += len(writer.poison)
            self._updated += writer.updated_count
            self._flushes += bool(writer.saved)
            recovered = self._failures > 0 and not failed
            self._failures = self._failures + 1 if failed else 0
            self._size_flush_allowed_at = now + SIZE_FLUSH_SPACING
            self._schema_error = writer.error if isinstance(writer.error, SchemaError) else None
            if not came_back:
                self._last_success_at = self._now()
        if recovered:
            self._wake.set()

    def _log(self, result: FlushResult, writer: BatchWriter) -> None:
        counts = {"updated_count": result.updated_count, "batch_size": result.batch_size}
        for key, error in writer.poison.items():
            self._logger.warning("dropped poison key key=%.300r error=%s", key, error)
        if self._overflowed and not self._overflow_logged:
            self._overflow_logged = True
            full = "activity buffer full, new keys are dropped max_pending=%d dropped=%d"
            self._logger.warning(full, self.settings.max_pending, self._dropped)
        if result.error is not None:
            self._logger.error(
                "failed to flush activity batch error=%s batch_size=%d", result.error, result.batch_size, extra=counts
            )
            return
        with self.lock:
            if not self._buffer.full:
                self._overflowed = self._overflow_logged = False
        level = self.settings.flush_log_level if result.updated_count else logging.DEBUG
        flushed = "flushed activity batch updated_count=%d batch_size=%d"
        self._logger.log(level, flushed, result.updated_count, result.batch_size, extra=counts)

    def _tell(self, result: FlushResult) -> None:
        try:
            if self._on_flush is not None:
                self._on_flush(result)
            if self._on_flush_error is not None and result.error is not None:
                self._on_flush_error(FlushError(result.error, result.batch_size))
        except Exception:
            self._logger.exception("a flush callback raised")

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="lastseen-flush", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter is on its way out: the next record tries again
            return
        self._thread = thread
        atexit.register(self._at_exit)

    def _run(self) -> None:
        while not self._closed:
            self._pause()
            if not self._closed:
                self._flush_or_log()
        self._flush_or_log(everything=True)

    def _pause(self) -> None:
        """Wait for the interval or the size trigger; after a failure wait for the back-off, whatever is recorded."""
        if self.is_failing:
            seconds = retry_delay(self._failures, self._random)
        else:
            seconds = jittered(self.settings.flush_interval.total_seconds(), self._random)
        until = self._clock.monotonic() + seconds
        while not self._closed and (left := until - self._clock.monotonic()) > 0:
            if self._clock.wait(self._wake, left) and not self.is_failing:
                too_early = self._size_flush_allowed_at - self._clock.monotonic()
                if too_early > 0:
                    # Not on `_wake`, which stays set: every further key would wake this thread for nothing.
                    self._clock.wait(self._ending, min(too_early, left))
                self._wake.clear()
                return
            self._wake.clear()

    def _flush_or_log(self, *, everything: bool = False) -> None:
        try:
            self._flush(everything=everything)
        except Exception:
            self._logger.exception("the flush thread met an unexpected error and goes on")

    def stop_recording(self) -> None:
        """Record nothing more and begin the last flush, which `close` waits for: of several trackers all at once."""
        with self.lock:
            if not self._closed:
                self._closes_by = self._clock.monotonic() + self.settings.close_deadline.total_seconds()
            self._closed = True
            self.room = 0
        self._ending.set()
        self._wake.set()

    def close(self) -> int:
        """Stop recording, write once more within `close_deadline`, and return how many keys could not be saved.

        Safe to call twice and when nothing was ever recorded; call it before the recorder's own pool is closed.
        """
        self.stop_recording()
        thread = self._thread
        if thread is None:
            self._flush_or_log(everything=True)
        elif thread is not threading.current_thread():
            thread.join(max(0.0, self._closes_by - self._clock.monotonic()))
        with self.lock:
            left = self._buffer.drop()
            self._unsaved += left
        atexit.unregister(self._at_exit)
        if left:
            self._logger.error("closed with unsaved activity unsaved=%d", left)
        return self._unsaved

    @property
    def is_failing(self) -> bool:
        """Whether the last flush failed, so that the next one waits for its back-off."""
        return self._failures > 0

    def health(self) -> ActivityHealth:
        """Return how the tracker feels; cheap enough to ask every second."""
        with self.lock:
            status, reason = self._status()
            age = self._buffer.oldest_age(self._clock.monotonic())
            return ActivityHealth(
                status=status,
                reason=reason,
                buffer_size=len(self._buffer),
                max_buffer_size=self.settings.max_buffer_size,
                max_pending=self.settings.max_pending,
                flush_interval=self.settings.flush_interval,
                oldest_waiting_age=None if age is None else timedelta(seconds=age),
                last_successful_flush_at=None if self._last_success_at is None else utc(self._last_success_at),
                consecutive_failures=self._failures,
                dropped=self._dropped,
                rejected=self._rejected,
                poison=self._poison,
                flushes=self._flushes,
                updated=self._updated,
            )

    def _status(self) -> tuple[HealthStatus, str | None]:
        if self._schema_error is not None:
            return HealthStatus.RED, str(self._schema_error)
        if self._closed and self._unsaved:
            return HealthStatus.RED, f"closed with {self._unsaved} keys unsaved"
        if self._overflowed or self._buffer.full:
            return HealthStatus.DEGRADED, f"the buffer is full ({self.settings.max_pending} keys); new keys are dropped"
        if self._failures:
            return HealthStatus.DEGRADED, f"the last {self._failures} flushes failed; activity waits in memory"
        return HealthStatus.OK, self._last_rejection and f"last refused: {self._last_rejection}"


def _close_at_exit(reference: weakref.ref[ActivityTracker]) -> None:
    tracker = reference()
    if tracker is not None and tracker._pid == os.getpid():
        tracker.close()
