"""Who was active, when, in which session, and what did they do? For any Python web application."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lastseen.activity.buffer import Outcome
    from lastseen.activity.clients import ClientActivity, ClientCounts, ClientPage
    from lastseen.activity.flush import FlushResult
    from lastseen.activity.health import ActivityHealth, HealthStatus
    from lastseen.activity.recorder import ActivityRecorder
    from lastseen.activity.settings import TrackerSettings
    from lastseen.activity.status import ClientStatus, StatusRule
    from lastseen.activity.store import Client, ClientOrder, ClientStore
    from lastseen.activity.tracker import ActivityTracker
    from lastseen.app import LastSeen
    from lastseen.errors import (
        ConfigurationError,
        FlushError,
        InvalidCursor,
        InvalidData,
        LastSeenError,
        MissingAbility,
        MissingExtra,
        SchemaError,
        StoreError,
        StoreUnavailable,
    )
    from lastseen.stores import table_recorder
    from lastseen.stores.table import ActivityTable, WriteMode

__version__ = "0.1.0"

__all__ = [
    "ActivityHealth",
    "ActivityRecorder",
    "ActivityTable",
    "ActivityTracker",
    "Client",
    "ClientActivity",
    "ClientCounts",
    "ClientOrder",
    "ClientPage",
    "ClientStatus",
    "ClientStore",
    "ConfigurationError",
    "FlushError",
    "FlushResult",
    "HealthStatus",
    "InvalidCursor",
    "InvalidData",
    "LastSeen",
    "LastSeenError",
    "MissingAbility",
    "MissingExtra",
    "Outcome",
    "SchemaError",
    "StatusRule",
    "StoreError",
    "StoreUnavailable",
    "TrackerSettings",
    "WriteMode",
    "table_recorder",
]

# Names are loaded on first use, so that importing the package costs a process next to nothing.
_HOMES = {
    "lastseen.activity.buffer": ("Outcome",),
    "lastseen.activity.clients": (
        "ClientActivity",
        "ClientCounts",
        "ClientPage",
    ),
    "lastseen.activity.flush": ("FlushResult",),
    "lastseen.activity.health": (
        "ActivityHealth",
        "HealthStatus",
    ),
    "lastseen.activity.recorder": ("ActivityRecorder",),
    "lastseen.activity.settings": ("TrackerSettings",),
    "lastseen.activity.status": (
        "ClientStatus",
        "StatusRule",
    ),
    "lastseen.activity.store": (
        "Client",
        "ClientOrder",
        "ClientStore",
    ),
    "lastseen.activity.tracker": ("ActivityTracker",),
    "lastseen.app": ("LastSeen",),
    "lastseen.errors": (
        "ConfigurationError",
        "FlushError",
        "InvalidCursor",
        "InvalidData",
        "LastSeenError",
        "MissingAbility",
        "MissingExtra",
        "SchemaError",
        "StoreError",
        "StoreUnavailable",
    ),
    "lastseen.stores": ("table_recorder",),
    "lastseen.stores.table": (
        "ActivityTable",
        "WriteMode",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name what can be loaded."""
    return sorted([*globals(), *__all__])
