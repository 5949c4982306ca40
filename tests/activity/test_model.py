"""Any sequence of record, flush, failure, retry, overflow and close, against the simplest model."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lastseen import ActivityTracker, FlushError, HealthStatus, Outcome, TrackerSettings
from lastseen.errors import InvalidData, StoreUnavailable
from lastseen.testing import ManualClock
from tests.activity.recorders import Book

MAX_PENDING = 6
KEYS = st.sampled_from([f"key-{number}" for number in range(10)])


class Unattended(ActivityTracker):
    """A tracker without its thread, whose moments no run could repeat: every flush here is a step of the run."""

    def _start(self) -> None:
        pass


class TrackerModel(RuleBasedStateMachine):
    """The model: what was accepted, what of it is written, what the database refuses for ever."""

    @initialize(interval=st.sampled_from([0, 60]), chunk_size=st.integers(1, 4))
    def open(self, interval: int, chunk_size: int) -> None:
        self.clock = ManualClock()
        self.book = Book()
        self.tracker = Unattended(
            self.book,
            TrackerSettings(
                flush_interval=timedelta(days=1),
                max_buffer_size=None,
                max_pending=MAX_PENDING,
                min_persist_interval=timedelta(seconds=interval),
                chunk_size=chunk_size,
            ),
            clock=self.clock,
        )
        self.accepted: dict[str, float] = {}
        self.waiting: dict[str, float] = {}
        self.poison: set[str] = set()
        self.dropped = 0
        self.closed = False
        self.lost: set[str] = set()

    @rule(key=KEYS, ago=st.integers(0, 1000))
    def record(self, key: str, ago: int) -> None:
        at = self.clock.now() - ago
        outcome = self.tracker.record(key, at)
        if self.closed or (key not in self.waiting and len(self.waiting) >= MAX_PENDING):
            assert outcome is Outcome.DROPPED
            self.dropped += 1
            return
        assert outcome is Outcome.ACCEPTED
        self.waiting[key] = max(at, self.waiting.get(key, 0))
        self.accepted[key] = max(at, self.accepted.get(key, 0))

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_database_goes(self) -> None:
        self.book.failure = StoreUnavailable("gone")

    @rule()
    def the_database_comes_back(self) -> None:
        self.book.failure = None

    @rule(key=KEYS)
    def a_key_is_refused_from_now_on(self, key: str) -> None:
        self.book.refused[key] = InvalidData("refused")

    @rule()
    def flush(self) -> None:
        try:
            self.tracker.flush()
        except FlushError:
            assert self.book.failure is not None
        else:
            assert self.book.failure is None or not self.waiting
            self.forget_waiting()

    @precondition(lambda self: self.book.failure is None)
    @rule()
    def a_flush_by_interval(self) -> None:
        self.tracker._flush(everything=False)
        self.waiting = {key: at for key, at in self.waiting.items() if self.tracker.waiting(key)}
        self.poison |= self.refused()

    @rule()
    def close(self) -> None:
        unsaved = self.tracker.close()
        if not self.closed:
            assert unsaved == (len(self.waiting) if self.book.failure else 0)
            if self.book.failure is None:
                self.forget_waiting()
            else:
                self.accepted = {key: self.written(key) or at for key, at in self.accepted.items()}
                self.lost = set(self.waiting)
                self.waiting = {}
        self.closed = True

    def refused(self) -> set[str]:
        return set(self.book.refused)

    def forget_waiting(self) -> None:
        self.poison |= self.refused() & set(self.waiting)
        self.waiting = {}

    def written(self, key: str) -> float | None:
        at = self.book.times.get(key)
        return None if at is None else at.timestamp()

    @invariant()
    def nothing_accepted_is_lost(self) -> None:
        """Find every accepted time written or waiting, unless the key is refused or the end came first."""
        for key, at in getattr(self, "accepted", {}).items():
            if key in self.poison or key in self.refused() or (self.closed and key in self.lost):
                continue
            waiting = self.tracker.waiting(key)
            assert max(self.written(key) or 0, waiting.timestamp() if waiting else 0) == at

    @invariant()
    def nothing_is_invented(self) -> None:
        """Find no time written that was not accepted."""
        for key in getattr(self, "accepted", {}):
            assert (self.written(key) or 0) <= self.accepted[key]

    @invariant()
    def health_tells_the_truth(self) -> None:
        if not hasattr(self, "tracker"):
            return
        health = self.tracker.health()
        assert health.dropped == self.dropped
        assert health.buffer_size == len(self.waiting) <= MAX_PENDING
        assert health.consecutive_failures == 0 or health.status is not HealthStatus.OK

    def teardown(self) -> None:
        if hasattr(self, "tracker"):
            self.tracker.close()


TrackerModel.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestTrackerModel = TrackerModel.TestCase
