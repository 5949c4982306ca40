"""Who was active, when, in which session, and what did they do? For any Python web application."""

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
