"""Where the server's own users are signed in."""

from __future__ import annotations

from lastseen.client.call import Call
from lastseen.wire.sessions import SessionList

PATH = "/api/v1/sessions"


def list(*, user_id: str | None = None) -> Call[SessionList]:  # noqa: A001 - read as sessions.list
    """Ask for everybody's valid sessions, or those of one user."""
    return Call(operation="ListSessions", method="GET", template=PATH, answer=SessionList, query={"user_id": user_id})


def revoke(session_id: str) -> Call[None]:
    """Sign out one device."""
    return Call(
        operation="RevokeSession",
        method="DELETE",
        template=f"{PATH}/{{session_id}}",
        answer=type(None),
        path={"session_id": session_id},
    )
