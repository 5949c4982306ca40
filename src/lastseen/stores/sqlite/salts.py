"""Salts in a SQLite file."""

from __future__ import annotations

from datetime import date

from lastseen.stores.sqlite.database import Database

ENSURE = "INSERT INTO lastseen_salts (day, salt) VALUES (?, ?) ON CONFLICT (day) DO NOTHING"

GET = "SELECT salt FROM lastseen_salts WHERE day = ?"

DELETE = "DELETE FROM lastseen_salts WHERE day < ?"


class SQLiteSalts:
    """Implements `SaltStore`. Days are kept as ISO 8601, which sorts as they do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure_salt(self, day: date, fresh: bytes) -> bytes:
        """See `SaltStore`."""
        with self._database.write() as connection:
            connection.execute(ENSURE, (day.isoformat(), fresh))
            row = connection.execute(GET, (day.isoformat(),)).fetchone()
        return bytes(row[0])

    def get_salt(self, day: date) -> bytes | None:
        """See `SaltStore`."""
        with self._database.read() as connection:
            row = connection.execute(GET, (day.isoformat(),)).fetchone()
        return None if row is None else bytes(row[0])

    def delete_salts(self, before: date) -> int:
        """See `SaltStore`."""
        with self._database.write() as connection:
            return connection.execute(DELETE, (before.isoformat(),)).rowcount
