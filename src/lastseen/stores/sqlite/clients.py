"""Clients in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from lastseen.activity.store import Client, ClientFilter, ClientOrder, ClientQuery
from lastseen.errors import SchemaError
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.recorder import SQLiteTableRecorder
from lastseen.stores.sqlite.times import TEXT, TimeFormat
from lastseen.stores.table import ActivityTable, WriteMode
from lastseen.stores.text import can_be_stored

CLIENT_ACTIVITY = ActivityTable(
    table="client_activity",
    key_column="client_id",
    time_column="last_seen",
    created_column="created_at",
    mode=WriteMode.UPSERT,
)

RECORD_HOUR = "INSERT OR IGNORE INTO client_active_hours (client_id, hour) VALUES (?, ?)"

GET = "SELECT client_id, last_seen, created_at FROM client_activity WHERE client_id = ?"

LIST_NEWEST = """
SELECT client_id, last_seen, created_at FROM client_activity
WHERE (:after IS NULL OR last_seen > :after) AND (:until IS NULL OR last_seen <= :until)
  AND (:search = '' OR instr(lower(client_id), lower(:search)) > 0)
  AND (:from_id IS NULL OR last_seen < :from_at OR (last_seen = :from_at AND client_id > :from_id))
ORDER BY last_seen DESC, client_id LIMIT :limit
"""

LIST_OLDEST = """
SELECT client_id, last_seen, created_at FROM client_activity
WHERE (:after IS NULL OR last_seen > :after) AND (:until IS NULL OR last_seen <= :until)
  AND (:search = '' OR instr(lower(client_id), lower(:search)) > 0)
  AND (:from_id IS NULL OR last_seen > :from_at OR (last_seen = :from_at AND client_id > :from_id))
ORDER BY last_seen, client_id LIMIT :limit
"""

LIST_BY_ID = """
SELECT client_id, last_seen, created_at FROM client_activity
WHERE (:after IS NULL OR last_seen > :after) AND (:until IS NULL OR last_seen <= :until)
  AND (:search = '' OR instr(lower(client_id), lower(:search)) > 0)
  AND (:from_id IS NULL OR client_id > :from_id)
ORDER BY client_id LIMIT :limit
"""

LIST = {ClientOrder.NEWEST: LIST_NEWEST, ClientOrder.OLDEST: LIST_OLDEST, ClientOrder.CLIENT_ID: LIST_BY_ID}

COUNT = """
SELECT count(*) FROM client_activity
WHERE (:after IS NULL OR last_seen > :after) AND (:until IS NULL OR last_seen <= :until)
  AND (:search = '' OR instr(lower(client_id), lower(:search)) > 0)
"""

ACTIVE_HOURS = """
SELECT client_id, hour FROM client_active_hours
WHERE hour >= ? AND client_id IN (SELECT value FROM json_each(?)) ORDER BY client_id, hour
"""

ACTIVE_BY_HOUR = "SELECT hour, count(*) FROM client_active_hours WHERE hour >= ? GROUP BY hour ORDER BY hour"

REMOVE = "DELETE FROM client_activity WHERE client_id = ?"

REMOVE_HOURS = "DELETE FROM client_active_hours WHERE client_id = ?"

TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"


class SQLiteClients:
    """Implements `ClientStore`; adopts an existing `client_activity` whatever type its time columns have."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._adopted: SQLiteTableRecorder | None = None

    @property
    def _recorder(self) -> SQLiteTableRecorder:
        # Made on first use: the table may be migrated after the store is opened.
        if self._adopted is None:
            self.check_schema()
            self._adopted = SQLiteTableRecorder(self._database, CLIENT_ACTIVITY)
        return self._adopted

    @property
    def _times(self) -> TimeFormat:
        return self._recorder.time_format

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        return self._recorder.batch_record_activity(updates) if updates else 0

    def batch_record_hours(self, hours: Mapping[str, Collection[datetime]]) -> int:
        """See `ClientStore`."""
        rows = [(client_id, TEXT.encode(hour)) for client_id, active in hours.items() for hour in active]
        if not rows:
            return 0
        with self._database.write() as connection:
            return connection.executemany(RECORD_HOUR, rows).rowcount

    def get_client(self, client_id: str) -> Client | None:
        """See `ClientStore`."""
        with self._database.read() as connection:
            row = connection.execute(GET, (client_id,)).fetchone() if can_be_stored(client_id) else None
        return None if row is None else self._client(row)

    def list_clients(self, query: ClientQuery) -> list[Client]:
        """See `ClientStore`."""
        from_at, from_id = (None, None) if query.after is None else query.after
        if not can_be_stored(query.where.search) or not can_be_stored(from_id or ""):
            return []
        parameters = {
            **self._parameters(query.where),
            "from_at": self._encoded(from_at),
            "from_id": from_id,
            "limit": query.limit,
        }
        with self._database.read() as connection:
            rows = connection.execute(LIST[query.order], parameters).fetchall()
        return [self._client(row) for row in rows]

    def count_clients(self, where: Sequence[ClientFilter]) -> list[int]:
        """See `ClientStore`."""
        parameters = [self._parameters(one) for one in where]
        with self._database.read() as connection:
            # One transaction, so that all counts are of one moment.
            connection.execute("BEGIN")
            try:
                return [_count(connection, one) for one in parameters]
            finally:
                connection.execute("ROLLBACK")

    def active_hours(self, client_ids: Collection[str], since: datetime) -> dict[str, list[datetime]]:
        """See `ClientStore`."""
        found: dict[str, list[datetime]] = {}
        with self._database.read() as connection:
            parameters = (
                TEXT.encode(since),
                msgspec.json.encode([one for one in client_ids if can_be_stored(one)]).decode(),
            )
            for client_id, hour in connection.execute(ACTIVE_HOURS, parameters):
                found.setdefault(client_id, []).append(TEXT.decode(hour))
        return found

    def active_clients_by_hour(self, since: datetime) -> dict[datetime, int]:
        """See `ClientStore`."""
        with self._database.read() as connection:
            rows = connection.execute(ACTIVE_BY_HOUR, (TEXT.encode(since),)).fetchall()
        return {TEXT.decode(hour): count for hour, count in rows}

    def check_schema(self) -> None:
        """See `ClientStore`."""
        with self._database.read() as connection:
            present = {name for (name,) in connection.execute(TABLES)}
        missing = sorted({"client_activity", "client_active_hours"} - present)
        if missing:
            raise SchemaError(
                f"table {' and '.join(missing)} missing in {self._database.address}; {self._database.advice}"
            )

    def remove_clients(self, client_ids: Collection[str]) -> int:
        """See `ClientRemoval`."""
        rows = [(client_id,) for client_id in client_ids]
        with self._database.write() as connection:
            connection.executemany(REMOVE_HOURS, rows)
            return connection.executemany(REMOVE, rows).rowcount

    def _parameters(self, where: ClientFilter) -> dict[str, str | int | float | None]:
        return {
            "after": self._encoded(where.seen_after),
            "until": self._encoded(where.seen_until),
            "search": where.search,
        }

    def _encoded(self, moment: datetime | None) -> str | int | float | None:
        return None if moment is None else self._times.encode(moment)

    def _client(self, row: tuple[str, str | int | float, str | int | float]) -> Client:
        client_id, last_seen, created_at = row
        decode = self._times.decode
        return Client(client_id=client_id, last_seen_at=decode(last_seen), created_at=decode(created_at))


def _count(connection: sqlite3.Connection, parameters: dict[str, str | int | float | None]) -> int:
    if not can_be_stored(str(parameters["search"])):
        return 0
    return int(connection.execute(COUNT, parameters).fetchone()[0])
