"""Whose request it is behind proxies."""

from __future__ import annotations

import pytest

from lastseen.errors import ConfigurationError
from lastseen.visits.proxies import TrustedProxies, forwarded_for

OURS = ("127.0.0.1", "10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("networks", "address", "forwarded", "visitor"),
    [
        ((), "127.0.0.1", b"198.51.100.4", "127.0.0.1"),
        (OURS, "127.0.0.1", None, "127.0.0.1"),
        (OURS, "127.0.0.1", b"198.51.100.4", "198.51.100.4"),
        (OURS, "203.0.113.9", b"198.51.100.4", "203.0.113.9"),
        (OURS, "127.0.0.1", b"6.6.6.6, 198.51.100.4", "198.51.100.4"),
        (OURS, "127.0.0.1", b"198.51.100.4, 10.1.2.3", "198.51.100.4"),
        (OURS, "127.0.0.1", b"10.1.2.3, 10.1.2.4", "10.1.2.3"),
        (OURS, "127.0.0.1", b"198.51.100.4:5123", "198.51.100.4"),
        (OURS, "::1", b"[2001:db8::7]:443", "2001:db8::7"),
        (OURS, "127.0.0.1", b"2001:DB8::7", "2001:db8::7"),
        (OURS, "127.0.0.1", b"unknown", "127.0.0.1"),
        (OURS, "127.0.0.1", b"198.51.100.4, <script>", "127.0.0.1"),
        (OURS, "127.0.0.1", b"\xff,,", "127.0.0.1"),
        (OURS, None, b"198.51.100.4", None),
        (OURS, "::ffff:10.1.2.3", b"198.51.100.4", "198.51.100.4"),
        (OURS, "::ffff:11.1.2.3", b"198.51.100.4", "::ffff:11.1.2.3"),
    ],
)
def test_the_visitors_address(
    networks: tuple[str, ...], address: str | None, forwarded: bytes | None, visitor: str | None
) -> None:
    """The last address that no trusted proxy has; what a client makes up in front of it does not count."""
    assert TrustedProxies(networks).visitor(address, forwarded) == visitor


def test_a_network_that_is_none_is_told() -> None:
    """With the name of the setting."""
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies(["the proxy"])


@pytest.mark.parametrize(
    ("values", "together"),
    [([], None), ([b"a"], b"a"), ([b"a, b", b"c"], b"a, b,c")],
)
def test_several_fields_are_one_list(values: list[bytes], together: bytes | None) -> None:
    """In their order; some proxies add a field of their own behind the one that is there."""
    fields = [(b"host", b"x"), *((b"x-forwarded-for", value) for value in values), (b"x-forwarded-host", b"y")]
    assert forwarded_for(fields) == together
