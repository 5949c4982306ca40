"""The link with which the first administrator is made: known to whoever sees the console of the server."""

from __future__ import annotations

import hmac
from datetime import timedelta

from lastseen.sessions.token import digest_of, is_token, new_token

LIFE = timedelta(hours=1)


class SetUpLink:
    """One token, of which only the digest stays, in this process alone: a restart makes another one.

    Moments are monotonic seconds. Any thread may ask.
    """

    def __init__(self) -> None:
        self._digest: bytes | None = None
        self._until = 0.0

    def make(self, now: float) -> str:
        """Return a new token, which ends the one before."""
        token = new_token()
        self._digest, self._until = digest_of(token), now + LIFE.total_seconds()
        return token

    def is_valid(self, token: str, now: float) -> bool:
        """Return whether this is the token, not used and not too old."""
        digest = self._digest
        return (
            digest is not None
            and now < self._until
            and is_token(token)
            and hmac.compare_digest(digest_of(token), digest)
        )

    def end(self) -> None:
        """Let it work no more."""
        self._digest = None
