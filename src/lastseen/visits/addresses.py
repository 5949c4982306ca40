"""Web addresses: what of them is kept, whose they are, and what campaign they name. Pure but for the suffix list.

An address is cut before anything keeps it: user names, passwords and fragments go, and of the query only what is on a
list stays, because searches, tokens and mail addresses end up in queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import msgspec

from lastseen.errors import MissingExtra
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
_CACHED = 1 << 14
_NO_CLICK_IDS: Mapping[str, str] = MappingProxyType({})


class PageAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address as it is kept, and what it says."""

    url: str
    host: str | None = None
    """In lower case, without port; None for a mere path."""
    utm: UtmParams | None = None
    click_ids: Mapping[str, str] = _NO_CLICK_IDS


@lru_cache(maxsize=_CACHED)
def read_page(text: str, kept: frozenset[str] = KEPT_PARAMETERS) -> PageAddress | None:
    """Return a page's address as it is kept, or None for a text that is no address of a page.

    A mere path (`/a?b=c`) is an address too: access logs have no more.
    """
    parts = _split(text)
    if parts is None:
        return None
    host = _host(parts)
    if not parts.query:
        return PageAddress(url=_joined(parts, host, ""), host=host)
    query = _query(parts.query)
    return PageAddress(
        url=_joined(parts, host, _cut(query, kept)),
        host=host,
        utm=UtmParams.from_query(dict(reversed(query))),
        click_ids={name: value[:MAX_CLICK_ID_LENGTH] for name, value in query if name in CLICK_IDS and value}
        or _NO_CLICK_IDS,
    )


@lru_cache(maxsize=_CACHED)
def read_referrer(text: str) -> tuple[str, str | None] | None:
    """Return a referrer without its query, and whose it is: a registrable domain, or what stands for one.

    None for a text that is no address of another place, such as `-`, `about:blank` and `$direct`.
    """
    parts = _split(text)
    if parts is None:
        return None
    host = _host(parts)
    if host is None:
        return None
    whose = host if parts.scheme == "android-app" else registrable_domain(host)
    return _joined(parts, host, ""), whose


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


def _host(parts: SplitResult) -> str | None:
    return (parts.hostname or "").rstrip(".") or None


def _query(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=1_000)
    except ValueError:
        return []


def _cut(query: list[tuple[str, str]], kept: frozenset[str]) -> str:
    return urlencode([(name, value) for name, value in query if name in kept], errors="replace")


def _joined(parts: SplitResult, host: str | None, query: str) -> str:
    path = (
        parts.path
        if parts.path.isascii() and parts.path.isprintable()
        else quote(parts.path, safe="/%:@!$&'()*+,;=~", errors="replace")
    )
    if host is not None:
        name = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port is not None else ""
        path = f"{parts.scheme}://{name}{port}{path or '/'}"
    return (f"{path}?{query}" if query else path)[:MAX_ADDRESS_LENGTH]


@lru_cache(maxsize=_CACHED)
def registrable_domain(host: str) -> str:
    """Return the part of a host name that somebody registered: `example.co.uk` of `www.example.co.uk`.

    By the public suffix list (https://publicsuffix.org/list/), private part included: every `name.github.io` is
    somebody else's. What has no such part, an IP address, `localhost` or a suffix itself, is returned whole. Raises
    `MissingExtra` when the list is not installed.
    """
    host = host.lower().rstrip(".")
    if _is_ip_address(host):
        return host
    return _private_suffix()(host) or host


@cache
def _private_suffix() -> Callable[[str], str | None]:
    try:
        # Reading the list takes 70 ms.
        from publicsuffixlist import PublicSuffixList
    except ImportError as error:
        raise MissingExtra("domains need the public suffix list: pip install 'lastseen[server]'") from error
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
