"""The rules of deadlines. Pure: every moment is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lastseen.errors import ConfigurationError
from lastseen.sessions.session import Session

ZERO = timedelta(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionPolicy:
    """How long sessions last; `ConfigurationError` for spans that are zero, negative, or contradict each other."""

    idle_timeout: timedelta | None = timedelta(hours=1)
    """A session without activity for this long has expired; None is no idle timeout."""

    absolute_timeout: timedelta = timedelta(hours=24)
    """After this long a session has expired whatever happened; only signing in again helps."""

    refresh_threshold: timedelta | None = timedelta(minutes=10)
    """The idle deadline is extended when it is nearer than this; None is never, zero is on every request."""

    def __post_init__(self) -> None:
        if self.absolute_timeout <= ZERO:
            raise ConfigurationError("absolute_timeout must be longer than zero")
        if self.idle_timeout is not None and not ZERO < self.idle_timeout <= self.absolute_timeout:
            raise ConfigurationError(
                "idle_timeout must be longer than zero and not longer than absolute_timeout; None for no idle timeout"
            )
        if self.refresh_threshold is not None and self.refresh_threshold < ZERO:
            raise ConfigurationError("refresh_threshold must not be negative; None for never, zero for every request")
        if self.idle_timeout is not None and (self.refresh_threshold or ZERO) > self.idle_timeout:
            raise ConfigurationError(
                "refresh_threshold must not be longer than idle_timeout: use zero for every request"
            )

    def deadlines(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the idle and the absolute deadline of a session that begins now."""
        absolute = now + self.absolute_timeout
        return self._idle_deadline(now, absolute), absolute

    def refreshed_deadline(self, session: Session, now: datetime) -> datetime | None:
        """Return the new idle deadline when it is time to extend the session, or None when it is not.

        Capped at the absolute deadline; never earlier than the one it has. Nothing happens to an expired session.
        """
        if self.idle_timeout is None or self.refresh_threshold is None or not session.is_valid(now):
            return None
        if self.refresh_threshold and session.idle_deadline - now >= self.refresh_threshold:
            return None
        extended = self._idle_deadline(now, session.absolute_deadline)
        return extended if extended > session.idle_deadline else None

    def _idle_deadline(self, now: datetime, absolute: datetime) -> datetime:
        return absolute if self.idle_timeout is None else min(now + self.idle_timeout, absolute)

    def describe(self) -> dict[str, float | None]:
        """Return the spans in seconds: what documentation of a deployment must name (ASVS 5.0, 7.1.1)."""
        return {
            "idle_timeout": None if self.idle_timeout is None else self.idle_timeout.total_seconds(),
            "absolute_timeout": self.absolute_timeout.total_seconds(),
            "refresh_threshold": None if self.refresh_threshold is None else self.refresh_threshold.total_seconds(),
        }


BROWSER = SessionPolicy(
    idle_timeout=timedelta(minutes=30), absolute_timeout=timedelta(hours=24), refresh_threshold=timedelta(minutes=10)
)
"""For people at a browser: half an hour of silence, a day at the most (NIST SP 800-63B-4, AAL2, asks for no more)."""

NATIVE_APP = SessionPolicy(idle_timeout=None, absolute_timeout=timedelta(days=30), refresh_threshold=None)
"""For an application on the user's own device: thirty days, without an idle timeout and without refreshing."""
