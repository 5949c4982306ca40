"""Sites as the ingest knows them: remembered for seconds, and for longer only while the database is away."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.errors import ConfigurationError, StoreError
from lastseen.visits.cookieless import CookielessVisitors, IsOpen, Salts, SaltStore
from lastseen.visits.domains import domain_name
from lastseen.visits.event import Event
from lastseen.visits.making import LATE_LIMIT, EventMaker, Places, RawEvent
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site, SiteNotFound
from lastseen.visits.sites import Sites

FRESH_FOR = 5.0
"""Seconds that what was read of a site is used; so long may a rotated key or a changed rule be the old one."""
UNKNOWN_FOR = 1.0
"""Seconds that a key is taken for one of no site. Many clients never send again what was refused for its key."""
AWAY_FOR = 15.0
"""Seconds after a failed reading in which nobody waits for the next one; longer than a database takes to fail."""
MAX_KEY_LENGTH = 100
_MOST_KNOWN = 1_000
_NEVER_SEEN = (None, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Intake:
    """A site, and what makes its events."""

    site: Site
    make: Callable[[RawEvent], Event]
    make_import: Callable[[RawEvent], Event]
    """For old events that are sent on purpose: they are never late."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a key. `intake` is None for a key of no site."""

    intake: Intake | None
    is_fresh: bool


class KnownSites:
    """The sites of one server. `recall` and `recall_fresh` never wait, the others may. Any thread may call.

    Age counts from the moment before a reading, so that what is used as fresh was true at most `FRESH_FOR` ago.
    """

    def __init__(
        self,
        sites: Sites,
        salts: SaltStore,
        *,
        clock: Clock = SYSTEM_CLOCK,
        geography: Places | None = None,
        kept_parameters: frozenset[str] = frozenset(),
        is_open: IsOpen | None = None,
    ) -> None:
        self._sites = sites
        self._salts = Salts(salts)
        self._clock = clock
        self._geography = geography
        self._kept = kept_parameters
        self._is_open = is_open
        self._by_key: OrderedDict[str, tuple[Intake | None, float]] = OrderedDict()
        self._by_id: dict[str, tuple[Intake, float]] = {}
        self._away_until = -math.inf
        self._lock = threading.Lock()

    @property
    def is_store_away(self) -> bool:
        """Whether the last reading failed, and not long ago."""
        return self._clock.monotonic() < self._away_until

    def load(self) -> None:
        """Read all sites, and the salts of today, so that the database may be away from now on."""
        began = self._clock.monotonic()
        self._salts.at(utc(self._clock.now()))
        for site in self._sites.list():
            self._remember(site.write_key, site, began)

    def recall(self, key: str) -> Found | None:
        """Return what is known of a key, fresh or not; None when nothing is."""
        found = self._by_key.get(key)
        return None if found is None else Found(found[0], self._clock.monotonic() < found[1])

    def recall_fresh(self, key: str | None) -> Intake | None:
        """Return the site of a key when that is known and fresh; None says nothing."""
        found = self._by_key.get(key) if key else None
        return found[0] if found is not None and self._clock.monotonic() < found[1] else None

    def look_up(self, key: str) -> Intake | None:
        """Ask the store for the site of a key, or of a domain.

        While the store is away, a site that was known goes on being that of its key; of other keys nothing can be said:
        raises `StoreError`.
        """
        if len(key) > MAX_KEY_LENGTH or not key.isprintable():
            return None
        began = self._clock.monotonic()
        try:
            site = self._sites.store.site_by_write_key(key) or self._of_domain(key)
        except StoreError:
            known = self._without_store(key)
            if known is None:
                raise
            return known
        self._away_until = -math.inf
        return self._remember(key, site, began)

    def _without_store(self, key: str) -> Intake | None:
        """Return the site that a key had, which it now has for some seconds more."""
        now = self._clock.monotonic()
        self._away_until = now + AWAY_FOR
        with self._lock:
            known = self._by_key.get(key, _NEVER_SEEN)[0]
            if known is not None:
                self._by_key[key] = known, now + FRESH_FOR
        return known

    def _of_domain(self, domain: str) -> Site | None:
        """Return the only site that has a domain, which some trackers name instead of a key; it is as public."""
        if "." not in domain:
            return None
        try:
            name = domain_name(domain)
        except ConfigurationError:
            return None
        found = [site for site in self._sites.list() if name in site.domains]
        return found[0] if len(found) == 1 else None

    def look_up_site(self, site_id: str) -> Intake | None:
        """Ask the store for a site by its id; while it is away, what was known goes on being true."""
        began = self._clock.monotonic()
        try:
            site = self._sites.get(site_id)
        except SiteNotFound:
            return None
        except StoreError:
            if site_id not in self._by_id:
                raise
            return self._by_id[site_id][0]
        return self._remember(site.write_key, site, began)

    def rule(self, site_id: str) -> VisitRule:
        """Return the rule of a site, at most `FRESH_FOR` old; of one that is no more, the default.

        Raises `StoreError` while the store is away: nothing can be folded then.
        """
        known = self._by_id.get(site_id)
        now = self._clock.monotonic()
        if known is not None and now < known[1]:
            return known[0].site.rule
        try:
            site = self._sites.get(site_id)
        except SiteNotFound:
            return VisitRule()
        with self._lock:
            return self._intake_of(site, now).site.rule

    def _remember(self, key: str, site: Site | None, began: float) -> Intake | None:
        with self._lock:
            intake = None if site is None else self._intake_of(site, began)
            self._by_key[key] = intake, began + (UNKNOWN_FOR if intake is None else FRESH_FOR)
            self._by_key.move_to_end(key)
            if len(self._by_key) > _MOST_KNOWN:
                self._by_key.popitem(last=False)
        return intake

    def _intake_of(self, site: Site, began: float) -> Intake:
        known = self._by_id.get(site.id)
        intake = known[0] if known is not None and known[0].site == site else self._new_intake(site)
        self._by_id[site.id] = intake, began + FRESH_FOR
        return intake

    def _new_intake(self, site: Site) -> Intake:
        visitors = CookielessVisitors(site.id, self._salts, self._is_open)
        live, imports = (
            EventMaker(
                site,
                visitors=visitors,
                geography=self._geography,
                kept_parameters=self._kept,
                late_limit=late_limit,
            )
            for late_limit in (LATE_LIMIT, None)
        )
        return Intake(site, live.make, imports.make)
