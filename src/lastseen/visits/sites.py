"""Sites: make, change, rotate and delete them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from lastseen.clock import SYSTEM_CLOCK, Clock, utc
from lastseen.errors import MissingAbility
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID, Site, SiteNotFound, is_site_id
from lastseen.visits.site_store import MAX_SITES_PAGE, SiteStore

IMPORT_SECRET_BYTES = 32
WRITE_KEY_BYTES = 16
CACHED_FOR = timedelta(seconds=5)
"""So long at the most a process goes on with what it knows of a site: its rule, and a write key that has ended."""


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
        return site

    def get(self, site_id: str) -> Site:
        """Return a site; raises `SiteNotFound`."""
        site = self.store.get_site(site_id) if is_site_id(site_id) else None
        if site is None:
            makes = "; lastseen migrate makes it" if site_id == DEFAULT_SITE_ID else ""
            raise SiteNotFound(f"there is no such site: {site_id[:63]!r}{makes}")
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
        return self.store.change_site(
            site_id, name=name, domains=None if domains is None else checked.domains, rule=rule
        )

    def rotate_write_key(self, site_id: str) -> Site:
        """Give a site a new write key; the old one ends. Raises `SiteNotFound`."""
        self.get(site_id)
        return self.store.rotate_write_key(site_id, new_write_key())

    def delete(self, site_id: str) -> None:
        """Remove a site, so that nothing more is taken for it; raises `SiteNotFound`. Events that are there stay."""
        self.get(site_id)
        self.store.delete_site(site_id)

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


def new_write_key() -> str:
    """Return a public key of 128 random bits behind `wk_`."""
    return f"wk_{secrets.token_urlsafe(WRITE_KEY_BYTES)}"
