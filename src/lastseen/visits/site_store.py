"""What sites need from a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site

MAX_SITES_PAGE = 1_000


@runtime_checkable
class SiteStore(Protocol):
    """Keeps sites.

    Every method is one transaction and may be called by any thread. Text that a database cannot hold names no site.
    Raises `StoreUnavailable` or `SchemaError` when the database fails.
    """

    def add_site(self, site: Site) -> None:
        """Add a site; raises `SiteExists` when one has its id, and then changes nothing."""

    def add_first_site(self, site: Site) -> bool:
        """Add the site unless there is any; of several at once one gets True."""

    def get_site(self, site_id: str) -> Site | None:
        """Return a site, or None."""

    def site_by_write_key(self, write_key: str) -> Site | None:
        """Return the site whose write key this is now, or None."""

    def list_sites(self, limit: int = MAX_SITES_PAGE, after: str | None = None) -> Sequence[Site]:
        """Return at most `limit` sites by id (bytewise), those after the given id."""

    def change_site(
        self,
        site_id: str,
        *,
        name: str | None = None,
        domains: tuple[str, ...] | None = None,
        rule: VisitRule | None = None,
    ) -> Site:
        """Change what is given and return the site as it is now; raises `SiteNotFound`."""

    def rotate_write_key(self, site_id: str, write_key: str) -> Site:
        """Replace the write key, the old one ends at once; return the site. Raises `SiteNotFound`."""

    def delete_site(self, site_id: str) -> None:
        """Remove a site; raises `SiteNotFound`. Its events are not this store's affair."""
