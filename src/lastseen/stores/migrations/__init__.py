"""Schema changes: SQL files that only go forward, one folder a database, applied in the order of their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources

from lastseen.errors import SchemaError

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


def pending_of(database: str, applied: Collection[str]) -> list[Migration]:
    """Return those that a database to which these were applied still needs, in order."""
    return [migration for migration in load_migrations(database) if migration.name not in applied]


def newer_of(database: str, applied: Collection[str]) -> list[str]:
    """Return the names of those that were applied by a version that has more of them than this one."""
    return sorted(set(applied) - {migration.name for migration in load_migrations(database)})


def refuse_newer(database: str, applied: Collection[str], address: str) -> None:
    """Raise `SchemaError` for a database of a newer version: what this one wrote there could be wrong."""
    if newer := newer_of(database, applied):
        raise SchemaError(
            f"{address} belongs to a newer version of lastseen ({', '.join(newer)}); upgrade lastseen, or restore the "
            "database as it was before"
        )
