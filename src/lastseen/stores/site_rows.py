"""What the stores on a database decide alike about sites. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site, SiteExists, SiteNotFound

_decode_rule = msgspec.json.Decoder(VisitRule).decode
_decode_domains = msgspec.json.Decoder(tuple[str, ...]).decode


def rule_to_text(rule: VisitRule) -> str:
    """Return the rule as JSON: spans as ISO 8601. A setting that a later version adds has its default in older rows."""
    return msgspec.json.encode(rule, order="deterministic").decode()


def domains_to_text(domains: tuple[str, ...]) -> str:
    """Return the domains as a JSON array."""
    return msgspec.json.encode(domains).decode()


def site_of(row: Sequence[Any], moment: Callable[[Any], datetime]) -> Site:
    """Return the site of a row: id, name, domains and rule as JSON text, write key, import secret, created."""
    return Site(
        id=row[0],
        name=row[1],
        domains=_decode_domains(row[2]),
        rule=_decode_rule(row[3]),
        write_key=row[4],
        import_secret=bytes(row[5]),
        created_at=moment(row[6]),
    )


def no_site() -> SiteNotFound:
    """Return the error for a site that is not there."""
    return SiteNotFound("there is no such site")


def site_exists(site_id: str) -> SiteExists:
    """Return the error for an id that another site has."""
    return SiteExists(f"there is a site {site_id} already")
