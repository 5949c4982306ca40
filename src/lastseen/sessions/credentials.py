"""Where a request carries its session's token, and how a response hands one out. Pure.

A session is read, written and cleared by the source of its own kind only, so that the token of an `Authorization`
header never lands in a cookie. A token in the address is never looked at: addresses are logged and shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol, runtime_checkable

from lastseen.errors import ConfigurationError
from lastseen.sessions.cookie import Cookie, CredentialConflict, Header, RequestHead
from lastseen.sessions.policy import SessionPolicy
from lastseen.sessions.session import IssuedSession


@runtime_checkable
class CredentialSource(Protocol):
    """One way to carry a token. Nothing here blocks, and no input makes `read` raise but `CredentialConflict`."""

    @property
    def name(self) -> str:
        """The kind of credential; a session made for it keeps the name for good."""

    @property
    def policy(self) -> SessionPolicy | None:
        """The deadlines of its sessions; None for the manager's own."""

    @property
    def is_ambient(self) -> bool:
        """Whether browsers send it by themselves: then requests from other sites must be refused."""

    @property
    def vary(self) -> str:
        """The request header that answers vary by."""

    @property
    def challenge(self) -> str | None:
        """What a 401 says in `WWW-Authenticate` (RFC 9110, 11.6.1), or None."""

    @property
    def can_write(self) -> bool:
        """Whether a response can hand out a token; otherwise the application puts it into its own answer."""

    @property
    def persistent(self) -> bool:
        """Whether the client is told when the token expires, and so must be told again when that moves."""

    def read(self, request: RequestHead) -> str | None:
        """Return the token as it was sent, whatever it looks like, or None; `CredentialConflict` for two."""

    def write(self, issued: IssuedSession, request: RequestHead, now: datetime) -> tuple[Header, ...]:
        """Return the headers that hand the token to the client; none when it cannot write."""

    def clear(self, request: RequestHead) -> tuple[Header, ...]:
        """Return the headers that make the client forget the token; none when it cannot write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CookieSource:
    """A cookie, by default `__Host-id` with Secure, HttpOnly, SameSite=Lax, Path=/ and no Domain; see `Cookie`.

    It goes when the browser is closed, or with `persistent` when the session's idle deadline has passed, at most 400
    days; then it is written again whenever that deadline moves.
    """

    name: str = "cookie"
    cookie: Cookie = field(default_factory=lambda: Cookie(name="id"))
    persistent: bool = False
    policy: SessionPolicy | None = None
    is_ambient: ClassVar[bool] = True
    vary: ClassVar[str] = "Cookie"
    challenge: ClassVar[str | None] = None
    can_write: ClassVar[bool] = True

    def read(self, request: RequestHead) -> str | None:
        """See `CredentialSource`."""
        return self.cookie.read(request)

    def write(self, issued: IssuedSession, request: RequestHead, now: datetime) -> tuple[Header, ...]:
        """See `CredentialSource`."""
        life = issued.session.idle_deadline - now if self.persistent else None
        return (self.cookie.write(issued.token, request, life),)

    def clear(self, request: RequestHead) -> tuple[Header, ...]:
        """See `CredentialSource`."""
        return (self.cookie.delete(request),)


@dataclass(frozen=True, kw_only=True, slots=True)
class BearerSource:
    """`Authorization: Bearer …` (RFC 6750, 2.1). The application itself hands out the token, in the answer's body."""

    name: str = "bearer"
    policy: SessionPolicy | None = None
    is_ambient: ClassVar[bool] = False
    vary: ClassVar[str] = "Authorization"
    challenge: ClassVar[str | None] = "Bearer"
    can_write: ClassVar[bool] = False
    persistent: ClassVar[bool] = False

    def read(self, request: RequestHead) -> str | None:
        """See `CredentialSource`; other schemes are somebody else's."""
        scheme, _, token = request.headers.get("authorization", "").strip(" \t").partition(" ")
        return token.strip(" \t") or None if scheme.lower() == "bearer" else None

    def write(self, issued: IssuedSession, request: RequestHead, now: datetime) -> tuple[Header, ...]:  # noqa: ARG002 - a protocol
        """Return nothing: the client is told in the answer's body."""
        return ()

    def clear(self, request: RequestHead) -> tuple[Header, ...]:  # noqa: ARG002 - a protocol
        """Return nothing: only the client can forget it."""
        return ()


class CompositeSource:
    """Several sources, in order; a request may use one of them at a time."""

    is_ambient = True
    challenge = None
    policy = None
    persistent = False

    def __init__(self, *sources: CredentialSource) -> None:
        self.sources = sources
        names = [source.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError("a composite needs sources, each with a name of its own")
        self.name = "+".join(names)
        self.vary = ", ".join(dict.fromkeys(source.vary for source in sources))
        self.can_write = any(source.can_write for source in sources)

    def read(self, request: RequestHead) -> str | None:
        """Return the token that was sent; `CredentialConflict` when two sources carry different ones."""
        tokens = {token for source in self.sources if (token := source.read(request)) is not None}
        if len(tokens) > 1:
            raise CredentialConflict("the request has two different credentials")
        return tokens.pop() if tokens else None

    def write(self, issued: IssuedSession, request: RequestHead, now: datetime) -> tuple[Header, ...]:
        """Write through the source of the session's own kind."""
        kind = issued.session.credential_kind
        return tuple(
            header for source in self.sources if source.name == kind for header in source.write(issued, request, now)
        )

    def clear(self, request: RequestHead) -> tuple[Header, ...]:
        """Clear through the sources that carry something."""
        return tuple(
            header for source in self.sources if source.read(request) is not None for header in source.clear(request)
        )


def sources_of(credentials: CredentialSource) -> tuple[CredentialSource, ...]:
    """Return the sources of a composite, or the one that was given."""
    return credentials.sources if isinstance(credentials, CompositeSource) else (credentials,)


def policies_of(credentials: CredentialSource) -> Mapping[str, SessionPolicy]:
    """Return the deadlines by kind, for the manager: `SessionManager(store, policies=policies_of(credentials))`."""
    return {source.name: source.policy for source in sources_of(credentials) if source.policy is not None}
