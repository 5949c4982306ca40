"""A short memory of sessions that were read: off unless asked for, five seconds at the most."""

from __future__ import annotations

from datetime import timedelta

from lastseen.errors import ConfigurationError
from lastseen.sessions.session import Session

LONGEST = timedelta(seconds=5)
MOST_ENTRIES = 10_000


class SessionCache:
    """Remembers sessions by digest for a span; another process's revocation is noticed that much later.

    Deadlines are in the session and are checked on every hit. Safe to use from several threads: each step is one
    operation on a dictionary. `now` is monotonic seconds.
    """

    def __init__(self, span: timedelta) -> None:
        if not timedelta(0) <= span <= LONGEST:
            raise ConfigurationError("the session cache may last from zero (off) to 5 seconds")
        self._span = span.total_seconds()
        self.is_on = self._span > 0
        """Whether anything is remembered."""
        self._entries: dict[bytes, tuple[float, Session]] = {}

    def get(self, digest: bytes, now: float) -> Session | None:
        """Return what was remembered and is fresh."""
        entry = self._entries.get(digest)
        return entry[1] if entry is not None and now - entry[0] < self._span else None

    def put(self, digest: bytes, session: Session, now: float) -> None:
        """Remember a session that was just read."""
        if not self.is_on:
            return
        if len(self._entries) >= MOST_ENTRIES:
            self._entries.clear()
        self._entries[digest] = (now, session)

    def forget_user(self, user_id: str) -> None:
        """Forget every session of a user, at once, in this process."""
        for digest, (_, session) in list(self._entries.items()):
            if session.user_id == user_id:
                self._entries.pop(digest, None)

    def forget(self, digest: bytes) -> None:
        """Forget one session."""
        self._entries.pop(digest, None)
