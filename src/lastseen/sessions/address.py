"""A client's address, made coarse enough to be kept."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

IPV4_PREFIX = 24
IPV6_PREFIX = 48


def anonymized(address: str) -> str:
    """Return the network of the address (/24 of IPv4, /48 of IPv6), or nothing when it is no address."""
    try:
        parsed = ip_address(address.strip().partition("%")[0])
    except ValueError:
        return ""
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    prefix = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX  # noqa: PLR2004 - IPv4
    return str(ip_network((parsed, prefix), strict=False).network_address)
