"""Which table and columns a recorder writes: the user's own, or one that lastseen made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lastseen.errors import ConfigurationError


class WriteMode(StrEnum):
    """What happens to a key that the table does not have."""

    UPSERT = "upsert"
    """It is inserted."""
    UPDATE_ONLY = "update_only"
    """It is ignored: what was deleted is never resurrected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivityTable:
    """A table with a key column and a time column, for example `users.last_seen_at` by `id`.

    The names are quoted, never interpolated raw, and looked up in the database when a recorder is made.
    """

    table: str
    key_column: str = "id"
    time_column: str = "last_seen_at"
    mode: WriteMode = WriteMode.UPDATE_ONLY
    created_column: str | None = None
    """Upsert only: gets the key's time when its row is inserted, and never changes afterwards."""
    schema: str | None = None
    """PostgreSQL only; None looks the table up by the search path."""

    def __post_init__(self) -> None:
        for name in ("table", "key_column", "time_column", "created_column", "schema"):
            value = getattr(self, name)
            if value is not None and (not value or "\0" in value):
                raise ConfigurationError(f"{name} must be the name of something in the database")
        if self.created_column is not None and self.mode is WriteMode.UPDATE_ONLY:
            raise ConfigurationError("created_column goes with mode=upsert: an update-only recorder inserts nothing")


def quote_identifier(name: str) -> str:
    """Quote the name of a table or column; the rule of standard SQL, which SQLite and PostgreSQL share."""
    return '"' + name.replace('"', '""') + '"'
