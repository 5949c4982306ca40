"""What the applications under test share with the tests: a store, a clock, events, and a door that can be held shut."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

from lastseen.errors import SessionNotFound, StoreUnavailable
from lastseen.sessions.credentials import BearerSource, CompositeSource, CookieSource, CredentialSource, policies_of
from lastseen.sessions.events import SessionEvent
from lastseen.sessions.manager import SessionManager
from lastseen.sessions.policy import NATIVE_APP
from lastseen.sessions.session import IssuedSession, Session
from lastseen.stores.memory import MemorySessions
from lastseen.testing import ManualClock
from lastseen.web.sessions import WebSessions

ORIGIN = "https://app.example"
HELD_FOR = 30.0
RECENT = timedelta(minutes=5)


class BreakableSessions(MemorySessions):
    """The memory store, reading from a database that can be switched off; counts the reads."""

    broken = False
    reads = 0

    def find_session(self, digest: bytes) -> Session | None:
        self.reads += 1
        if self.broken:
            raise StoreUnavailable("the database is away")
        return super().find_session(digest)


class Door:
    """Holds a request inside the application until the test lets it go."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.opened = threading.Event()

    def pass_through(self) -> None:
        self.inside.set()
        assert self.opened.wait(HELD_FOR)


class World:
    """One test's surroundings; `options` are those of `WebSessions`."""

    def __init__(
        self, *, credentials: CredentialSource | None = None, manager_options: Any = None, **options: Any
    ) -> None:
        self.clock = ManualClock()
        self.store = BreakableSessions()
        self.events: list[SessionEvent] = []
        self.door = Door()
        self.handed: list[IssuedSession] = []
        credentials = credentials or CompositeSource(CookieSource(), BearerSource(policy=NATIVE_APP))
        self.manager = SessionManager(
            self.store,
            policies=policies_of(credentials),
            clock=self.clock,
            on_event=self.events.append,
            logger=logging.getLogger("lastseen"),
            **(manager_options or {}),
        )
        self.sessions = WebSessions(self.manager, credentials=credentials, origin=ORIGIN, **options)

    def user(self, name: str) -> str:
        """Return the id of the user of this name."""
        return self.store.upsert_user(name, self.clock.utc())

    def name_of(self, session: Session) -> str:
        """Return the name of the user of a session."""
        user = self.store.get_user(session.user_id)
        assert user is not None
        return user.provider_id

    def kinds(self) -> list[str]:
        """Return what happened, in order."""
        return [event.kind for event in self.events]

    def shown(self, session: Session | None) -> dict[str, Any]:
        """Return who it is, for a page."""
        return {"user": None if session is None else self.name_of(session)}

    def handed_out(self, issued: IssuedSession, to: str = "/") -> dict[str, Any]:
        """Return the answer to a login; the token only where no cookie carries it."""
        self.handed.append(issued)
        token = issued.token if issued.session.credential_kind == "bearer" else None
        return {"session": issued.session.id, "token": token, "to": to}

    def devices(self, session: Session) -> list[dict[str, Any]]:
        """Return the page "my active devices"."""
        return [
            {"id": each.id, "device": each.device, "address": each.address, "current": each.id == session.id}
            for each in self.manager.sessions_of(session.user_id)
        ]

    def revoke(self, session: Session, session_id: str) -> int:
        """End one of the user's sessions; the status to answer."""
        try:
            self.manager.revoke(session.user_id, session_id)
        except SessionNotFound:
            return 404
        return 204
