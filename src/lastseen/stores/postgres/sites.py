"""Sites in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lastseen.clock import from_micros
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.site_rows import domains_to_text, no_site, rule_to_text, site_exists, site_of
from lastseen.stores.text import can_be_stored
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site
from lastseen.visits.site_store import MAX_SITES_PAGE

# JSON and moments leave the database as text and microseconds: what a driver makes of them depends on the application's
# settings.
SITE = """
id, name, domains::text, rule::text, write_key, import_secret, (extract(epoch FROM created_at) * 1000000)::bigint
"""

ADD = """
INSERT INTO lastseen_sites (id, name, domains, rule, write_key, import_secret, created_at)
VALUES (%s, %s, %s::jsonb, %s::jsonb, %s, %s, %s) ON CONFLICT (id) DO NOTHING
"""

# Whether a site is the first one is a question about all rows.
LOCK = "LOCK TABLE lastseen_sites IN SHARE ROW EXCLUSIVE MODE"

HAS_ANY = "SELECT EXISTS (SELECT 1 FROM lastseen_sites)"

GET = f"SELECT {SITE} FROM lastseen_sites WHERE id = %(key)s"  # noqa: S608 - constants

BY_WRITE_KEY = f"SELECT {SITE} FROM lastseen_sites WHERE write_key = %(key)s"  # noqa: S608 - constants

LIST = f"""
SELECT {SITE} FROM lastseen_sites WHERE %(after)s::text IS NULL OR id > %(after)s::text COLLATE "C"
ORDER BY id LIMIT %(limit)s
"""  # noqa: S608 - constants

CHANGE = f"""
UPDATE lastseen_sites SET name = coalesce(%(name)s::text, name), domains = coalesce(%(domains)s::jsonb, domains),
    rule = coalesce(%(rule)s::jsonb, rule)
WHERE id = %(id)s RETURNING {SITE}
"""  # noqa: S608 - constants

ROTATE = f"""
UPDATE lastseen_sites SET write_key = %(write_key)s WHERE id = %(id)s RETURNING {SITE}
"""  # noqa: S608 - constants

DELETE = "DELETE FROM lastseen_sites WHERE id = %(id)s"


class PostgresSites:
    """Implements `SiteStore`. Commits wait for the disk as the server is set to."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def add_site(self, site: Site) -> None:
        """See `SiteStore`."""
        with self._database.transaction() as cursor:
            if not _add(cursor, site):
                raise site_exists(site.id)

    def add_first_site(self, site: Site) -> bool:
        """See `SiteStore`."""
        # Nearly always there is one: look before the lock, which keeps every other writer out.
        if self.list_sites(1):
            return False
        with self._database.transaction() as cursor:
            cursor.execute(LOCK)
            cursor.execute(HAS_ANY)
            return not cursor.fetchall()[0][0] and _add(cursor, site)

    def get_site(self, site_id: str) -> Site | None:
        """See `SiteStore`."""
        return self._find(GET, site_id)

    def site_by_write_key(self, write_key: str) -> Site | None:
        """See `SiteStore`."""
        return self._find(BY_WRITE_KEY, write_key)

    def list_sites(self, limit: int = MAX_SITES_PAGE, after: str | None = None) -> Sequence[Site]:
        """See `SiteStore`."""
        with self._database.read() as cursor:
            cursor.execute(LIST, {"after": after, "limit": limit})
            return [site_of(row, from_micros) for row in cursor.fetchall()]

    def change_site(
        self,
        site_id: str,
        *,
        name: str | None = None,
        domains: tuple[str, ...] | None = None,
        rule: VisitRule | None = None,
    ) -> Site:
        """See `SiteStore`."""
        values = {
            "id": site_id,
            "name": name,
            "domains": None if domains is None else domains_to_text(domains),
            "rule": None if rule is None else rule_to_text(rule),
        }
        return self._change(CHANGE, values)

    def rotate_write_key(self, site_id: str, write_key: str) -> Site:
        """See `SiteStore`."""
        return self._change(ROTATE, {"id": site_id, "write_key": write_key})

    def delete_site(self, site_id: str) -> None:
        """See `SiteStore`."""
        if not can_be_stored(site_id):
            raise no_site()
        with self._database.transaction() as cursor:
            cursor.execute(DELETE, {"id": site_id})
            if cursor.rowcount != 1:
                raise no_site()

    def _find(self, statement: str, key: str) -> Site | None:
        if not can_be_stored(key):
            return None
        with self._database.read() as cursor:
            cursor.execute(statement, {"key": key})
            rows = cursor.fetchall()
        return site_of(rows[0], from_micros) if rows else None

    def _change(self, statement: str, values: Mapping[str, Any]) -> Site:
        if not can_be_stored(values["id"]):
            raise no_site()
        with self._database.transaction() as cursor:
            cursor.execute(statement, values)
            rows = cursor.fetchall()
        if not rows:
            raise no_site()
        return site_of(rows[0], from_micros)


def _add(cursor: Cursor, site: Site) -> bool:
    values = (
        site.id,
        site.name,
        domains_to_text(site.domains),
        rule_to_text(site.rule),
        site.write_key,
        site.import_secret,
        site.created_at,
    )
    cursor.execute(ADD, values)
    return cursor.rowcount == 1
