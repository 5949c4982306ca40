"""Sites in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from lastseen.stores.site_rows import domains_to_text, no_site, rule_to_text, site_exists, site_of
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.times import TEXT
from lastseen.stores.text import can_be_stored
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site
from lastseen.visits.site_store import MAX_SITES_PAGE

SITE = "id, name, domains, rule, write_key, import_secret, created_at"

ADD = """
INSERT INTO lastseen_sites (id, name, domains, rule, write_key, import_secret, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""

HAS_ANY = "SELECT EXISTS (SELECT 1 FROM lastseen_sites)"

GET = f"SELECT {SITE} FROM lastseen_sites WHERE id = ?"  # noqa: S608 - constants

BY_WRITE_KEY = f"SELECT {SITE} FROM lastseen_sites WHERE write_key = ?"  # noqa: S608 - constants

LIST = f"SELECT {SITE} FROM lastseen_sites WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2"  # noqa: S608 - constants

CHANGE = f"""
UPDATE lastseen_sites SET name = coalesce(?2, name), domains = coalesce(?3, domains), rule = coalesce(?4, rule)
WHERE id = ?1 RETURNING {SITE}
"""  # noqa: S608 - constants

ROTATE = f"UPDATE lastseen_sites SET write_key = ?2 WHERE id = ?1 RETURNING {SITE}"  # noqa: S608 - constants

DELETE = "DELETE FROM lastseen_sites WHERE id = ?"


class SQLiteSites:
    """Implements `SiteStore`. Commits are there after a power cut."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_site(self, site: Site) -> None:
        """See `SiteStore`."""
        with self._database.write() as connection:
            if not _add(connection, site):
                raise site_exists(site.id)

    def add_first_site(self, site: Site) -> bool:
        """See `SiteStore`."""
        with self._database.write() as connection:
            return not connection.execute(HAS_ANY).fetchone()[0] and _add(connection, site)

    def get_site(self, site_id: str) -> Site | None:
        """See `SiteStore`."""
        return self._find(GET, site_id)

    def site_by_write_key(self, write_key: str) -> Site | None:
        """See `SiteStore`."""
        return self._find(BY_WRITE_KEY, write_key)

    def list_sites(self, limit: int = MAX_SITES_PAGE, after: str | None = None) -> Sequence[Site]:
        """See `SiteStore`."""
        with self._database.read() as connection:
            return [site_of(row, TEXT.decode) for row in connection.execute(LIST, (after, limit)).fetchall()]

    def change_site(
        self,
        site_id: str,
        *,
        name: str | None = None,
        domains: tuple[str, ...] | None = None,
        rule: VisitRule | None = None,
    ) -> Site:
        """See `SiteStore`."""
        return self._change(
            CHANGE,
            site_id,
            name,
            None if domains is None else domains_to_text(domains),
            None if rule is None else rule_to_text(rule),
        )

    def rotate_write_key(self, site_id: str, write_key: str) -> Site:
        """See `SiteStore`."""
        return self._change(ROTATE, site_id, write_key)

    def delete_site(self, site_id: str) -> None:
        """See `SiteStore`."""
        if not can_be_stored(site_id):
            raise no_site()
        with self._database.write() as connection:
            if connection.execute(DELETE, (site_id,)).rowcount != 1:
                raise no_site()

    def _find(self, statement: str, key: str) -> Site | None:
        if not can_be_stored(key):
            return None
        with self._database.read() as connection:
            row = connection.execute(statement, (key,)).fetchone()
        return None if row is None else site_of(row, TEXT.decode)

    def _change(self, statement: str, site_id: str, *values: Any) -> Site:
        if not can_be_stored(site_id):
            raise no_site()
        with self._database.write() as connection:
            rows = connection.execute(statement, (site_id, *values)).fetchall()
        if not rows:
            raise no_site()
        return site_of(rows[0], TEXT.decode)


def _add(connection: sqlite3.Connection, site: Site) -> bool:
    values = (
        site.id,
        site.name,
        domains_to_text(site.domains),
        rule_to_text(site.rule),
        site.write_key,
        site.import_secret,
        TEXT.encode(site.created_at),
    )
    return connection.execute(ADD, values).rowcount == 1
