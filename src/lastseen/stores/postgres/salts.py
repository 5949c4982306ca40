"""Salts in PostgreSQL."""

from __future__ import annotations

from datetime import date

from lastseen.stores.postgres.database import PostgresDatabase

# The update changes nothing; it makes the statement return the row of whoever came first.
ENSURE = """
INSERT INTO lastseen_salts AS kept (day, salt) VALUES (%s::date, %s)
ON CONFLICT (day) DO UPDATE SET salt = kept.salt RETURNING salt
"""

GET = "SELECT salt FROM lastseen_salts WHERE day = %s::date"

DELETE = "DELETE FROM lastseen_salts WHERE day < %s::date"


class PostgresSalts:
    """Implements `SaltStore`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def ensure_salt(self, day: date, fresh: bytes) -> bytes:
        """See `SaltStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(ENSURE, (day.isoformat(), fresh))
            return bytes(cursor.fetchall()[0][0])

    def get_salt(self, day: date) -> bytes | None:
        """See `SaltStore`."""
        with self._database.read() as cursor:
            cursor.execute(GET, (day.isoformat(),))
            rows = cursor.fetchall()
        return bytes(rows[0][0]) if rows else None

    def delete_salts(self, before: date) -> int:
        """See `SaltStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(DELETE, (before.isoformat(),))
            return cursor.rowcount
