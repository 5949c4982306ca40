"""Asks questions of a copy that follows the truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.errors import InvalidCursor, StoreError, StoreUnavailable
from lastseen.forking import reset_in_forked_children
from lastseen.reports.answer import Answer
from lastseen.reports.assembling import assemble
from lastseen.reports.batches import BatchSize
from lastseen.reports.copy import CopyBroken, Figures, Place, ReportCopy
from lastseen.reports.export import table_of
from lastseen.reports.following import Follower
from lastseen.reports.period import Period
from lastseen.reports.question import Question
from lastseen.visits.store import Changes, VisitStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """How far a copy has come."""

    events: int = 0
    visits: int = 0
    """Copied by this call; a visit that changed in between counts again."""
    is_complete: bool = True


Progress = Callable[[Copied], object]
Result = TypeVar("Result")


class Reports:
    """Answers questions about visits and events; any thread may ask.

    The copy is opened with the first question, or with `follow`. Without `follow` every question first copies what is
    new. `open_copy` opens it; the same copy may be open once, see `CopyInUse`. A forked child follows nothing, and
    opens a copy of its own.
    """

    def __init__(
        self,
        visits: VisitStore,
        open_copy: Callable[[], ReportCopy],
        *,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
    ) -> None:
        self._visits = visits
        self._open_copy = open_copy
        self._clock = clock
        self._log = logger or logging.getLogger("lastseen.reports")
        self._builds = 0
        self._batch = BatchSize()
        self._stop = threading.Event()
        self._begin()
        reset_in_forked_children(self)

    def _begin(self) -> None:
        self._feeding = threading.RLock()
        self._opening = threading.Lock()
        self._copy: ReportCopy | None = None
        self._is_complete = False
        self._follower: Follower | None = None

    def reset_after_fork(self) -> None:
        """Begin anew: the copy that is open is the parent's, and so is the thread that follows."""
        self._begin()

    def ask(self, question: Question, *, now: datetime | None = None) -> Answer:
        """Return the answer; raises `InvalidQuestion`, `CopyInUse`, or `StoreError` when a store fails."""
        moment = utc(self._clock.now()) if now is None else now
        question.period(moment)
        self._freshen()

        def count(period: Period, keys: Sequence[tuple[Any, ...]] | None) -> Figures:
            return self._opened().count(question, period, keys=keys)

        return self._healing(lambda: assemble(question, moment, count, is_complete=self._is_complete))

    def latest(
        self, question: Question, limit: int, *, after: Place | None = None, now: datetime | None = None
    ) -> Sequence[str]:
        """Return the ids of the visits that a question counts, those that began last first.

        `after` is the moment (microseconds) and id of the last one of the page before. Raises what `ask` raises.
        """
        period = question.period(utc(self._clock.now()) if now is None else now)
        self._freshen()
        return self._healing(lambda: self._opened().latest(question, period, limit, after=after))

    def _freshen(self) -> None:
        if self._follower is None:
            self.catch_up()
        else:
            self._follower.expect_question()

    def parquet(self, answer: Answer) -> bytes:
        """Return an answer's rows as a Parquet file."""
        return self._opened().parquet(table_of(answer))

    def catch_up(self, progress: Progress | None = None) -> Copied:
        """Copy everything that the truth has by now; returns how much that was. A broken copy is made again."""
        builds = self._builds
        try:
            return self._copy_all(progress)
        except CopyBroken:
            return self._heal(builds, progress)

    def _copy_all(self, progress: Progress | None) -> Copied:
        copied = Copied(is_complete=False)
        while not copied.is_complete and not self._stop.is_set():
            copied = self._step(copied)
            if progress is not None:
                progress(copied)
        return copied

    def rebuild(self, progress: Progress | None = None) -> Copied:
        """Throw the copy away and make it again."""
        with self._feeding:
            self._is_complete = False
            self._builds += 1
            self._opened().clear()
            return self._copy_all(progress)

    def _healing(self, use: Callable[[], Result]) -> Result:
        """Use the copy; where it turns out to be broken, make it again and use that."""
        builds = self._builds
        try:
            return use()
        except CopyBroken:
            self._heal(builds)
            return use()

    def _heal(self, builds: int, progress: Progress | None = None) -> Copied:
        """Make the copy again, unless another thread did so since there were that many builds."""
        self._log.exception("the copy for reports is broken and is made again")
        with self._feeding:
            return self.rebuild(progress) if builds == self._builds else self._copy_all(progress)

    def _step(self, before: Copied) -> Copied:
        """Copy one batch."""
        with self._feeding:
            copy = self._opened()
            try:
                changes = self._changes(copy)
                if changes.position != copy.position():
                    copy.apply(changes)
            except StoreError:
                self._batch.note_failed()
                raise
            self._batch.note_copied(changes)
            if changes.is_complete:
                copy.finish_building()
            self._is_complete = changes.is_complete
        return Copied(
            events=before.events + len(changes.events),
            visits=before.visits + len(changes.visits),
            is_complete=changes.is_complete,
        )

    def _changes(self, copy: ReportCopy) -> Changes:
        try:
            return self._visits.changes(copy.position(), self._batch.changes)
        except InvalidCursor:
            self._log.warning("the database is not the one that was copied for reports; it is copied anew")
            self._is_complete = False
            copy.clear()
            return self._visits.changes(copy.position(), self._batch.changes)

    def _opened(self) -> ReportCopy:
        with self._opening:
            if self._copy is None:
                if self._stop.is_set():
                    raise StoreUnavailable("reports were closed before anybody asked")
                self._copy = self._open_copy()
            return self._copy

    def follow(self) -> None:
        """Keep answers at most two seconds behind, on a thread of its own, until `close`. Twice changes nothing."""
        if self._follower is None:
            self._follower = Follower(self.catch_up, self._clock, self._log)

    def end(self) -> None:
        """Copy nothing more; `close` waits for what is under way."""
        self._stop.set()
        if self._follower is not None:
            self._follower.end()

    def close(self) -> None:
        """Stop following and let go of the copy. Safe twice."""
        self.end()
        while self._follower is not None and self._follower.is_alive:
            if self._copy is not None:
                self._copy.interrupt()
            # Again, should the statement not have begun yet that was meant.
            self._follower.join(0.1)
        with self._opening:
            if self._copy is not None:
                self._copy.close()
