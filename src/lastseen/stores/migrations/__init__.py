"""Schema changes: SQL files that only go forward, one folder a database, applied in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

VERSION_TABLE = "lastseen_migrations"


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One file; its name is what the version table remembers."""

    name: str
    sql: str


def load_migrations(database: str) -> list[Migration]:
    """Return the migrations for `sqlite` or `postgres`, in order."""
    folder = resources.files(__name__) / database
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(name=file.name.removesuffix(".sql"), sql=file.read_text("utf-8")) for file in files]
