"""Opening the database that the settings name, for commands that work without a server."""

from __future__ import annotations

import logging
from pathlib import Path

from lastseen.app import LastSeen
from lastseen.errors import ConfigurationError, SchemaError, StoreUnavailable
from lastseen.settings import Settings
from lastseen.stores import scheme_of, sqlite_path

_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def configure_logging(settings: Settings) -> None:
    """Log to standard error; a connection pool's own complaints only for debugging, our errors say the same."""
    logging.basicConfig(level=settings.log_level.upper(), format=_LOG_FORMAT)
    if settings.log_level != "debug":
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def open_for_reading(settings: Settings) -> LastSeen:
    """Open a database that exists; raises `SchemaError` for an SQLite file that does not, and creates nothing."""
    configure_logging(settings)
    refuse_memory(settings)
    require_file(settings)
    return LastSeen.open(
        settings.database_url,
        tracking=settings.tracking(),
        status_rule=settings.status_rule(),
        visit_rule=settings.visit_rule(),
        pool_size=1,
        data_folder=settings.data_folder,
    )


def require_file(settings: Settings) -> None:
    """Raise `SchemaError` when the settings name an SQLite file that is not there: opening would create it."""
    if scheme_of(settings.database_url) == "sqlite":
        path = Path(sqlite_path(settings.database_url))
        try:
            is_there = path.is_file()
        except PermissionError as error:
            raise StoreUnavailable(f"this user may not look into the folder of {path}") from error
        if not is_there:
            raise SchemaError(f"there is no database {path} yet; lastseen serve, import and migrate create it")


def refuse_memory(settings: Settings) -> None:
    """Raise `ConfigurationError` for a database that is gone when the command ends."""
    if scheme_of(settings.database_url) == "memory":
        raise ConfigurationError("memory: is gone when the command ends; name sqlite:///path or postgresql://…")
