"""Group commit: the events of many requests in one transaction, and each request answered after it."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from time import perf_counter

from lastseen.activity.backoff import retry_delay
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import InvalidData, StoreError
from lastseen.ingest.figures import Figures
from lastseen.ingest.outcome import Overloaded
from lastseen.ingest.spool import Spool
from lastseen.visits.event import Event
from lastseen.visits.making import RawEvent
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import VisitStore

MOST_WAITING = 50_000
"""Events that may wait for a commit; a request beyond that is refused at once."""
MOST_TOGETHER = 5_000
"""Events in one transaction, unless a single request brings more."""
MOST_BYTES_WAITING = 128 * 1024 * 1024
"""Of bodies, as they were read: one that is compressed takes a thousand times what was sent."""
MOST_BYTES_TOGETHER = 32 * 1024 * 1024
BUSY_FROM = 4
"""Requests in one transaction from which on the next one waits for those who were just answered."""
LONGEST_WAIT = 0.02
"""Seconds that it waits at most; it is never longer than what the transaction before took."""
LOOK_EVERY = 600.0
"""Seconds between two looks for what other processes, that are gone, left in the spool."""
MOST_DRAINED = 20_000
"""Events from the spool between two looks at what has come in."""

_logger = logging.getLogger("lastseen.ingest")

Make = Callable[[RawEvent], Event]
Rules = Callable[[str], VisitRule]
OnCommit = Callable[[int, float], object]
"""Called after each transaction with its number of events and its seconds."""
Answer = Callable[[Sequence[int], Exception | None], object]
"""Called with the places of events that the database refuses for ever; or with why nothing was acknowledged."""


@dataclass(slots=True, eq=False)
class _Request:
    """What one request brought, and who waits for what becomes of it."""

    make: Make
    raws: Sequence[RawEvent]
    loop: asyncio.AbstractEventLoop
    answer: Answer
    size: int = 0
    """Bytes of the body that it was read from; 0 for one that somebody else counts."""
    events: Sequence[Event] = ()
    refused: list[int] = field(default_factory=list)
    """Places of events that the database refuses for ever."""
    error: Exception | None = None


class GroupCommit:
    """One thread that takes whatever waits and saves it together.

    A request is acknowledged when its events are durable: committed, or, while the database is away, synced to the
    spool. Then everything goes through the spool, in order, until that is empty again. An event that the database
    refuses for ever is found by halving and costs nobody else anything.
    """

    def __init__(
        self,
        store: VisitStore,
        rules: Rules,
        spool: Spool,
        figures: Figures,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_commit: OnCommit | None = None,
    ) -> None:
        self._store = store
        self._rules = rules
        self._spool = spool
        self._figures = figures
        self._clock = clock
        self._on_commit = on_commit
        self._waiting: deque[_Request] = deque()
        self._count = 0
        self._bytes = 0
        self._enough = 1
        """Requests that must wait for the thread to be woken."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._failures = 0
        self._try_again_at = 0.0
        self._look_at = clock.monotonic() + LOOK_EVERY
        self._thread = threading.Thread(target=self._run, name="lastseen-ingest", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events wait for a commit."""
        return self._count

    @property
    def is_store_away(self) -> bool:
        """Whether the last attempt to save failed, so that events go to the spool."""
        return not self._spool.is_empty

    async def save(self, make: Make, raws: Sequence[RawEvent], size: int = 0) -> Sequence[int]:
        """Save the events of one request and return the places of those that the database refuses for ever.

        `size` is that of the body that they were read from, decompressed. Raises `Overloaded` when too many wait
        already, and `StoreUnavailable` when neither database nor spool keep them; then nothing was acknowledged, and
        the same request may come again.
        """
        return await self.submit(make, raws, size)

    def submit(self, make: Make, raws: Sequence[RawEvent], size: int = 0) -> asyncio.Future[Sequence[int]]:
        """Return what will be the result of `save`; raises `Overloaded` at once. For the thread of an event loop."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[int]] = loop.create_future()
        self.offer(make, raws, loop, partial(_settle, answer), size)
        return answer

    def offer(
        self, make: Make, raws: Sequence[RawEvent], loop: asyncio.AbstractEventLoop, answer: Answer, size: int = 0
    ) -> None:
        """Save like `save`, and call `answer` on the loop then; raises `Overloaded` at once. For the loop's thread."""
        request = _Request(make, raws, loop, answer, size)
        count = len(raws)
        with self._lock:
            is_too_much = self._count + count > MOST_WAITING or self._bytes + size > MOST_BYTES_WAITING
            # A request that brings more by itself than may wait is let in when nothing else waits.
            if self._closing or (self._count and is_too_much):
                self._figures.refused += count
                raise Overloaded("the server is stopping" if self._closing else "too many events wait to be saved")
            self._waiting.append(request)
            self._count += count
            self._bytes += size
            is_enough = len(self._waiting) == self._enough
        if is_enough:
            # Not at once: what came in together is also saved together.
            loop.call_soon(self._wake.set)

    def close(self) -> None:
        """Save what waits, answer, and end the thread. Safe twice; what is in the spool stays there."""
        with self._lock:
            self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._clock.wait(self._wake, self._pause())
            self._wake.clear()
            self._work()
            self._look_around()
            if self._closing and not self._waiting:
                self._spool.close()
                return

    def _look_around(self) -> None:
        """Take over what waits for nobody any more; the database gets it with the next turn."""
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            try:
                self._spool.adopt()
            except (StoreError, OSError) as error:
                _logger.warning("the spool cannot be looked through: %s", error)

    def _work(self) -> None:
        """Save and answer until nothing waits."""
        took, company, until = 0, 0, 0.0
        while True:
            if took >= BUSY_FROM:
                self._wait_for_company(company, until)
            began = self._clock.monotonic()
            requests = self._take()
            took = len(requests)
            if requests:
                try:
                    self._commit(requests)
                except Exception as error:  # a defect must not end the thread that everybody waits for
                    _logger.exception("events could not be saved")
                    for request in requests:
                        request.error = error
                # Before the answers: whoever asks again after them is one of those who are waited for.
                company = len(self._waiting) + took
                answered_at = self._clock.monotonic()
                until = answered_at + min(answered_at - began, LONGEST_WAIT)
                self._answer(requests)
            # After the answers: a database that does not come back takes its time to say so. Not at the end.
            is_time = self._clock.monotonic() >= self._try_again_at and not self._closing
            if is_time and not self._spool.is_empty:
                self._drain()
            if not requests:
                return

    def _wait_for_company(self, company: int, until: float) -> None:
        """Wait until so many requests are there, or until this moment of the monotonic clock.

        Those who were just answered are about to ask again. A transaction costs much by itself, and one that runs while
        they ask takes turns with the event loop, row by row.
        """
        while (left := until - self._clock.monotonic()) > 0:
            with self._lock:
                # Whoever came before this may have set it.
                self._wake.clear()
                if self._closing or self._count >= MOST_TOGETHER or len(self._waiting) >= company:
                    break
                self._enough = company
            self._clock.wait(self._wake, left)
        with self._lock:
            self._enough = 1

    def _pause(self) -> float:
        """Return how long to wait for a request, at most."""
        if self._spool.is_empty:
            return LOOK_EVERY
        return max(self._try_again_at - self._clock.monotonic(), 0.0)

    def _take(self) -> list[_Request]:
        """Return the requests that wait, as many as go together."""
        taken: list[_Request] = []
        count = size = 0
        with self._lock:
            while self._waiting:
                request = self._waiting[0]
                count, size = count + len(request.raws), size + request.size
                if taken and (count > MOST_TOGETHER or size > MOST_BYTES_TOGETHER):
                    break
                self._waiting.popleft()
                self._count -= len(request.raws)
                self._bytes -= request.size
                taken.append(request)
        return taken

    def _commit(self, requests: list[_Request]) -> None:
        """Make the events of all requests durable, or remember why not."""
        made = [request for request in requests if self._made(request)]
        if not made:
            return
        if self._spool.is_empty:
            try:
                _hand_out(self._save([event for request in made for event in request.events]), made)
            except StoreError as error:
                self._store_failed(error)
            else:
                return
        self._keep(made)

    def _made(self, request: _Request) -> bool:
        try:
            make = request.make
            request.events = [make(raw) for raw in request.raws]
        except Exception as error:  # noqa: BLE001 - one request must not end the thread for all others
            request.error = error
            return False
        return True

    def _save(self, events: list[Event], place: int = 0) -> list[int]:
        """Save all events but those that the database refuses for ever; return their places.

        Raises `StoreError` when the database is away; some may be saved then, which a repetition does not change.
        """
        if not events:
            return []
        try:
            self._save_together(events)
        except StoreError as error:
            if not isinstance(error, InvalidData):
                raise
            reason: Exception = error
        except Exception as error:  # noqa: BLE001 - a defect must cost one event, not all that come with it
            reason = error
        else:
            return []
        if len(events) == 1:
            _logger.error("event %r of site %r cannot be stored", events[0].id, events[0].site_id, exc_info=reason)
            self._figures.dropped["refused by the database"] += 1
            return [place]
        half = len(events) // 2
        return self._save(events[:half], place) + self._save(events[half:], place + half)

    def _save_together(self, events: list[Event]) -> None:
        began = perf_counter()
        result = self._store.save(events, self._rules)
        self._figures.commits += 1
        self._figures.duplicates += result.duplicates
        if self._on_commit is not None:
            self._on_commit(len(events), perf_counter() - began)

    def _store_failed(self, error: Exception) -> None:
        self._figures.failed_commits += 1
        self._failures += 1
        pause = retry_delay(self._failures, random.random)
        self._try_again_at = self._clock.monotonic() + pause
        _logger.warning("events cannot be saved, next try in %.1f s: %s", pause, error)

    def _keep(self, requests: list[_Request]) -> None:
        """Append to the spool what there is room for; the others are told to come again."""
        full: Exception = Overloaded("the spool is full, and the database is away")
        try:
            taken = self._spool.append([request.events for request in requests])
        except StoreError as error:
            taken, full = 0, error
        for request in requests[:taken]:
            self._figures.spooled += len(request.events)
        for request in requests[taken:]:
            request.error = full

    def _drain(self) -> None:
        """Move what waits on disk into the database, the oldest first, and stop when that fails or enough is done."""
        drained = 0
        while not self._spool.is_empty and drained < MOST_DRAINED and not self._closing:
            try:
                drained += self._drain_oldest()
            except (StoreError, OSError) as error:
                self._store_failed(error)
                return
            except Exception as error:  # a defect must not end the thread that everybody waits for
                _logger.exception("what waits on disk could not be saved")
                self._store_failed(error)
                return
        self._failures = 0
        if self._spool.is_empty:
            _logger.info("the spool is empty: everything that waited is saved")

    def _drain_oldest(self) -> int:
        drained = 0
        together: list[Event] = []
        for batch in self._spool.oldest():
            together += batch
            if len(together) >= MOST_TOGETHER:
                drained += self._drain_batch(together)
                together = []
        drained += self._drain_batch(together)
        self._spool.remove_oldest()
        return drained

    def _drain_batch(self, events: list[Event]) -> int:
        refused = self._save(events)
        self._figures.drained += len(events) - len(refused)
        return len(events)

    def _answer(self, requests: list[_Request]) -> None:
        """Wake those who wait; once for every event loop, which is dear."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
        for request in requests:
            by_loop.setdefault(request.loop, []).append(request)
        for loop, answered in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._resolve, answered)
            except RuntimeError:
                _logger.warning("%d requests were saved and nobody waited for the answer", len(answered))

    def _resolve(self, requests: list[_Request]) -> None:
        """Hand everybody the answer; on their event loop."""
        for request in requests:
            if request.error is None:
                self._figures.accepted += len(request.raws) - len(request.refused)
            elif isinstance(request.error, Overloaded | StoreError):
                self._figures.refused += len(request.raws)
            try:
                request.answer(request.refused, request.error)
            except Exception:  # one who cannot take the answer must not keep it from the others
                _logger.exception("an answer could not be given")


def _settle(answer: asyncio.Future[Sequence[int]], refused: Sequence[int], error: Exception | None) -> None:
    """Give a future its result, unless the task that waited was cancelled."""
    if answer.done():
        return
    if error is None:
        answer.set_result(refused)
    else:
        answer.set_exception(error)


def _hand_out(refused: list[int], requests: list[_Request]) -> None:
    """Tell each request which of its own events were refused."""
    if not refused:
        return
    starts = [0, *accumulate(len(request.events) for request in requests)]
    for place in refused:
        index = bisect_right(starts, place) - 1
        requests[index].refused.append(place - starts[index])
