"""Opening a database for an application that must start and answer whatever becomes of its tracking."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

from lastseen.activity.clients import ClientActivity
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.status import StatusRule
from lastseen.app import LastSeen
from lastseen.errors import StoreError
from lastseen.settings import load_settings
from lastseen.stores import DEFAULT_POOL_SIZE, open_store
from lastseen.visits.rule import VisitRule
from lastseen.visits.sites import Sites

_logger = logging.getLogger("lastseen")


def open_from_env(*, migrate: bool = False) -> LastSeen:
    """Open what the environment (`LASTSEEN_…`) and `lastseen.toml` name; see `open_for_application`."""
    settings = load_settings({}, os.environ)
    return open_for_application(
        settings.database_url,
        migrate=migrate,
        tracking=settings.tracking(),
        status_rule=settings.status_rule(),
        visit_rule=settings.visit_rule(),
        pool_size=settings.pool_size,
    )


def open_for_application(
    source: Any,
    *,
    migrate: bool = False,
    tracking: TrackerSettings | None = None,
    status_rule: StatusRule | None = None,
    visit_rule: VisitRule | None = None,
    pool_size: int = DEFAULT_POOL_SIZE,
) -> LastSeen:
    """Open a database as `LastSeen.open` does, except that one which is missing or unreachable is logged, not raised.

    The tracker then keeps what it hears in memory, within its bounds, and writes it when the database is there. Closed
    at the end of the process. Wrong settings still raise `ConfigurationError`.
    """
    store = open_store(source, pool_size=pool_size)
    try:
        if migrate:
            store.migrate()
            Sites(store.sites, default_rule=visit_rule).ensure_first()
        store.clients.check_schema()
    except StoreError as error:
        _logger.error("activity waits in memory until the database is ready error=%s", error)  # noqa: TRY400 - no news
    seen = LastSeen(store, ClientActivity(store.clients, tracking, status_rule=status_rule), visit_rule=visit_rule)
    atexit.register(seen.close)
    return seen
