"""What becomes of what clients send, when it becomes no event. Pure."""

from __future__ import annotations

import msgspec

from lastseen.errors import LastSeenError


class Dropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event that is refused on purpose; it is counted by `cause` and never stored."""

    index: int
    """Its place in the request, from 0."""
    cause: str
    """One of few words, for counting: never something that a client made up."""
    reason: str
    """For whoever sent it."""


class Unacceptable(LastSeenError):
    """A request of which nothing can be taken, whoever repeats it; `status` is HTTP's.

    `members` are for programs, such as `code`, where the status alone does not tell.
    """

    def __init__(self, status: int, detail: str, **members: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members


class Overloaded(LastSeenError):
    """As many events wait as may wait, or there is no room to keep them: try again in `seconds`."""

    def __init__(self, detail: str, seconds: int = 5) -> None:
        super().__init__(detail)
        self.seconds = seconds
