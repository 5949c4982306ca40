"""Joins a store, the trackers and the features; opening and closing live here only."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lastseen.activity.clients import ClientActivity
from lastseen.activity.flush import FlushResult
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import StatusRule
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import FlushError
from lastseen.stores import DEFAULT_DEADLINE, DEFAULT_POOL_SIZE, Store, open_store
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import DEFAULT_SITE_ID
from lastseen.visits.sites import Sites

if TYPE_CHECKING:
    from lastseen.devices.manager import ApiKeys, Devices
    from lastseen.reports.asking import Reports
    from lastseen.reports.copy import ReportCopy
    from lastseen.visits.manager import VisitManager


class LastSeen:
    """One database and what is tracked in it; a context manager that saves everything at its end.

    Devices and API keys are tracked like the clients, with the same settings; nothing is spent on them before they are
    asked for.
    """

    def __init__(
        self,
        store: Store,
        clients: ClientActivity,
        *,
        visit_rule: VisitRule | None = None,
        key_cache: timedelta = timedelta(0),
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        data_folder: Path | None = None,
    ) -> None:
        self.store = store
        self.clients = clients
        self._key_cache = key_cache
        self._clock = clock
        self._logger = logger
        self._on_flush_error = on_flush_error
        self._devices: list[Devices] = []
        self._keys: list[ApiKeys] = []
        self._reports: list[Reports] = []
        self._data_folder = data_folder
        self.sites = Sites(store.sites, default_rule=visit_rule, clock=clock)

    @classmethod
    def open(
        cls,
        source: Any = "sqlite:///lastseen.db",
        *,
        migrate: bool = False,
        tracking: TrackerSettings | None = None,
        status_rule: StatusRule | None = None,
        visit_rule: VisitRule | None = None,
        pool_size: int = DEFAULT_POOL_SIZE,
        deadline: timedelta = DEFAULT_DEADLINE,
        key_cache: timedelta = timedelta(0),
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        on_flush_error: Callable[[FlushError], object] | None = None,
        on_flush: Callable[[FlushResult], object] | None = None,
        data_folder: Path | None = None,
    ) -> LastSeen:
        """Open the database that `source` names; see `lastseen.stores.open_store`.

        `migrate=True` creates or updates the tables first. Without it, tables that are missing raise `SchemaError`
        with the command that creates them; a database that cannot be reached raises `StoreUnavailable`. `visit_rule` is
        the rule of new sites: of the first one, `default`, which `migrate=True` makes when there is none, too.
        `key_cache` is how long an API key that was verified is remembered, at most 5 s. `on_flush_error` hears of
        clients, devices and keys, `on_flush` of clients. `data_folder` is where the copy is that reports read; without
        one it is in memory, and made again by the first report.
        """
        store = open_store(source, pool_size=pool_size, deadline=deadline)
        try:
            if migrate:
                store.migrate()
                Sites(store.sites, default_rule=visit_rule, clock=clock).ensure_first()
            store.clients.check_schema()
        except BaseException:
            store.close()
            raise
        clients = ClientActivity(
            store.clients,
            tracking,
            status_rule=status_rule,
            clock=clock,
            logger=logger,
            on_flush_error=on_flush_error,
            on_flush=on_flush,
        )
        return cls(
            store,
            clients,
            visit_rule=visit_rule,
            key_cache=key_cache,
            clock=clock,
            logger=logger,
            on_flush_error=on_flush_error,
            data_folder=data_folder,
        )

    @property
    def visits(self) -> VisitManager:
        """The visits of the first site, `default`; `of_site` leads to those of others."""
        from lastseen.visits.manager import VisitManager

        return VisitManager(self.store.visits, self.sites, clock=self._clock)

    @property
    def reports(self) -> Reports:
        """What can be asked about visits and events; nothing is opened before the first question."""
        if not self._reports:
            self._reports.append(self.open_reports())
        return self._reports[0]

    def open_reports(self, *, or_a_temporary_copy: bool = False) -> Reports:
        """Return reports of their own, to be closed by the caller; for a command beside a running server.

        `or_a_temporary_copy`: where the data folder has no copy to open, copy everything for this one time.
        """
        from lastseen.reports.asking import Reports

        def open_copy() -> ReportCopy:
            from lastseen.stores.columnar.opening import open_copy

            # A database that was made anew at the same address has another first site.
            first = self.store.sites.get_site(DEFAULT_SITE_ID)
            truth = "" if first is None else first.created_at.isoformat()
            return open_copy(self._data_folder, self.store.address, truth, or_a_temporary_one=or_a_temporary_copy)

        return Reports(self.store.visits, open_copy, clock=self._clock, logger=self._logger)

    @property
    def keys(self) -> ApiKeys:
        """The API keys; made when they are first asked for."""
        if not self._keys:
            from lastseen.devices.manager import ApiKeys

            # Two threads may both come here; the first one in the list is everybody's, and no other was handed out.
            self._keys.append(
                ApiKeys(
                    self.store.devices,
                    tracking=self.clients.tracker.settings,
                    cache=self._key_cache,
                    clock=self._clock,
                    logger=self._logger,
                    on_flush_error=self._on_flush_error,
                )
            )
        return self._keys[0]

    @property
    def devices(self) -> Devices:
        """The devices and their groups; made when they are first asked for."""
        if not self._devices:
            from lastseen.devices.manager import Devices

            self._devices.append(
                Devices(
                    self.store.devices,
                    tracking=self.clients.tracker.settings,
                    status_rule=self.clients.status_rule,
                    keys=self.keys,
                    clock=self._clock,
                    logger=self._logger,
                    on_flush_error=self._on_flush_error,
                )
            )
        return self._devices[0]

    def stop_recording(self) -> None:
        """Record nothing more, and begin to save what waits; `close` waits for that. Reports stop following, too."""
        # All of them before any is waited for: while the database does not answer, each takes its whole deadline.
        trackers = [self.clients.tracker]
        trackers += [devices.tracker for devices in self._devices] + [keys.tracker for keys in self._keys]
        for tracker in trackers:
            tracker.stop_recording()
        for reports in self._reports:
            reports.end()

    def close(self) -> int:
        """Save what waits, then close what was opened; returns how many things could not be saved. Safe twice."""
        self.stop_recording()
        unsaved = self.clients.close()
        for reports in self._reports:
            reports.close()
        unsaved += sum(devices.close() for devices in self._devices) + sum(keys.close() for keys in self._keys)
        self.store.close()
        # Of an application that let this close at its end, and did so before.
        atexit.unregister(self.close)
        return unsaved

    def __enter__(self) -> LastSeen:
        """Return this."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
