"""A short memory of sessions that were read: off unless asked for, five seconds at the most."""

from __future__ import annotations

import threading
from datetime import timedelta

from lastseen.errors import ConfigurationError
from lastseen.forking import reset_in_forked_children
from lastseen.sessions.session import Session

LONGEST = timedelta(seconds=5)
MOST_ENTRIES = 10_000


class SessionCache:
    """Remembers sessions by digest for a span; another process's revocation is noticed that much later.

    Deadlines are in the session and are checked on every hit. Any thread may use it. `now` is monotonic seconds.
    """

    def __init__(self, span: timedelta) -> None:
        if not timedelta(0) <= span <= LONGEST:
            raise ConfigurationError("the session cache may last from zero (off) to 5 seconds")
        self._span = span.total_seconds()
        self.is_on = self._span > 0
        """Whether anything is remembered."""
        self.reset_after_fork()
        reset_in_forked_children(self)

    def reset_after_fork(self) -> None:
        """Begin with nothing, and with a new lock: another thread of the parent may have held the old one."""
        self.generation = 0
        """Grows with all that is forgotten: what was read before may be of a session that has ended since."""
        self._entries: dict[bytes, tuple[float, Session]] = {}
        self._lock = threading.Lock()

    def get(self, digest: bytes, now: float) -> Session | None:
        """Return what was remembered and is fresh."""
        entry = self._entries.get(digest)
        return entry[1] if entry is not None and now - entry[0] < self._span else None

    def put(self, digest: bytes, session: Session | None, now: float, generation: int) -> None:
        """Remember a session that was read then, unless something was forgotten since; that there is none ends it."""
        if not self.is_on:
            return
        with self._lock:
            if session is None:
                self._entries.pop(digest, None)
                return
            if generation != self.generation:
                return
            if len(self._entries) >= MOST_ENTRIES:
                self._entries.clear()
            self._entries[digest] = (now, session)

    def replace(self, digest: bytes, session: Session) -> None:
        """Take in how a remembered session is now, for as long as it was remembered already.

        Who changed it by its id has not seen whether the digest is still the session's, so the span does not begin
        anew: a token that was rotated away elsewhere would work for as long as it is used.
        """
        with self._lock:
            entry = self._entries.get(digest)
            if entry is not None:
                self._entries[digest] = entry[0], session

    def forget_user(self, user_id: str) -> None:
        """Forget every session of a user, at once, in this process."""
        with self._lock:
            self.generation += 1
            for digest in [digest for digest, (_, session) in self._entries.items() if session.user_id == user_id]:
                del self._entries[digest]

    def forget(self, digest: bytes) -> None:
        """Forget one session."""
        with self._lock:
            self.generation += 1
            self._entries.pop(digest, None)
