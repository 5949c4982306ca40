"""Tokens: random, of one shape, kept as a digest."""

from __future__ import annotations

import hashlib
import re
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.sessions.address import anonymized
from lastseen.sessions.token import digest_of, is_token, new_session_id, new_token


def test_a_token_is_32_bytes_from_the_systems_random_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is `secrets`, asked for 32 bytes; the public id is another draw."""
    asked: list[int] = []
    real = secrets.token_urlsafe

    def watching(size: int) -> str:
        asked.append(size)
        return real(size)

    monkeypatch.setattr(secrets, "token_urlsafe", watching)
    assert is_token(new_token())
    assert re.fullmatch("[A-Za-z0-9_-]{22}", new_session_id())
    assert asked == [32, 16]


def test_a_hundred_thousand_tokens_are_all_different() -> None:
    """Two logins never share a token."""
    assert len({new_token() for _ in range(100_000)}) == 100_000


@pytest.mark.parametrize(
    "text", ["", "x" * 42, "x" * 44, "x" * 42 + "=", "x" * 42 + "\n", "é" * 43, "x" * 42 + "\0", "x" * 9_000]
)
def test_other_shapes_are_no_tokens(text: str) -> None:
    """They are refused before anything is hashed or looked up."""
    assert not is_token(text)


@given(st.text())
def test_no_text_makes_the_shape_check_fail(text: str) -> None:
    """Whatever a client sends is answered with yes or no."""
    assert is_token(text) in {True, False}


def test_the_digest_is_sha_256() -> None:
    """As any other reader of the table would compute it."""
    one = new_token()
    assert digest_of(one) == hashlib.sha256(one.encode()).digest()


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("fe80::1%eth0", "fe80::"),
        ("unix:", ""),
        ("", ""),
        ("256.1.1.1", ""),
    ],
)
def test_addresses_are_made_coarse(address: str, kept: str) -> None:
    """The last 8 bits of IPv4 and the last 80 of IPv6 are not kept; what is no address is not kept at all."""
    assert anonymized(address) == kept
