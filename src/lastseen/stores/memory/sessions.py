"""Users and login sessions in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from lastseen.errors import SessionNotFound, SessionRefused, TooManySessions, UnknownUser
from lastseen.sessions.session import Session
from lastseen.sessions.store import (
    CreatedSession,
    Reauthentication,
    SessionDraft,
    SessionLimit,
    Sighting,
    User,
    WhenFull,
)
from lastseen.sessions.token import new_session_id

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class MemorySessions:
    """See `SessionStore`; every method holds one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, User] = {}
        self._user_ids: dict[str, str] = {}
        self._ended_all_at: dict[str, datetime] = {}
        self._sessions: dict[str, Session] = {}
        self._ids: dict[bytes, str] = {}
        self._devices: dict[str, set[str]] = {}

    def upsert_user(self, provider_id: str, now: datetime) -> str:
        """See `SessionStore`."""
        with self._lock:
            if provider_id not in self._user_ids:
                user = User(id=new_session_id(), provider_id=provider_id, created_at=now)
                self._users[user.id] = user
                self._user_ids[provider_id] = user.id
            return self._user_ids[provider_id]

    def get_user(self, user_id: str) -> User | None:
        """See `SessionStore`."""
        return self._users.get(user_id)

    def list_users(self, limit: int = 100, after: str = "") -> list[User]:
        """See `SessionStore`."""
        with self._lock:
            users = sorted(self._users.values(), key=lambda user: user.provider_id)
        return [user for user in users if user.provider_id > after][:limit]

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
        """See `SessionStore`."""
        with self._lock:
            if user_id not in self._users:
                raise UnknownUser(f"there is no user {user_id}")
            if draft.authenticated_at <= self._ended_all_at.get(user_id, LONG_AGO):
                raise SessionRefused("all sessions of this user were ended; sign in again")
            replaced = self._ids.get(replaces) if replaces is not None else None
            ended = self._make_room(user_id, now, limit, replaced)
            if replaced is not None:
                ended.append(self._sessions[replaced])
            for session in ended:
                self._remove(session.id)
            session = Session(
                id=draft.id,
                user_id=user_id,
                idle_deadline=min(idle_deadline, absolute_deadline),
                absolute_deadline=absolute_deadline,
                created_at=now,
                authenticated_at=draft.authenticated_at,
                last_activity_at=now,
                credential_kind=draft.credential_kind,
                device=draft.device,
                address=draft.address,
                label=draft.label,
            )
            self._sessions[session.id] = session
            self._ids[draft.digest] = session.id
            return CreatedSession(session=session, ended=tuple(ended))

    def _make_room(
        self, user_id: str, now: datetime, limit: SessionLimit | None, replaced: str | None
    ) -> list[Session]:
        if limit is None:
            return []
        valid = [session for session in self._valid(user_id, now) if session.id != replaced]
        excess = len(valid) - limit.most + 1
        if excess > 0 and limit.when_full is WhenFull.REFUSE:
            raise TooManySessions(f"a user may have {limit.most} sessions")
        return valid[-excess:] if excess > 0 else []

    def get_session(self, session_id: str) -> Session | None:
        """See `SessionStore`."""
        return self._sessions.get(session_id)

    def find_session(self, digest: bytes) -> Session | None:
        """See `SessionStore`."""
        with self._lock:
            session_id = self._ids.get(digest)
            return None if session_id is None else self._sessions[session_id]

    def list_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """See `SessionStore`."""
        with self._lock:
            return self._valid(user_id, now)

    def extend_session(self, session_id: str, new_idle_deadline: datetime, now: datetime) -> Session:
        """See `SessionStore`."""
        with self._lock:
            session = self._require_valid(session_id, now)
            extended = replace(
                session,
                idle_deadline=max(session.idle_deadline, min(new_idle_deadline, session.absolute_deadline)),
                last_activity_at=max(session.last_activity_at, now),
            )
            self._sessions[session_id] = extended
            return extended

    def rotate_session(
        self,
        session_id: str,
        old_digest: bytes,
        new_digest: bytes,
        now: datetime,
        *,
        reauthentication: Reauthentication | None = None,
    ) -> Session:
        """See `SessionStore`."""
        with self._lock:
            session = self._require_valid(session_id, now)
            if self._ids.get(old_digest) != session_id:
                raise SessionNotFound("there is no such session")
            if reauthentication is not None:
                session = replace(
                    session,
                    authenticated_at=now,
                    idle_deadline=min(reauthentication.idle_deadline, reauthentication.absolute_deadline),
                    absolute_deadline=reauthentication.absolute_deadline,
                )
            rotated = replace(session, last_activity_at=max(session.last_activity_at, now))
            del self._ids[old_digest]
            self._ids[new_digest] = session_id
            self._sessions[session_id] = rotated
            return rotated

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """See `SessionStore`."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or (user_id is not None and session.user_id != user_id):
                raise SessionNotFound("there is no such session")
            self._remove(session_id)
            return session

    def delete_user_sessions(self, user_id: str, now: datetime, *, except_id: str | None = None) -> int:
        """See `SessionStore`."""
        with self._lock:
            self._ended_all_at[user_id] = max(now, self._ended_all_at.get(user_id, LONG_AGO))
            ended = [
                session.id
                for session in self._sessions.values()
                if session.user_id == user_id and session.id != except_id
            ]
            for session_id in ended:
                self._remove(session_id)
            return len(ended)

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`; a session that had expired at the activity's own time does not move."""
        moved = 0
        with self._lock:
            for session_id, at in updates.items():
                session = self._sessions.get(session_id)
                if session is not None and session.is_valid(at) and session.last_activity_at < at:
                    self._sessions[session_id] = replace(session, last_activity_at=at)
                    moved += 1
        return moved

    def remember_device(self, user_id: str, device_key: str, now: datetime) -> Sighting:  # noqa: ARG002 - a protocol
        """See `SessionStore`."""
        with self._lock:
            known = self._devices.setdefault(user_id, set())
            sighting = Sighting.KNOWN if device_key in known else Sighting.NEW if known else Sighting.FIRST
            known.add(device_key)
            return sighting

    def prune_sessions(self, before: datetime, limit: int = 1_000) -> int:
        """See `SessionStore`."""
        with self._lock:
            dead = [session.id for session in self._sessions.values() if not session.is_valid(before)][:limit]
            for session_id in dead:
                self._remove(session_id)
            return len(dead)

    def _valid(self, user_id: str, now: datetime) -> list[Session]:
        found = [s for s in self._sessions.values() if s.user_id == user_id and s.is_valid(now)]
        return sorted(found, key=lambda session: (session.last_activity_at, session.id), reverse=True)

    def _require_valid(self, session_id: str, now: datetime) -> Session:
        session = self._sessions.get(session_id)
        if session is None or not session.is_valid(now):
            raise SessionNotFound("there is no such session")
        return session

    def _remove(self, session_id: str) -> None:
        del self._sessions[session_id]
        for digest in [digest for digest, held in self._ids.items() if held == session_id]:
            del self._ids[digest]
