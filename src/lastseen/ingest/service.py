"""The ingest of one server, opened and closed as a whole."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from lastseen.app import LastSeen
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import StoreError
from lastseen.ingest.commit import GroupCommit, OnCommit
from lastseen.ingest.figures import Figures
from lastseen.ingest.known_sites import KnownSites
from lastseen.ingest.spool import Damage, Spool
from lastseen.visits.making import Places
from lastseen.visits.proxies import TrustedProxies

_MICROSECOND = timedelta(microseconds=1)


class Ingest:
    """Sites, group commit and spool of one database.

    `folder` is where the spool is made when it is needed, `spool_limit` its size in bytes at most. Closing saves what
    waits; the store itself is closed by whoever opened it, afterwards.
    """

    def __init__(
        self,
        seen: LastSeen,
        folder: Path,
        spool_limit: int,
        *,
        clock: Clock = SYSTEM_CLOCK,
        geography: Places | None = None,
        kept_parameters: frozenset[str] = frozenset(),
        proxies: TrustedProxies | None = None,
        on_commit: OnCommit | None = None,
    ) -> None:
        self.figures = Figures()
        self.clock = clock
        self.keys = seen.keys
        self.devices = seen.devices
        self.proxies = proxies or TrustedProxies()
        self._visits = seen.store.visits
        self.spool = Spool(folder, spool_limit, on_damage=self._damaged)
        self.sites = KnownSites(
            seen.sites,
            seen.store.salts,
            clock=clock,
            geography=geography,
            kept_parameters=kept_parameters,
            is_open=self._is_visit_open,
        )
        self.commit = GroupCommit(
            self._visits, self.sites.rule, self.spool, self.figures, clock=clock, on_commit=on_commit
        )
        try:
            self.sites.load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Save what waits and end; what is in the spool stays there for the next start. Safe twice."""
        self.commit.close()

    def _is_visit_open(self, site_id: str, visitor_id: str, at: int) -> bool:
        """Return whether the visitor's newest visit goes on at a moment; not known while the store is away is no."""
        if self.commit.is_store_away:
            return False
        try:
            visit = self._visits.get_by_visitor(site_id, visitor_id)
            if visit is None or visit.end is not None:
                return False
            rule = self.sites.rule(site_id)
        except StoreError:
            return False
        return at - visit.last_activity <= rule.timeout // _MICROSECOND

    def _damaged(self, damage: Damage) -> None:
        self.figures.damaged_bytes += damage.lost
