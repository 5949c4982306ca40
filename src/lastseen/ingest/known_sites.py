"""Sites as the ingest knows them: found by key without waiting, and remembered while the database is away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.errors import StoreError
from lastseen.visits.cookieless import CookielessVisitors, IsOpen, Salts, SaltStore
from lastseen.visits.event import Event
from lastseen.visits.making import LATE_LIMIT, EventMaker, Places, RawEvent
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site, SiteNotFound
from lastseen.visits.sites import Sites

FRESH_FOR = 5.0
"""Seconds after which a site is read again; until then a rotated key, and a rule that was changed, are the old ones."""
MAX_KEY_LENGTH = 100
_MOST_KNOWN = 1_000


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
    """The sites of one server. `recall` never waits; the other methods ask the store. Any thread may call."""

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
        self._by_id: dict[str, Intake] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read all sites, and the salts of today, so that the database may be away from now on."""
        self._salts.at(utc(self._clock.now()))
        for site in self._sites.list():
            self._remember(site.write_key, site)

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

        While the store is away, what was known before goes on being true; raises `StoreError` when nothing was.
        """
        if len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
            return None
        try:
            site = self._sites.store.site_by_write_key(key) or self._of_domain(key)
        except StoreError:
            with self._lock:
                known = self._by_key.get(key)
                if known is None:
                    raise
                self._by_key[key] = known[0], self._clock.monotonic() + FRESH_FOR
            return known[0]
        return self._remember(key, site)

    def _of_domain(self, domain: str) -> Site | None:
        """Return the only site that has a domain, which some trackers name instead of a key; it is as public."""
        if "." not in domain:
            return None
        found = [site for site in self._sites.list() if domain.lower() in site.domains]
        return found[0] if len(found) == 1 else None

    def look_up_site(self, site_id: str) -> Intake | None:
        """Ask the store for a site by its id; while it is away, what was known goes on being true."""
        try:
            site = self._sites.get(site_id)
        except SiteNotFound:
            return None
        except StoreError:
            if site_id not in self._by_id:
                raise
            return self._by_id[site_id]
        return self._remember(site.write_key, site)

    def rule(self, site_id: str) -> VisitRule:
        """Return the rule of a site; of one that is no more, the default."""
        intake = self._by_id.get(site_id)
        if intake is not None:
            return intake.site.rule
        try:
            return self._sites.get(site_id).rule
        except SiteNotFound:
            return VisitRule()

    def _remember(self, key: str, site: Site | None) -> Intake | None:
        with self._lock:
            intake = None if site is None else self._intake_of(site)
            self._by_key[key] = intake, self._clock.monotonic() + FRESH_FOR
            self._by_key.move_to_end(key)
            if len(self._by_key) > _MOST_KNOWN:
                self._by_key.popitem(last=False)
        return intake

    def _intake_of(self, site: Site) -> Intake:
        known = self._by_id.get(site.id)
        if known is not None and known.site == site:
            return known
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
        intake = Intake(site, live.make, imports.make)
        self._by_id[site.id] = intake
        return intake
