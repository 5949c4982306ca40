"""The contract of `CredentialSource`: what is read, written and cleared, and that no input breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from lastseen.sessions.cookie import CredentialConflict, RequestHead
from lastseen.sessions.credentials import CredentialSource
from lastseen.sessions.session import IssuedSession, Session
from lastseen.testing.factories import moment

TOKEN = "A" * 43
HOSTILE = [
    "",
    " ",
    ";",
    "=",
    "\x00",
    "\r\nSet-Cookie: a=b",
    "\xff" * 50,
    "\u2028",
    "ü" * 5_000,
    "x" * 200_000,
    TOKEN * 50,
]


def issued_session(kind: str, token: str = TOKEN) -> IssuedSession:
    """Return a session of this kind, with a token, that lasts an hour from `moment()` on."""
    session = Session(
        id="public-id",
        user_id="user",
        idle_deadline=moment() + timedelta(hours=1),
        absolute_deadline=moment() + timedelta(hours=1),
        created_at=moment(),
        authenticated_at=moment(),
        last_activity_at=moment(),
        credential_kind=kind,
    )
    return IssuedSession(session=session, token=token)


class CredentialSourceContract:
    """Inherit, override the two methods, and pytest runs what every credential source promises."""

    @pytest.fixture
    def source(self) -> CredentialSource:
        """Return the source."""
        raise NotImplementedError("override the source fixture")

    def request_with(self, source: CredentialSource, *tokens: str) -> RequestHead:
        """Return a request that carries the tokens the way this source reads them; none without tokens."""
        raise NotImplementedError("override request_with")

    def test_it_is_a_credential_source(self, source: CredentialSource) -> None:
        """The protocol is there, with a name for the kind, and the header that answers vary by."""
        assert isinstance(source, CredentialSource)
        assert source.name
        assert source.vary

    def test_a_token_is_read_to_the_letter(self, source: CredentialSource) -> None:
        """And none is None."""
        assert source.read(self.request_with(source, TOKEN)) == TOKEN
        assert source.read(self.request_with(source)) is None

    def test_the_address_is_not_looked_at(self, source: CredentialSource) -> None:
        """Addresses are logged and shared."""
        names = ("token", "access_token", "session", "id", source.name)
        target = "/?" + "&".join(f"{name}={TOKEN}" for name in names)
        assert source.read(RequestHead(host="app.example", target=target)) is None

    def test_no_input_breaks_reading(self, source: CredentialSource) -> None:
        """Text, or nothing, or a conflict; nothing is checked here."""
        names = ("cookie", "authorization", *(name.strip().lower() for name in source.vary.split(",")))
        for value in HOSTILE:
            for request in (RequestHead(headers=dict.fromkeys(names, value)), self.request_with(source, value)):
                try:
                    token = source.read(request)
                except CredentialConflict:
                    continue
                assert token is None or isinstance(token, str)

    def test_two_tokens_are_never_one(self, source: CredentialSource) -> None:
        """Neither of two different ones is taken: a conflict, or what is no token."""
        try:
            token = source.read(self.request_with(source, TOKEN, "B" * 43))
        except CredentialConflict:
            return
        assert token not in {TOKEN, "B" * 43}

    def test_what_is_written_can_be_cleared(self, source: CredentialSource) -> None:
        """A source that can write does both, through headers; one that cannot does neither."""
        request = self.request_with(source, TOKEN)
        written = source.write(issued_session(source.name), request, moment())
        cleared = source.clear(request)
        assert bool(written) == bool(cleared) == source.can_write
        assert any(TOKEN in value for _, value in written) == source.can_write
        assert not any(TOKEN in value for _, value in cleared)

    def test_headers_are_whole(self, source: CredentialSource) -> None:
        """No line breaks, in ASCII."""
        request = self.request_with(source, TOKEN)
        headers: Sequence[tuple[str, str]] = (
            *source.write(issued_session(source.name), request, moment()),
            *source.clear(request),
        )
        for name, value in headers:
            assert (name + value).isascii()
            assert (name + value).isprintable()
