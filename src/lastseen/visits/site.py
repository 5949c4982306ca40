"""A site: the namespace of events and visits, with the rule that they are folded by. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime

from lastseen.errors import ConfigurationError, LastSeenError
from lastseen.visits.domains import domain_name
from lastseen.visits.rule import VisitRule

DEFAULT_SITE_ID = "default"
MAX_NAME_LENGTH = 100
MAX_DOMAINS = 100

# A label of the domain name system (RFC 1035, 2.3.1; digits first by RFC 1123, 2.1): short, and fit for an address.
_ID_SHAPE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII).fullmatch


class SiteError(LastSeenError):
    """A site cannot be made or changed; the message says why."""


class SiteNotFound(SiteError):
    """There is no such site."""


class SiteExists(SiteError):
    """Another site has this id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One site. Raises `ConfigurationError` for an id, a name or a domain that cannot be."""

    id: str
    """Lower-case letters, digits and hyphens; it never changes."""
    name: str
    domains: tuple[str, ...] = ()
    """Domains of the site's own pages, such as `example.org`: a referrer from there changes nothing."""
    write_key: str
    """Public: it stands in every page that sends events, says which site they belong to, and reads nothing."""
    import_secret: bytes = field(repr=False)
    """Keys the visitors of imported lines, for good, so that importing again finds the same ones. It is never shown."""
    rule: VisitRule
    """Its `own_domains` are always the site's domains."""
    created_at: datetime

    def __post_init__(self) -> None:
        if _ID_SHAPE(self.id) is None:
            raise ConfigurationError(
                f"a site id is 1 to 63 lower-case letters, digits and inner hyphens, not {self.id[:100]!r}"
            )
        if not self.name.strip() or len(self.name) > MAX_NAME_LENGTH or not self.name.isprintable():
            raise ConfigurationError(f"a site's name is 1 to {MAX_NAME_LENGTH} characters that can be shown")
        object.__setattr__(self, "domains", checked_domains(self.domains))
        object.__setattr__(self, "rule", replace(self.rule, own_domains=frozenset(self.domains)))


def checked_domains(domains: tuple[str, ...]) -> tuple[str, ...]:
    """Return the domains as `domain_name` has them, each once, in their order; raises `ConfigurationError`."""
    found = tuple(dict.fromkeys(map(domain_name, domains)))
    if len(found) > MAX_DOMAINS:
        raise ConfigurationError(f"a site has at most {MAX_DOMAINS} domains")
    return found


def is_site_id(text: str) -> bool:
    """Return whether the text has the shape of a site's id; what has not names no site."""
    return _ID_SHAPE(text) is not None
