"""Sites: make, change, rotate, delete, and find by write key."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.errors import MissingAbility
from lastseen.forking import reset_in_forked_children
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID, Site, SiteNotFound, is_site_id, is_write_key
from lastseen.visits.site_store import MAX_SITES_PAGE, SiteStore

IMPORT_SECRET_BYTES = 32
WRITE_KEY_BYTES = 16
CACHED_FOR = timedelta(seconds=5)
"""A write key that was rotated or whose site was deleted in another process is accepted that much longer."""
_MOST_CACHED = 1_000


class Sites:
    """The sites of one store. Methods block on the store and raise its errors; any thread may call them.

    `default_rule` is the rule of sites that are made without one, the first site too.
    """

    def __init__(self, store: SiteStore, *, default_rule: VisitRule | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        if not isinstance(store, SiteStore):
            raise MissingAbility(f"{type(store).__name__} cannot keep sites: it does not implement SiteStore")
        self.store = store
        self.default_rule = default_rule or VisitRule()
        self._clock = clock
        self._by_key: OrderedDict[str, tuple[Site | None, float]] = OrderedDict()
        self._lock = threading.Lock()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()
        self._by_key.clear()

    def ensure_first(self) -> Site | None:
        """Make the site `default` when there is no site at all, and return it; else None. Safe to repeat."""
        site = self._new(DEFAULT_SITE_ID, "Default", (), None)
        return site if self.store.add_first_site(site) else None

    def create(
        self, site_id: str, *, name: str | None = None, domains: tuple[str, ...] = (), rule: VisitRule | None = None
    ) -> Site:
        """Make a site; raises `SiteExists`, and `ConfigurationError` for what it cannot be. No name is the id."""
        site = self._new(site_id, name or site_id, domains, rule)
        self.store.add_site(site)
        self._forget()
        return site

    def get(self, site_id: str) -> Site:
        """Return a site; raises `SiteNotFound`."""
        site = self.store.get_site(site_id) if is_site_id(site_id) else None
        if site is None:
            raise SiteNotFound("there is no such site")
        return site

    def by_write_key(self, write_key: str) -> Site | None:
        """Return the site that a write key names, or None; for every request that brings events.

        What was found, and that nothing was, is remembered for `CACHED_FOR`.
        """
        if not is_write_key(write_key):
            return None
        now = self._clock.monotonic()
        with self._lock:
            found = self._by_key.get(write_key)
        if found is not None and now < found[1]:
            return found[0]
        site = self.store.site_by_write_key(write_key)
        with self._lock:
            self._by_key[write_key] = (site, now + CACHED_FOR.total_seconds())
            self._by_key.move_to_end(write_key)
            if len(self._by_key) > _MOST_CACHED:
                self._by_key.popitem(last=False)
        return site

    def list(self, limit: int = MAX_SITES_PAGE, after: str | None = None) -> Sequence[Site]:
        """Return sites by id, those after the given id."""
        return self.store.list_sites(limit, after)

    def change(
        self,
        site_id: str,
        *,
        name: str | None = None,
        domains: tuple[str, ...] | None = None,
        rule: VisitRule | None = None,
    ) -> Site:
        """Change what is given; raises `SiteNotFound` and `ConfigurationError`.

        A new rule holds for what is folded from now on; earlier visits change only when they are rebuilt.
        """
        site = self.get(site_id)
        checked = replace(
            site,
            name=site.name if name is None else name,
            domains=site.domains if domains is None else domains,
            rule=rule or site.rule,
        )
        changed = self.store.change_site(
            site_id, name=name, domains=None if domains is None else checked.domains, rule=rule
        )
        self._forget()
        return changed

    def rotate_write_key(self, site_id: str) -> Site:
        """Give a site a new write key; the old one ends. Raises `SiteNotFound`."""
        self.get(site_id)
        site = self.store.rotate_write_key(site_id, new_write_key())
        self._forget()
        return site

    def delete(self, site_id: str) -> None:
        """Remove a site, so that nothing more is taken for it; raises `SiteNotFound`. Events that are there stay."""
        self.get(site_id)
        self.store.delete_site(site_id)
        self._forget()

    def _new(self, site_id: str, name: str, domains: tuple[str, ...], rule: VisitRule | None) -> Site:
        return Site(
            id=site_id,
            name=name,
            domains=domains,
            write_key=new_write_key(),
            import_secret=secrets.token_bytes(IMPORT_SECRET_BYTES),
            rule=rule or self.default_rule,
            created_at=utc(self._clock.now()),
        )

    def _forget(self) -> None:
        with self._lock:
            self._by_key.clear()


def new_write_key() -> str:
    """Return a public key of 128 random bits behind `wk_`."""
    return f"wk_{secrets.token_urlsafe(WRITE_KEY_BYTES)}"
