"""Whose request it is when a proxy passes it on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from lastseen.errors import ConfigurationError

_REMEMBERED = 10_000


class TrustedProxies:
    """The networks whose `X-Forwarded-For` is believed; raises `ConfigurationError` for what is no network.

    Every proxy appends the address that it saw, so the list is read from its end: the first address that is no trusted
    proxy is the visitor's, whatever a client wrote in front of it.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        try:
            self._networks = tuple(ip_network(network, strict=False) for network in networks)
        except ValueError as error:
            raise ConfigurationError(f"trusted_proxies: {error}; write 127.0.0.1 or 10.0.0.0/8") from error
        self._is_trusted = lru_cache(maxsize=_REMEMBERED)(self._is_in_a_network)

    def visitor(self, address: str | None, forwarded_for: bytes | None) -> str | None:
        """Return the visitor's address, given who connected and what it says about whom it speaks for."""
        if not self._networks or forwarded_for is None or address is None or not self._is_trusted(address):
            return address
        for entry in reversed(forwarded_for.decode("latin-1").split(",")):
            named = _address(entry)
            if named is None:
                break
            address = named
            if not self._is_trusted(named):
                break
        return address

    def _is_in_a_network(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        # A server that listens on all addresses of IPv6 sees those of IPv4 in its form (RFC 4291, 2.5.5.2).
        mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
        return any(parsed in network or (mapped is not None and mapped in network) for network in self._networks)


def forwarded_for(fields: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return what the `X-Forwarded-For` of a request say together, given its fields with their names in lower case.

    Some proxies append to the one that is there, others add one of their own (RFC 9110, 5.3: both mean the same).
    """
    found = [value for name, value in fields if name == b"x-forwarded-for"]
    return b",".join(found) if found else None


def _address(entry: str) -> str | None:
    """Return the address of one entry, which some proxies write with a port."""
    text = entry.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
