"""Visitors without a cookie: named by a keyed hash, whose key is thrown away two days later."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Protocol, runtime_checkable

from lastseen.clock import from_micros
from lastseen.errors import StoreError
from lastseen.forking import reset_in_forked_children
from lastseen.visits.fold import close_overdue
from lastseen.visits.rule import VisitRule
from lastseen.visits.store import VisitStore

SALT_BYTES = 32
KEPT_DAYS = 2
"""A salt is the current one for a day and the previous one for another; then it is deleted."""
_REMEMBERED = 50_000

IsOpen = Callable[[str, str, int], bool]
"""Whether a site's visitor has a visit that an event at this moment (microseconds) would go on with."""


@runtime_checkable
class SaltStore(Protocol):
    """Keeps the salts of days, the same for every process. Every method is one transaction; any thread may call."""

    def ensure_salt(self, day: date, fresh: bytes) -> bytes:
        """Return the salt of a day; there was none: keep `fresh` and return that. All callers get the same."""

    def get_salt(self, day: date) -> bytes | None:
        """Return the salt of a day, or None."""

    def delete_salts(self, before: date) -> int:
        """Delete the salts of all days before this one, for good; returns how many there were."""


class Salts:
    """The salts of today and yesterday, from a store. Any thread may call; the store is asked once a day."""

    def __init__(self, store: SaltStore) -> None:
        self._store = store
        self._known: dict[date, tuple[bytes, bytes | None]] = {}
        self._lock = threading.Lock()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def at(self, moment: datetime) -> tuple[bytes, bytes | None]:
        """Return the salt of the moment's day (UTC) and that of the day before, if there was one.

        The first call of a day deletes what is two days old.
        """
        day = moment.date()
        found = self._known.get(day)
        if found is not None:
            return found
        with self._lock:
            current = self._store.ensure_salt(day, secrets.token_bytes(SALT_BYTES))
            found = current, self._store.get_salt(day - timedelta(days=1))
            if not self._known or day > max(self._known):
                self._store.delete_salts(_first_kept(day))
            oldest = max(day, *self._known) if self._known else day
            self._known = {one: salts for one, salts in self._known.items() if one >= _first_kept(oldest)}
            self._known[day] = found
        return found

    def prune(self, now: datetime) -> int:
        """Delete salts that are two days old, for a process in which no event calls `at`; returns how many."""
        with self._lock:
            self._known = {day: salts for day, salts in self._known.items() if day >= _first_kept(now.date())}
        return self._store.delete_salts(_first_kept(now.date()))


def _first_kept(today: date) -> date:
    return today - timedelta(days=KEPT_DAYS - 1)


class CookielessVisitors:
    """Names the visitors of one site by address and user agent, anew each day; addresses are not kept.

    A visit goes on past midnight: with `is_open`, a visitor who is not known under today's salt and has an open visit
    under yesterday's keeps yesterday's name until that visit is over.
    """

    def __init__(self, site_id: str, salts: Salts, is_open: IsOpen | None = None) -> None:
        self._site_id = site_id
        self._salts = salts
        self._is_open = is_open
        # Today's name -> yesterday's, or its own when nothing of yesterday goes on.
        self._names: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with a new lock."""
        self._lock = threading.Lock()

    def visitor_id(self, address: str, user_agent: str, at: int) -> str:
        """Return the name of the visitor whose event came at this moment, in microseconds; by the server's clock."""
        current, previous = self._salts.at(from_micros(at))
        name = visitor_hash(current, self._site_id, address, user_agent)
        if previous is None or self._is_open is None:
            return name
        with self._lock:
            known = self._names.get(name)
        if known == name:
            return name
        older = known or visitor_hash(previous, self._site_id, address, user_agent)
        goes_on = self._is_open(self._site_id, older, at) and not self._is_open(self._site_id, name, at)
        chosen = older if goes_on else name
        with self._lock:
            self._names[name] = chosen
            while len(self._names) > _REMEMBERED:
                self._names.popitem(last=False)
        return chosen


def open_visits(store: VisitStore, rules: Callable[[str], VisitRule]) -> IsOpen:
    """Return what asks a store whether a visitor's newest visit would go on; by key, one read a question.

    While the store is away nothing is known to be open: visitors get today's name.
    """

    def is_open(site_id: str, visitor_id: str, at: int) -> bool:
        try:
            visit = store.get_by_visitor(site_id, visitor_id)
        except StoreError:
            return False
        return visit is not None and close_overdue(visit, at, rules(site_id)) is None and visit.end is None

    return is_open


class ImportedVisitors:
    """Names the visitors of imported lines with the site's own secret, so that importing again finds the same ones."""

    def __init__(self, site_id: str, import_secret: bytes) -> None:
        self._name = lru_cache(maxsize=1 << 14)(partial(visitor_hash, import_secret, site_id))

    def visitor_id(self, address: str, user_agent: str, at: int) -> str:  # noqa: ARG002 - the same for all times
        """Return the visitor's name."""
        return self._name(address, user_agent)


class VisitorNames(Protocol):
    """What gives visitors without an id of their own a name."""

    def visitor_id(self, address: str, user_agent: str, at: int) -> str:
        """Return the name; `at` is when the event came, in microseconds."""


def visitor_hash(key: bytes, site_id: str, address: str, user_agent: str) -> str:
    """Return 128 bits of BLAKE2b under the key, as 32 hexadecimal digits; the three texts cannot run together."""
    lengths = f"{len(site_id)}:{len(address)}:".encode()
    text = lengths + f"{site_id}{address}{user_agent}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16, key=key).hexdigest()
