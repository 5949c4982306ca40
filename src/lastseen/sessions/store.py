"""What login sessions need from a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lastseen.errors import ConfigurationError
from lastseen.sessions.session import Session


class WhenFull(StrEnum):
    """What happens to the login of a user who has as many sessions as are allowed."""

    EVICT = "evict"
    """The session that was active least recently ends."""
    REFUSE = "refuse"
    """The login is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLimit:
    """How many valid sessions a user may have at once."""

    most: int
    when_full: WhenFull = WhenFull.EVICT

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigurationError("a user must be allowed at least one session")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionDraft:
    """What a store is asked to make, beside the user and the moments; the digest stands for the token."""

    id: str
    digest: bytes
    authenticated_at: datetime
    credential_kind: str = "cookie"
    device: str = ""
    address: str = ""
    label: str = ""

    def __repr__(self) -> str:
        """Leave the digest out: it must not reach a log."""
        return f"SessionDraft(id={self.id!r}, credential_kind={self.credential_kind!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reauthentication:
    """Proving again who one is resets both deadlines (NIST SP 800-63B-4, 5.2)."""

    idle_deadline: datetime
    absolute_deadline: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CreatedSession:
    """A session that was made, and those that ended for it."""

    session: Session
    ended: tuple[Session, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Who may sign in, as far as sessions need to know."""

    id: str
    provider_id: str
    created_at: datetime


class Sighting(StrEnum):
    """Whether a user has signed in from a device before."""

    KNOWN = "known"
    FIRST = "first"
    """The user's first device ever: no reason to alarm anybody."""
    NEW = "new"


@runtime_checkable
class SessionStore(Protocol):
    """Keeps users and their sessions.

    Every method is one transaction and may be called by any thread. Every write that continues a session is conditional
    on the session being there and valid at the given moment, never an upsert: a logout is final, whatever is in flight.
    Digests go in and never come out. Raises `StoreUnavailable` or `SchemaError` when the database fails.
    """

    def upsert_user(self, provider_id: str, now: datetime) -> str:
        """Return the id of the user whom this identity provider's id names; made when it is new."""

    def get_user(self, user_id: str) -> User | None:
        """Return a user, or None."""

    def list_users(self, limit: int = 100, after: str = "") -> list[User]:
        """Return users by provider id, after the given one."""

    def create_session(
        self,
        user_id: str,
        idle_deadline: datetime,
        absolute_deadline: datetime,
        now: datetime,
        draft: SessionDraft,
        *,
        replaces: bytes | None = None,
        limit: SessionLimit | None = None,
    ) -> CreatedSession:
        """Make a session; `last_activity_at` is now.

        In the same transaction the session with the digest `replaces` ends, whoever's it is, and the limit is enforced,
        also against other logins of the same instant. Raises `UnknownUser`, `TooManySessions`, and `SessionRefused`
        when all sessions of the user were ended at or after the moment of authentication.
        """

    def get_session(self, session_id: str) -> Session | None:
        """Return the session with this public id, valid or expired; None when there is none."""

    def find_session(self, digest: bytes) -> Session | None:
        """Return the session whose token has this digest, valid or expired, or None; one indexed read."""

    def list_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """Return the user's valid sessions, most recently active first."""

    def extend_session(self, session_id: str, new_idle_deadline: datetime, now: datetime) -> Session:
        """Move the idle deadline forward (never back, never beyond the absolute one) and the last activity to now.

        Raises `SessionNotFound` when the session is gone or has expired.
        """

    def rotate_session(
        self,
        session_id: str,
        old_digest: bytes,
        new_digest: bytes,
        now: datetime,
        *,
        reauthentication: Reauthentication | None = None,
    ) -> Session:
        """Give the session a new token; the old one is dead at once.

        Raises `SessionNotFound` as `extend_session` does, and when the old digest is not the session's any more.
        """

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """End a session and return it. Raises `SessionNotFound`; with a user id also when it is somebody else's."""

    def delete_user_sessions(self, user_id: str, now: datetime, *, except_id: str | None = None) -> int:
        """End all sessions of a user, but for one, and return how many; logins of the same instant end too."""

    def remember_device(self, user_id: str, device_key: str, now: datetime) -> Sighting:
        """Note that a user signed in from this device, and say whether it was known; outlives the sessions."""

    def prune_sessions(self, before: datetime, limit: int = 1_000) -> int:
        """Remove at most that many sessions that expired before the moment; return how many."""
