"""Clients: registered software that calls an API, and when each was last seen."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lastseen.activity.buffer import Outcome
from lastseen.activity.cursor import decode_cursor, encode_cursor
from lastseen.activity.flush import FlushResult
from lastseen.activity.health import ActivityHealth
from lastseen.activity.hours import SECONDS_PER_HOUR, Hours, HoursBuffer, hour_of
from lastseen.activity.key import MAX_KEY_LENGTH, key_problem
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import ClientStatus, StatusRule
from lastseen.activity.store import MAX_PAGE, Client, ClientFilter, ClientOrder, ClientQuery, ClientStore
from lastseen.activity.tracker import ActivityTracker
from lastseen.activity.updates import sorted_seconds
from lastseen.clock import SYSTEM_CLOCK, Clock, seconds_since_1970, utc
from lastseen.errors import ConfigurationError, FlushError, InvalidData, MissingAbility
from lastseen.forking import reset_in_forked_children

HoursByClient = dict[str, list[datetime]]

_ACCEPTED = Outcome.ACCEPTED


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientPage:
    """Some clients, and the cursor of the page after them (None on the last page)."""

    clients: tuple[Client, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[Client]:
        """Iterate over the clients of this page."""
        return iter(self.clients)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientCounts:
    """How many clients there are, and how many of each status; the four add up to the total."""

    total: int
    online: int
    recent: int
    idle: int
    inactive: int


class ClientActivity:
    """Records which clients were active and answers who was, and when.

    `record` costs a microsecond and never fails a request; everything else asks the store and may raise its errors.
    A listing writes first what still waits in this process, so a process sees its own records; records of other
    processes appear within their flush interval.
    """

    def __init__(
        self,
        store: ClientStore,
        settings: TrackerSettings | None = None,
        *,
        status_rule: StatusRule | None = None,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        on_flush: Callable[[FlushResult], object] | None = None,
    ) -> None:
        if not isinstance(store, ClientStore):
            raise MissingAbility(f"{type(store).__name__} cannot keep clients: it does not implement ClientStore")
        self.status_rule = status_rule or StatusRule()
        self._store = store
        self._clock = clock
        self._now = clock.now
        self._logger = logger or logging.getLogger("lastseen")
        settings = settings or TrackerSettings()
        self._hours = HoursBuffer()
        recorder = _ClientRecorder(store, self._hours)
        self.tracker = ActivityTracker(
            recorder,
            settings,
            clock=clock,
            logger=logger,
            on_flush_error=on_flush_error,
            on_flush=on_flush,
            superseded=self._hours.superseded,
            pending_changed=self._watch_pending,
        )
        recorder.tracker = self.tracker
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with nothing: at birth, and in a forked child."""
        self._hours.clear()
        # The current hour: its first moment, and that of the next. Infinite makes every record come and look.
        self._began = self._ends = math.inf
        # What waits, while all of it is of the current hour or later: a time there gives way and no hour is forgotten.
        self._times: dict[str, float] = {}

    def record(self, client_id: str, at: datetime | float | None = None) -> Outcome:
        """Note that the client was active, now or then; see `ActivityTracker.record`."""
        try:
            if at is None:
                at = self._now()
            elif type(at) is not float:
                return self._record_slowly(client_id, at)
            times = self._times
            # As in the tracker: nothing comes between this look and the store.
            if times[client_id] <= at < self._ends:
                times[client_id] = at
                return _ACCEPTED
            # Of several threads the later one may have come first.
            if self._began <= at < times[client_id] < self._ends:
                return _ACCEPTED
        except KeyError:
            return self._record_first(client_id, at)
        except Exception:  # noqa: BLE001 - a request never fails for its tracking: the slow way finds the words
            return self._record_slowly(client_id, at)
        return self._record_slowly(client_id, at)

    def _record_first(self, client_id: object, at: object) -> Outcome:
        tracker, key = self.tracker, client_id
        plain = type(key) is str and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable() and type(at) is float
        # See the tracker's own.
        if plain and self._began <= at < self._ends:  # type: ignore[operator]
            pending: dict[Any, Any] = tracker.pending
            if key not in pending:
                if tracker.room > 0:
                    tracker.room -= 1
                    pending[key] = at
                    return _ACCEPTED
            elif self._began <= pending[key] <= at:
                # Beside another client's time of an hour that has passed.
                pending[key] = at
                return _ACCEPTED
        return self._record_slowly(client_id, at)

    def _record_slowly(self, client_id: object, at: object) -> Outcome:
        try:
            moment = seconds_since_1970(at)
        except Exception:  # noqa: BLE001 - a time zone of anybody's
            moment = None
        if moment is None or key_problem(client_id) is not None:
            return self.tracker.reject(client_id)
        with self.tracker.lock:
            now = self._now()
            if not self._began <= now < self._ends:
                self._turn(hour_of(now))
            if moment < self._began:
                self._times = {}
            return self.tracker.put(str.__str__(client_id), moment)

    def _turn(self, hour: int) -> None:
        # Before the hour ends later: from here on until all is in order, every record comes and waits.
        self._times = {}
        self._hours.turn(hour)
        self._began, self._ends = hour * SECONDS_PER_HOUR, (hour + 1) * SECONDS_PER_HOUR
        self._watch_pending()

    def _watch_pending(self) -> None:
        """Let times move forward without a lock while none of them is of an hour that has passed."""
        pending = self.tracker.pending
        self._times = pending if min(pending.values(), default=self._began) >= self._began else {}

    def flush(self) -> FlushResult:
        """Write everything that waits, at once; raises `FlushError` when something could not be written."""
        return self.tracker.flush()

    def close(self) -> int:
        """Stop recording and write once more; returns how many clients could not be saved."""
        return self.tracker.close()

    def health(self) -> ActivityHealth:
        """Return how the tracker feels."""
        return self.tracker.health()

    def get(self, client_id: str) -> Client | None:
        """Return one client, with what this process recorded but has not written yet; None when never seen."""
        waiting = self.tracker.waiting(client_id)
        stored = self._store.get_client(client_id)
        if waiting is None:
            return stored
        if stored is None:
            return Client(client_id=client_id, last_seen_at=waiting, created_at=waiting)
        last_seen_at = max(stored.last_seen_at, waiting)
        return Client(client_id=client_id, last_seen_at=last_seen_at, created_at=stored.created_at)

    def list(
        self,
        *,
        active_within: timedelta | None = None,
        inactive_for: timedelta | None = None,
        status: ClientStatus | None = None,
        search: str = "",
        order: ClientOrder = ClientOrder.NEWEST,
        limit: int = 100,
        cursor: str | None = None,
    ) -> ClientPage:
        """Return one page of clients, newest first unless asked otherwise.

        `active_within` and `inactive_for` divide all clients exactly: somebody seen precisely that long ago is
        inactive. Raises `InvalidCursor` for a cursor of another order and `ConfigurationError` for a limit out of
        range. A client that is seen between two pages moves to the front and may be missing from the later page.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ConfigurationError(f"limit must be from 1 to {MAX_PAGE}")
        where = self._filter(active_within, inactive_for, status, search)
        after = None if cursor is None else decode_cursor(order, cursor)
        # One more than asked for tells whether another page follows.
        query = ClientQuery(where=where, order=order, limit=limit + 1, after=after)
        self._flush_before_listing()
        found = self._store.list_clients(query)
        clients = tuple(found[:limit])
        return ClientPage(
            clients=clients, next_cursor=encode_cursor(order, clients[-1]) if len(found) > limit else None
        )

    def active(
        self, within: timedelta = timedelta(hours=1), *, limit: int = 100, cursor: str | None = None
    ) -> ClientPage:
        """Return the clients seen within the span, newest first."""
        return self.list(active_within=within, limit=limit, cursor=cursor)

    def inactive(
        self, span: timedelta = timedelta(hours=24), *, limit: int = 100, cursor: str | None = None
    ) -> ClientPage:
        """Return the clients not seen for the span, silent for longest first."""
        return self.list(inactive_for=span, order=ClientOrder.OLDEST, limit=limit, cursor=cursor)

    def count(
        self,
        *,
        active_within: timedelta | None = None,
        inactive_for: timedelta | None = None,
        status: ClientStatus | None = None,
        search: str = "",
    ) -> int:
        """Count the clients that the same options of `list` would return."""
        where = self._filter(active_within, inactive_for, status, search)
        self._flush_before_listing()
        return self._store.count_clients([where])[0]

    def counts(self, search: str = "") -> ClientCounts:
        """Count the clients by status, all at one moment."""
        now = utc(self._now())
        windows = [self.status_rule.window(status, now) for status in ClientStatus]
        self._flush_before_listing()
        online, recent, idle, inactive = self._store.count_clients(
            [ClientFilter(seen_after=after, seen_until=until, search=search) for after, until in windows]
        )
        total = online + recent + idle + inactive
        return ClientCounts(total=total, online=online, recent=recent, idle=idle, inactive=inactive)

    def status(self, client: Client) -> ClientStatus:
        """Return the client's status word at this moment."""
        return self.status_rule.status(client.last_seen_at, utc(self._now()))

    def active_hours(self, client_ids: Collection[str], since: datetime) -> HoursByClient:
        """Return each client's active hours since then, ascending; clients without any are left out."""
        return self._store.active_hours(client_ids, since)

    def active_clients_by_hour(self, since: datetime) -> dict[datetime, int]:
        """Return how many clients were active in each hour since then; hours without any are left out."""
        return self._store.active_clients_by_hour(since)

    def _filter(
        self,
        active_within: timedelta | None,
        inactive_for: timedelta | None,
        status: ClientStatus | None,
        search: str,
    ) -> ClientFilter:
        now = utc(self._now())
        for name, span in (("active_within", active_within), ("inactive_for", inactive_for)):
            if span is not None and not timedelta(0) <= span <= now - utc(0):
                raise ConfigurationError(f"{name} must be a span from 0 to {now.year - 1970} years")
        after, until = (None, None) if status is None else self.status_rule.window(status, now)
        if active_within is not None:
            after = max(after or utc(0), now - active_within)
        if inactive_for is not None:
            until = min(until or now, now - inactive_for)
        return ClientFilter(seen_after=after, seen_until=until, search=search)

    def _flush_before_listing(self) -> None:
        if self.tracker.is_failing:
            # The back-off decides when to try again, not how often somebody looks.
            return
        try:
            self.tracker.flush()
        except FlushError:
            # The tracker has logged it; the listing itself says whether the store can be read.
            self._logger.debug("listing without what could not be flushed")


class _ClientRecorder:
    """Writes a batch of clients, then the hours that belong to them, each in its own transaction."""

    tracker: ActivityTracker

    def __init__(self, store: ClientStore, hours: HoursBuffer) -> None:
        self._store = store
        self._hours = hours

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        client_ids, seconds = sorted_seconds(updates)
        own = dict(zip(client_ids, map(hour_of, seconds), strict=True))
        with self.tracker.lock:
            taken = self._hours.take(own)
        try:
            moved = self._store.batch_record_activity(updates)
            self._store.batch_record_hours(_moments(taken))
        except BaseException as error:
            is_poison = isinstance(error, InvalidData) and len(updates) == 1
            if not is_poison:
                with self.tracker.lock:
                    self._hours.restore(taken, own)
            raise
        with self.tracker.lock:
            self._hours.written(taken)
        return moved


def _moments(taken: Hours) -> HoursByClient:
    moments = {hour: utc(hour * SECONDS_PER_HOUR) for hour in set().union(*taken.values())}
    return {client_id: [moments[hour] for hour in sorted(hours)] for client_id, hours in taken.items()}
