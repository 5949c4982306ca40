"""Web addresses: what of them is kept, whose they are, and what campaign they name. Pure but for the suffix list.

An address is cut before anything keeps it: user names, passwords and fragments go, and of the query only what is on a
list stays, because searches, tokens and mail addresses end up in queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

import msgspec

from lastseen.errors import missing_extra
from lastseen.visits.utm import UtmParams

CLICK_IDS = ("gclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id")
"""What Google, Facebook, Microsoft, TikTok, X and LinkedIn add to the links of an advertisement."""

CAMPAIGN_PARAMETERS = frozenset(
    {f"utm_{name}" for name in UtmParams.__struct_fields__}
    # The other parameters of https://support.google.com/analytics/answer/10917952.
    | {"utm_id", "utm_source_platform", "utm_creative_format", "utm_marketing_tactic"}
)
KEPT_PARAMETERS = CAMPAIGN_PARAMETERS | frozenset(CLICK_IDS)
"""The parameters of a query that are kept; a site can name more."""

MAX_ADDRESS_LENGTH = 2_000
"""Longer addresses are cut."""
MAX_CLICK_ID_LENGTH = 500
_MOST_FIELDS = 1_000
"""A query of more is none."""
_CACHED = 1 << 14
_LONGEST_REMEMBERED = 2_000
"""Characters of an address; a cache of longer ones would have no bound in bytes."""
_LONGEST_HOST = 253  # RFC 1035, 2.3.4
_READ = CAMPAIGN_PARAMETERS | frozenset(CLICK_IDS)
_IS_PLAIN_FIELD = re.compile("[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~-]*", re.ASCII).fullmatch
_PLAIN_ADDRESS = re.compile(
    r"(https?://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::[1-9][0-9]{0,3})?(/[!-\"$->@-~]*)?|/(?!/)[!-\"$->@-~]*)"
    r"(?:\?([!-\"$-~]*))?(?:#[!-~]*)?",
    re.ASCII,
).fullmatch
"""Nearly every address there is. `urlsplit` finds the same parts in them, and takes six times as long."""
_NO_CLICK_IDS: Mapping[str, str] = MappingProxyType({})


class PageAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address as it is kept, and what it says."""

    url: str
    host: str | None = None
    """In lower case, without port; None for a mere path."""
    utm: UtmParams | None = None
    click_ids: Mapping[str, str] = _NO_CLICK_IDS


def read_page(text: str, kept: frozenset[str] = KEPT_PARAMETERS) -> PageAddress | None:
    """Return a page's address as it is kept, or None for a text that is no address of a page.

    A mere path (`/a?b=c`) is an address too: access logs have no more.
    """
    return _read_known_page(text, kept) if len(text) <= _LONGEST_REMEMBERED else _read_page(text, kept)


def _read_page(text: str, kept: frozenset[str]) -> PageAddress | None:
    parts = _take_apart(text)
    if parts is None:
        return None
    address, host, query = parts
    if not query:
        return PageAddress(url=address[:MAX_ADDRESS_LENGTH], host=host)
    fields = _fields(query, kept)
    cut = "&".join([written for name, _, written in fields if name in kept])
    return PageAddress(
        url=(f"{address}?{cut}" if cut else address)[:MAX_ADDRESS_LENGTH],
        host=host,
        utm=UtmParams.from_query({name: value for name, value, _ in reversed(fields)}),
        click_ids={name: value[:MAX_CLICK_ID_LENGTH] for name, value, _ in fields if name in CLICK_IDS and value}
        or _NO_CLICK_IDS,
    )


_read_known_page = lru_cache(maxsize=_CACHED)(_read_page)


def read_referrer(text: str) -> tuple[str, str | None] | None:
    """Return a referrer without its query, and whose it is: a registrable domain, or what stands for one.

    None for a text that is no address of another place, such as `-`, `about:blank` and `$direct`.
    """
    return _read_known_referrer(text) if len(text) <= _LONGEST_REMEMBERED else _read_referrer(text)


def _read_referrer(text: str) -> tuple[str, str | None] | None:
    parts = _take_apart(text)
    if parts is None:
        return None
    address, host, _ = parts
    if host is None:
        return None
    whose = host if address.startswith("android-app:") else registrable_domain(host)
    return address[:MAX_ADDRESS_LENGTH], whose


_read_known_referrer = lru_cache(maxsize=_CACHED)(_read_referrer)


def _take_apart(text: str) -> tuple[str, str | None, str] | None:
    """Return an address without query and fragment, its host and its query; None for what is no address of a page."""
    if plain := _PLAIN_ADDRESS(text):
        address, host, path, query = plain.groups()
        return (address if path or host is None else f"{address}/"), host, query or ""
    parts = _split(text)
    if parts is None:
        return None
    host = (parts.hostname or "").rstrip(".") or None
    return _joined(parts, host), host, parts.query


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme in ("http", "https", "android-app") and parts.netloc:
        return parts
    is_path = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    return parts if is_path else None


def _joined(parts: SplitResult, host: str | None) -> str:
    path = (
        parts.path
        if parts.path.isascii() and parts.path.isprintable()
        else quote(parts.path, safe="/%:@!$&'()*+,;=~", errors="replace")
    )
    if host is None:
        return path
    name = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{name}{port}{path or '/'}"


def _fields(query: str, kept: frozenset[str]) -> list[tuple[str, str, str]]:
    """Return name, value and both as they are written of those fields of a query that are kept or mean something.

    They are what `parse_qsl` reads and `urlencode` writes; those two take all fields, and several times as long.
    """
    if query.count("&") >= _MOST_FIELDS:
        return []
    fields = []
    for field in query.split("&"):
        name, equals, value = field.partition("=")
        if "%" in name or "+" in name:
            name = _unquoted(name)
        if name in kept or name in _READ:
            if equals and _IS_PLAIN_FIELD(field):
                fields.append((name, value, field))
            else:
                value = _unquoted(value)
                fields.append((name, value, urlencode({name: value}, errors="replace")))
    return fields


def _unquoted(text: str) -> str:
    return unquote(text.replace("+", " "), errors="replace")


def registrable_domain(host: str) -> str:
    """Return the part of a host name that somebody registered: `example.co.uk` of `www.example.co.uk`.

    By the public suffix list (https://publicsuffix.org/list/), private part included: every `name.github.io` is
    somebody else's. What has no such part, an IP address, `localhost` or a suffix itself, is returned whole. Raises
    `MissingExtra` when the list is not installed.
    """
    return _known_domain(host) if len(host) <= _LONGEST_HOST else _registrable_domain(host)


def _registrable_domain(host: str) -> str:
    host = host.lower().rstrip(".")
    if _is_ip_address(host):
        return host
    return _private_suffix()(host) or host


_known_domain = lru_cache(maxsize=_CACHED)(_registrable_domain)


@cache
def _private_suffix() -> Callable[[str], str | None]:
    try:
        # Reading the list takes 70 ms.
        from publicsuffixlist import PublicSuffixList
    except ImportError as error:
        raise missing_extra(
            error, "domains need the public suffix list: pip install 'lastseen[server]'", "publicsuffixlist"
        ) from error
    found: Callable[[str], str | None] = PublicSuffixList().privatesuffix
    return found


def _is_ip_address(host: str) -> bool:
    if not (host[-1:].isdigit() or ":" in host):
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
