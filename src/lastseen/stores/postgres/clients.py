"""Clients in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lastseen.activity.store import Client, ClientFilter, ClientOrder, ClientQuery
from lastseen.errors import SchemaError
from lastseen.stores.postgres.catalog import Column
from lastseen.stores.postgres.database import PostgresDatabase
from lastseen.stores.postgres.recorder import PostgresTableRecorder
from lastseen.stores.table import ActivityTable, WriteMode
from lastseen.stores.text import can_be_stored

CLIENT_ACTIVITY = ActivityTable(
    table="client_activity",
    key_column="client_id",
    time_column="last_seen",
    created_column="created_at",
    mode=WriteMode.UPSERT,
)

# Sorted for the same reason as activity: two writers must not wait for each other.
RECORD_HOURS = """
INSERT INTO client_active_hours (client_id, hour)
SELECT client_id, hour FROM unnest(%b::text[], %b::timestamptz[]) AS active (client_id, hour)
ORDER BY client_id COLLATE "C", hour
ON CONFLICT DO NOTHING
"""

CLIENTS = """
(SELECT client_id::text AS client_id, {last_seen} AS last_seen, {created_at} AS created_at FROM client_activity) AS c
"""

# Moments leave the database as microseconds: what a driver makes of a timestamp depends on the application's settings.
CLIENT = """
SELECT client_id, (extract(epoch FROM last_seen) * 1000000)::bigint, (extract(epoch FROM created_at) * 1000000)::bigint
"""

# Under the collation "C" lower() folds ASCII letters and no others, in every database alike.
MATCHES = """
({after} IS NULL OR last_seen > {after}) AND ({until} IS NULL OR last_seen <= {until})
AND ({search} = '' OR strpos(lower(client_id COLLATE "C"), lower({search} COLLATE "C")) > 0)
"""

MATCHES_PARAMETERS = MATCHES.format(
    after="%(after)s::timestamptz", until="%(until)s::timestamptz", search="%(search)s::text"
)

GET = CLIENT + "FROM {clients} WHERE client_id = %(client_id)s"

LIST_NEWEST = f"""
{CLIENT} FROM {{clients}} WHERE {MATCHES_PARAMETERS}
AND (%(from_id)s::text IS NULL OR last_seen < %(from_at)s::timestamptz
     OR (last_seen = %(from_at)s::timestamptz AND client_id COLLATE "C" > %(from_id)s::text))
ORDER BY last_seen DESC, client_id COLLATE "C" LIMIT %(limit)s
"""

LIST_OLDEST = f"""
{CLIENT} FROM {{clients}} WHERE {MATCHES_PARAMETERS}
AND (%(from_id)s::text IS NULL OR last_seen > %(from_at)s::timestamptz
     OR (last_seen = %(from_at)s::timestamptz AND client_id COLLATE "C" > %(from_id)s::text))
ORDER BY last_seen, client_id COLLATE "C" LIMIT %(limit)s
"""

LIST_BY_ID = f"""
{CLIENT} FROM {{clients}} WHERE {MATCHES_PARAMETERS}
AND (%(from_id)s::text IS NULL OR client_id COLLATE "C" > %(from_id)s::text)
ORDER BY client_id COLLATE "C" LIMIT %(limit)s
"""

LIST = {ClientOrder.NEWEST: LIST_NEWEST, ClientOrder.OLDEST: LIST_OLDEST, ClientOrder.CLIENT_ID: LIST_BY_ID}

# One statement, so that all counts are of one moment.
COUNT = f"""
SELECT (SELECT count(*) FROM {{clients}} WHERE {MATCHES.format(after="f.after", until="f.until", search="f.search")})
FROM unnest(%(after)s::timestamptz[], %(until)s::timestamptz[], %(search)s::text[])
     WITH ORDINALITY AS f (after, until, search, position)
ORDER BY f.position
"""  # noqa: S608 - constants

ACTIVE_HOURS = """
SELECT client_id, (extract(epoch FROM hour) * 1000000)::bigint FROM client_active_hours
WHERE hour >= %s AND client_id = ANY(%s::text[]) ORDER BY client_id COLLATE "C", hour
"""

ACTIVE_BY_HOUR = """
SELECT (extract(epoch FROM hour) * 1000000)::bigint, count(*) FROM client_active_hours
WHERE hour >= %s GROUP BY hour ORDER BY hour
"""

# Locked in the order in which activity is written: neither then waits for the other in a circle.
REMOVE = """
WITH gone AS MATERIALIZED (
    SELECT client_id FROM client_activity WHERE client_id = ANY(%(client_ids)s::text[])
    ORDER BY client_id COLLATE "C" FOR UPDATE
), hours AS (
    DELETE FROM client_active_hours WHERE client_id = ANY(%(client_ids)s::text[])
)
DELETE FROM client_activity WHERE client_id IN (SELECT client_id FROM gone)
"""

MISSING_TABLES = """
SELECT name FROM unnest(ARRAY['client_active_hours', 'client_activity']) AS needed (name)
WHERE to_regclass(name) IS NULL
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IN_UTC = {"timestamp with time zone": "{}", "timestamp without time zone": "({} AT TIME ZONE 'UTC')"}


class PostgresClients:
    """Implements `ClientStore`; adopts a `client_activity` with times of either type and ids of any length."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._adopted: tuple[PostgresTableRecorder, str] | None = None

    @property
    def _recorder(self) -> PostgresTableRecorder:
        return self._adopt()[0]

    def _adopt(self) -> tuple[PostgresTableRecorder, str]:
        # Made on first use: the table may be migrated after the store is opened.
        if self._adopted is None:
            self.check_schema()
            recorder = PostgresTableRecorder(self._database, CLIENT_ACTIVITY)
            shape = recorder.shape
            created = shape.created or shape.time
            clients = CLIENTS.format(last_seen=_in_utc(shape.time), created_at=_in_utc(created)).strip()
            self._adopted = recorder, clients
        return self._adopted

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`."""
        return self._recorder.batch_record_activity(updates) if updates else 0

    def batch_record_hours(self, hours: Mapping[str, Collection[datetime]]) -> int:
        """See `ClientStore`."""
        rows = [(client_id, hour) for client_id, active in hours.items() for hour in active]
        if not rows:
            return 0
        with self._database.write() as cursor:
            cursor.execute(RECORD_HOURS, ([client_id for client_id, _ in rows], [hour for _, hour in rows]))
        return cursor.rowcount

    def get_client(self, client_id: str) -> Client | None:
        """See `ClientStore`."""
        found = self._ask(GET, {"client_id": client_id}) if can_be_stored(client_id) else []
        return _client(found[0]) if found else None

    def list_clients(self, query: ClientQuery) -> list[Client]:
        """See `ClientStore`."""
        from_at, from_id = (None, None) if query.after is None else query.after
        if not can_be_stored(query.where.search) or not can_be_stored(from_id or ""):
            return []
        parameters = {
            "after": query.where.seen_after,
            "until": query.where.seen_until,
            "search": query.where.search,
            "from_at": from_at,
            "from_id": from_id,
            "limit": query.limit,
        }
        return [_client(row) for row in self._ask(LIST[query.order], parameters)]

    def count_clients(self, where: Sequence[ClientFilter]) -> list[int]:
        """See `ClientStore`."""
        possible = [one for one in where if can_be_stored(one.search)]
        parameters = {
            "after": [one.seen_after for one in possible],
            "until": [one.seen_until for one in possible],
            "search": [one.search for one in possible],
        }
        counts = iter(self._ask(COUNT, parameters)) if possible else iter(())
        return [int(next(counts)[0]) if can_be_stored(one.search) else 0 for one in where]

    def active_hours(self, client_ids: Collection[str], since: datetime) -> dict[str, list[datetime]]:
        """See `ClientStore`."""
        found: dict[str, list[datetime]] = {}
        with self._database.transaction() as cursor:
            cursor.execute(ACTIVE_HOURS, (since, [one for one in client_ids if can_be_stored(one)]))
            for client_id, hour in cursor.fetchall():
                found.setdefault(client_id, []).append(_moment(hour))
        return found

    def active_clients_by_hour(self, since: datetime) -> dict[datetime, int]:
        """See `ClientStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(ACTIVE_BY_HOUR, (since,))
            return {_moment(hour): int(count) for hour, count in cursor.fetchall()}

    def remove_clients(self, client_ids: Collection[str]) -> int:
        """See `ClientRemoval`."""
        possible = [one for one in client_ids if can_be_stored(one)]
        # Not as activity is written: what was removed stays removed, so this commit waits for the disk.
        with self._database.transaction() as cursor:
            cursor.execute(REMOVE, {"client_ids": possible})
            return cursor.rowcount

    def check_schema(self) -> None:
        """See `ClientStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(MISSING_TABLES)
            missing = sorted(name for (name,) in cursor.fetchall())
        if missing:
            raise SchemaError(
                f"table {' and '.join(missing)} missing in {self._database.address}; {self._database.advice}"
            )

    def _ask(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        _, clients = self._adopt()
        with self._database.transaction() as cursor:
            cursor.execute(statement.format(clients=clients), parameters)
            return cursor.fetchall()


def _in_utc(column: Column) -> str:
    return _IN_UTC[column.base_type].format(column.name)


def _client(row: tuple[Any, ...]) -> Client:
    client_id, last_seen, created_at = row
    return Client(client_id=client_id, last_seen_at=_moment(last_seen), created_at=_moment(created_at))


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
