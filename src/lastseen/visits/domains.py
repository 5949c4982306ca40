"""Names of hosts and domains: a site's own, and those that its visitors only pass through. Pure but for `www.`."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from lastseen.errors import ConfigurationError, MissingExtra

_SHAPE = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII).fullmatch
_BEHIND_HOST = re.compile(r"[/?#]|:[0-9]*(?:[/?#]|$)", re.ASCII)
_DOTS_OF_A_HOST = 2
_WWW = "www."


def domain_name(text: str) -> str:
    """Return the name as referrers have it: in lower case, without `www.`, scheme, port and path, and in ASCII.

    Raises `ConfigurationError` for what is no name.
    """
    before, scheme, behind = text.strip().partition("://")
    name = _BEHIND_HOST.split(behind if scheme else before, maxsplit=1)[0].rstrip(".").lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        name = ""
    if _SHAPE(name) is None:
        raise ConfigurationError(f"a domain is a name such as example.org, not {text[:100]!r}")
    return _without_www(name)


def _without_www(name: str) -> str:
    """Return what is behind `www.`, unless nobody could have registered that, as with `www.gov.uk`."""
    if not name.startswith(_WWW):
        return name
    # Reading addresses loads what `import lastseen` does without.
    from lastseen.visits.addresses import registrable_domain

    try:
        return name if registrable_domain(name) == name else _without_www(name.removeprefix(_WWW))
    except MissingExtra:
        return name


def host_names(names: AbstractSet[str]) -> frozenset[str]:
    """Return the names that may be those of hosts below a registrable domain."""
    return frozenset(name for name in names if name.count(".") >= _DOTS_OF_A_HOST)


def is_below(referrer: str | None, domain: str, hosts: AbstractSet[str]) -> bool:
    """Return whether a referrer, as `read_referrer` gives it with its domain, is of one of the hosts or below it."""
    host = (referrer or "").partition("://")[2].partition("/")[0].partition(":")[0]
    if not host.endswith(f".{domain}"):
        return False
    while host != domain:
        if host in hosts:
            return True
        host = host.partition(".")[2]
    return False
