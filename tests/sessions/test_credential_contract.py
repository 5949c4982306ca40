"""The sources of this product keep the public contract, and so does one of an application's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lastseen.sessions.cookie import Cookie, CredentialConflict, RequestHead
from lastseen.sessions.credentials import BearerSource, CookieSource, CredentialSource
from lastseen.testing import CredentialSourceContract


class TestCookieSource(CredentialSourceContract):
    """A cookie."""

    @pytest.fixture(params=[Cookie(name="id"), Cookie(name="id", domain="example.com")], ids=["host", "domain"])
    def source(self, request: pytest.FixtureRequest) -> CredentialSource:
        return CookieSource(cookie=request.param, persistent=True)

    def request_with(self, source: CredentialSource, *tokens: str) -> RequestHead:
        assert isinstance(source, CookieSource)
        pairs = [f"{source.cookie.prefixed_name}={token}" for token in tokens]
        return RequestHead(headers={"cookie": "; ".join(pairs)} if pairs else {})


class TestBearerSource(CredentialSourceContract):
    """A header."""

    @pytest.fixture
    def source(self) -> CredentialSource:
        return BearerSource()

    def request_with(self, source: CredentialSource, *tokens: str) -> RequestHead:
        headers = [f"Bearer {token}" for token in tokens]
        return RequestHead(headers={"authorization": ", ".join(headers)} if headers else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedySource(BearerSource):
    """Takes whatever it finds, also in the address."""

    def read(self, request: RequestHead) -> str | None:
        found = request.headers.get("authorization", "").partition(", ")[0].removeprefix("Bearer ")
        return found or request.target.rpartition("=")[2] or None


def test_the_contract_notices_a_greedy_source() -> None:
    """The negative control: one that takes the first of two, and a token in the address."""
    contract, greedy = TestBearerSource(), GreedySource()
    contract.test_a_token_is_read_to_the_letter(BearerSource())
    with pytest.raises(AssertionError):
        contract.test_two_tokens_are_never_one(greedy)
    with pytest.raises(AssertionError):
        contract.test_the_address_is_not_looked_at(greedy)


def test_a_conflict_says_nothing_of_the_tokens() -> None:
    """It is logged."""
    with pytest.raises(CredentialConflict) as conflict:
        CookieSource().read(RequestHead(headers={"cookie": "__Host-id=secret; __Host-id=other"}))
    assert "secret" not in str(conflict.value)
