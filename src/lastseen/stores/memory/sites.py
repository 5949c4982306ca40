"""Sites in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from lastseen.stores.site_rows import no_site, site_exists
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site
from lastseen.visits.site_store import MAX_SITES_PAGE


class MemorySites:
    """See `SiteStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sites: dict[str, Site] = {}

    def add_site(self, site: Site) -> None:
        """See `SiteStore`."""
        with self._lock:
            if site.id in self._sites:
                raise site_exists(site.id)
            self._sites[site.id] = site

    def add_first_site(self, site: Site) -> bool:
        """See `SiteStore`."""
        with self._lock:
            if self._sites:
                return False
            self._sites[site.id] = site
            return True

    def get_site(self, site_id: str) -> Site | None:
        """See `SiteStore`."""
        return self._sites.get(site_id)

    def site_by_write_key(self, write_key: str) -> Site | None:
        """See `SiteStore`."""
        with self._lock:
            return next((site for site in self._sites.values() if site.write_key == write_key), None)

    def list_sites(self, limit: int = MAX_SITES_PAGE, after: str | None = None) -> Sequence[Site]:
        """See `SiteStore`."""
        with self._lock:
            ids = sorted(site_id for site_id in self._sites if after is None or site_id > after)
            return [self._sites[site_id] for site_id in ids[:limit]]

    def change_site(
        self,
        site_id: str,
        *,
        name: str | None = None,
        domains: tuple[str, ...] | None = None,
        rule: VisitRule | None = None,
    ) -> Site:
        """See `SiteStore`."""
        with self._lock:
            site = self._site(site_id)
            return self._put(
                replace(
                    site,
                    name=site.name if name is None else name,
                    domains=site.domains if domains is None else domains,
                    rule=rule or site.rule,
                )
            )

    def rotate_write_key(self, site_id: str, write_key: str) -> Site:
        """See `SiteStore`."""
        with self._lock:
            return self._put(replace(self._site(site_id), write_key=write_key))

    def delete_site(self, site_id: str) -> None:
        """See `SiteStore`."""
        with self._lock:
            if self._sites.pop(site_id, None) is None:
                raise no_site()

    def _site(self, site_id: str) -> Site:
        site = self._sites.get(site_id)
        if site is None:
            raise no_site()
        return site

    def _put(self, site: Site) -> Site:
        self._sites[site.id] = site
        return site
