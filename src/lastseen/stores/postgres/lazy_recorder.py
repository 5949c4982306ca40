"""A recorder for a table of ours that may be migrated after the store is opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.postgres.recorder import PostgresTableRecorder
from lastseen.stores.table import ActivityTable


class LazyTableRecorder:
    """An `ActivityRecorder` whose table is looked up with the first batch."""

    def __init__(self, database: PostgresDatabase, table: ActivityTable) -> None:
        self._database = database
        self._table = table
        self._recorder: PostgresTableRecorder | None = None

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        if not updates:
            return 0
        if self._recorder is None:
            self._recorder = PostgresTableRecorder(self._database, self._table)
        return self._recorder.batch_record_activity(updates)
