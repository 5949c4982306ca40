"""A session store of one's own, in full: everything in one JSON file. For one process."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lastseen.errors import SessionNotFound, SessionRefused, StoreUnavailable, TooManySessions, UnknownUser
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

MOMENTS = ("idle_deadline", "absolute_deadline", "created_at", "authenticated_at", "last_activity_at")


class Tables:
    """What the file holds: users, sessions by id, session ids by digest."""

    def __init__(self, saved: dict[str, Any]) -> None:
        self.users: dict[str, list[str]] = saved.get("users", {})
        self.sessions = {key: _session(row) for key, row in saved.get("sessions", {}).items()}
        self.digests: dict[str, str] = saved.get("digests", {})
        self.ended_all_at: dict[str, str] = saved.get("ended_all_at", {})
        self.devices: dict[str, list[str]] = saved.get("devices", {})

    def as_saved(self) -> dict[str, Any]:
        """Return what becomes JSON."""
        return {**vars(self), "sessions": {key: _row(session) for key, session in self.sessions.items()}}

    def all_ended_at(self, user_id: str) -> datetime | None:
        """Return when all sessions of a user were ended last."""
        ended_at = self.ended_all_at.get(user_id)
        return None if ended_at is None else datetime.fromisoformat(ended_at)

    def valid(self, session_id: str, now: datetime) -> Session:
        """Return a session that may be continued: never one that has ended or expired."""
        session = self.sessions.get(session_id)
        if session is None or not session.is_valid(now):
            raise SessionNotFound("there is no such session")
        return session

    def of_user(self, user_id: str, now: datetime) -> list[Session]:
        """Return the valid sessions of a user, most recently active first."""
        found = [each for each in self.sessions.values() if each.user_id == user_id and each.is_valid(now)]
        return sorted(found, key=lambda session: session.last_activity_at, reverse=True)

    def remove(self, session: Session) -> None:
        """End a session."""
        del self.sessions[session.id]
        self.digests = {digest: held for digest, held in self.digests.items() if held != session.id}


class JSONFileSessions:
    """See `SessionStore`; every method is one transaction: lock, read, change, replace the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    @contextmanager
    def _tables(self) -> Iterator[Tables]:
        with self._lock:
            try:
                before = self._path.read_text("utf-8") if self._path.exists() else "{}"
                tables = Tables(json.loads(before))
                yield tables
                after = json.dumps(tables.as_saved())
                if after != before:
                    draft = self._path.with_suffix(".new")
                    draft.write_text(after, "utf-8")
                    os.replace(draft, self._path)  # noqa: PTH105 - named as the atomic operation that it is
            except OSError as error:
                raise StoreUnavailable(f"the sessions' file cannot be used: {error}") from error

    def upsert_user(self, provider_id: str, now: datetime) -> str:
        """Return the user's id; made when the user is new."""
        with self._tables() as tables:
            for user_id, (known, _) in tables.users.items():
                if known == provider_id:
                    return user_id
            user_id = new_session_id()
            tables.users[user_id] = [provider_id, now.isoformat()]
            return user_id

    def get_user(self, user_id: str) -> User | None:
        """Return a user, or None."""
        with self._tables() as tables:
            found = tables.users.get(user_id)
        return None if found is None else _user(user_id, found)

    def list_users(self, limit: int = 100, after: str = "") -> list[User]:
        """Return users by provider id, after the given one."""
        with self._tables() as tables:
            users = [_user(user_id, found) for user_id, found in tables.users.items()]
        users.sort(key=lambda user: user.provider_id)
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
        """Make a session; what it replaces and what is too many ends with it."""
        with self._tables() as tables:
            if user_id not in tables.users:
                raise UnknownUser(f"there is no user {user_id}")
            if (ended_at := tables.all_ended_at(user_id)) is not None and draft.authenticated_at <= ended_at:
                raise SessionRefused("all sessions of this user were ended; sign in again")
            ended = []
            if replaces is not None and (replaced := tables.digests.get(replaces.hex())):
                ended.append(tables.sessions[replaced])
            others = [each for each in tables.of_user(user_id, now) if each not in ended]
            if limit is not None and len(others) >= limit.most:
                if limit.when_full is WhenFull.REFUSE:
                    raise TooManySessions(f"a user may have {limit.most} sessions")
                ended += others[limit.most - 1 :]
            for session in ended:
                tables.remove(session)
            details = {key: getattr(draft, key) for key in ("credential_kind", "device", "address", "label")}
            session = Session(
                id=draft.id,
                user_id=user_id,
                idle_deadline=min(idle_deadline, absolute_deadline),
                absolute_deadline=absolute_deadline,
                created_at=now,
                authenticated_at=draft.authenticated_at,
                last_activity_at=now,
                **details,
            )
            tables.sessions[session.id] = session
            tables.digests[draft.digest.hex()] = session.id
            return CreatedSession(session=session, ended=tuple(ended))

    def get_session(self, session_id: str) -> Session | None:
        """Return the session with this public id, or None."""
        with self._tables() as tables:
            return tables.sessions.get(session_id)

    def find_session(self, digest: bytes) -> Session | None:
        """Return the session whose token has this digest, or None."""
        with self._tables() as tables:
            return tables.sessions.get(tables.digests.get(digest.hex(), ""))

    def list_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """Return the user's valid sessions, most recently active first."""
        with self._tables() as tables:
            return tables.of_user(user_id, now)

    def extend_session(self, session_id: str, new_idle_deadline: datetime, now: datetime) -> Session:
        """Move the idle deadline and the last activity forward, of a session that is there and valid."""
        with self._tables() as tables:
            session = tables.valid(session_id, now)
            tables.sessions[session_id] = replace(
                session,
                idle_deadline=max(session.idle_deadline, min(new_idle_deadline, session.absolute_deadline)),
                last_activity_at=max(session.last_activity_at, now),
            )
            return tables.sessions[session_id]

    def rotate_session(
        self,
        session_id: str,
        old_digest: bytes,
        new_digest: bytes,
        now: datetime,
        *,
        reauthentication: Reauthentication | None = None,
    ) -> Session:
        """Give the session another digest; the old one finds nothing any more."""
        with self._tables() as tables:
            session = tables.valid(session_id, now)
            if tables.digests.pop(old_digest.hex(), None) != session_id:
                raise SessionNotFound("there is no such session")
            tables.digests[new_digest.hex()] = session_id
            session = replace(session, last_activity_at=max(session.last_activity_at, now))
            if reauthentication is not None:
                session = replace(session, authenticated_at=now, **asdict(reauthentication))
            tables.sessions[session_id] = session
            return session

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """End a session; somebody else's is as unknown as none."""
        with self._tables() as tables:
            session = tables.sessions.get(session_id)
            if session is None or user_id not in {None, session.user_id}:
                raise SessionNotFound("there is no such session")
            tables.remove(session)
            return session

    def delete_user_sessions(self, user_id: str, now: datetime, *, except_id: str | None = None) -> int:
        """End all sessions of a user but one; a login that was authenticated before now finds the door shut."""
        with self._tables() as tables:
            tables.ended_all_at[user_id] = max(now, tables.all_ended_at(user_id) or now).isoformat()
            ended = [each for each in tables.sessions.values() if each.user_id == user_id and each.id != except_id]
            for session in ended:
                tables.remove(session)
            return len(ended)

    def remember_device(self, user_id: str, device_key: str, now: datetime) -> Sighting:  # noqa: ARG002 - a protocol
        """Note the device and say whether it was known."""
        with self._tables() as tables:
            known = tables.devices.setdefault(user_id, [])
            if device_key in known:
                return Sighting.KNOWN
            known.append(device_key)
            return Sighting.FIRST if len(known) == 1 else Sighting.NEW

    def prune_sessions(self, before: datetime, limit: int = 1_000) -> int:
        """Remove some of the sessions that expired before the moment."""
        with self._tables() as tables:
            dead = [each for each in tables.sessions.values() if not each.is_valid(before)][:limit]
            for session in dead:
                tables.remove(session)
            return len(dead)

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """Move last activities forward, each by its own time; only needed for `activity_tracking`."""
        with self._tables() as tables:
            moved = 0
            for session_id, at in updates.items():
                session = tables.sessions.get(session_id)
                if session is not None and session.is_valid(at) and session.last_activity_at < at:
                    tables.sessions[session_id] = replace(session, last_activity_at=at)
                    moved += 1
            return moved


def _user(user_id: str, found: list[str]) -> User:
    return User(id=user_id, provider_id=found[0], created_at=datetime.fromisoformat(found[1]))


def _row(session: Session) -> dict[str, str]:
    row = asdict(session)
    return {**row, **{name: row[name].astimezone(UTC).isoformat() for name in MOMENTS}}


def _session(row: dict[str, Any]) -> Session:
    return Session(**{**row, **{name: datetime.fromisoformat(row[name]) for name in MOMENTS}})
