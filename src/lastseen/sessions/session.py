"""A login session and when it is valid. Pure: every moment is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Validity(StrEnum):
    """Why a session that was found may or may not be used."""

    VALID = "valid"
    IDLE_EXPIRED = "idle expired"
    ABSOLUTE_EXPIRED = "absolute expired"


_VALID = Validity.VALID


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A login, from start to end. Moments are aware and UTC; neither token nor digest is in here."""

    id: str
    """Public and stable: safe to show, to log and to put into an address. Rotation keeps it."""
    user_id: str
    idle_deadline: datetime
    """The absolute deadline when there is no idle timeout."""
    absolute_deadline: datetime
    created_at: datetime
    authenticated_at: datetime
    """When the user last proved who they are; activity never moves it."""
    last_activity_at: datetime
    """Set when created, extended, or recorded; never goes back."""
    credential_kind: str = "cookie"
    """The name of the credential source that the session was made for; its policy is the session's, for good."""
    device: str = ""
    """What a list shows of the browser or application."""
    address: str = ""
    """Of the client, anonymized unless the application decides otherwise."""
    label: str = ""

    def validity(self, now: datetime) -> Validity:
        """Return whether the session may be used at this moment; at a deadline itself it has expired."""
        if now >= self.absolute_deadline:
            return Validity.ABSOLUTE_EXPIRED
        if now >= self.idle_deadline:
            return Validity.IDLE_EXPIRED
        return _VALID

    def is_valid(self, now: datetime) -> bool:
        """Return whether both deadlines lie ahead."""
        return now < self.idle_deadline and now < self.absolute_deadline

    def is_recent(self, now: datetime, max_age: timedelta) -> bool:
        """Return whether the user proved who they are within the span ("sudo mode")."""
        return now - self.authenticated_at < max_age


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedSession:
    """A session together with its token, on the one occasion on which the token is known."""

    session: Session
    token: str

    def __repr__(self) -> str:
        """Leave the token out: it must not reach a log."""
        return f"IssuedSession(session={self.session!r}, token=…)"
