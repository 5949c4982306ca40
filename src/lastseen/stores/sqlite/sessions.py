"""Users and login sessions in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lastseen.errors import InvalidData
from lastseen.sessions.session import Session
from lastseen.sessions.store import CreatedSession, Reauthentication, SessionDraft, SessionLimit, Sighting, User
from lastseen.sessions.token import new_session_id
from lastseen.stores.session_rows import (
    STATEMENT_KEYS,
    device_hash,
    evicted,
    first_session,
    not_found,
    refused,
    unknown_user,
)
from lastseen.stores.sqlite.database import Database
from lastseen.stores.sqlite.times import TEXT
from lastseen.stores.text import can_be_stored

FIND_USER = "SELECT id FROM lastseen_users WHERE provider_id = ?"

ADD_USER = "INSERT INTO lastseen_users (id, provider_id, created_at) VALUES (?, ?, ?)"

GET_USER = "SELECT id, provider_id, created_at FROM lastseen_users WHERE id = ?"

LIST_USERS = """
SELECT id, provider_id, created_at FROM lastseen_users WHERE provider_id > ? ORDER BY provider_id LIMIT ?
"""

COLUMNS = """
id, user_id, idle_deadline, absolute_deadline, created_at, authenticated_at, last_activity_at, credential_kind,
device, address, label
"""

SIGN_IN = """
UPDATE lastseen_users SET signed_in_at = max(coalesce(signed_in_at, ?2), ?2) WHERE id = ?1 RETURNING sessions_ended_at
"""

INSERT = f"""
INSERT INTO login_sessions ({COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants

GET = f"SELECT {COLUMNS} FROM login_sessions WHERE id = ?"  # noqa: S608 - constants

FIND = f"SELECT {COLUMNS} FROM login_sessions WHERE digest = ?"  # noqa: S608 - constants

LIST = f"""
SELECT {COLUMNS} FROM login_sessions
WHERE user_id = ?1 AND ?2 < idle_deadline AND ?2 < absolute_deadline ORDER BY last_activity_at DESC, id DESC
"""  # noqa: S608 - constants

EXTEND = f"""
UPDATE login_sessions
SET idle_deadline = max(idle_deadline, min(:deadline, absolute_deadline)),
    last_activity_at = max(last_activity_at, :now)
WHERE id = :id AND :now < idle_deadline AND :now < absolute_deadline
RETURNING {COLUMNS}
"""  # noqa: S608 - constants

ROTATE = f"""
UPDATE login_sessions SET digest = :new, last_activity_at = max(last_activity_at, :now)
WHERE id = :id AND digest = :old AND :now < idle_deadline AND :now < absolute_deadline
RETURNING {COLUMNS}
"""  # noqa: S608 - constants

REAUTHENTICATE = f"""
UPDATE login_sessions
SET digest = :new, last_activity_at = max(last_activity_at, :now), authenticated_at = :now,
    idle_deadline = min(:idle_deadline, :absolute_deadline), absolute_deadline = :absolute_deadline
WHERE id = :id AND digest = :old AND :now < idle_deadline AND :now < absolute_deadline
RETURNING {COLUMNS}
"""  # noqa: S608 - constants

DELETE = f"""
DELETE FROM login_sessions WHERE id = :id AND (:user_id IS NULL OR user_id = :user_id) RETURNING {COLUMNS}
"""  # noqa: S608 - constants

END = "DELETE FROM login_sessions WHERE id = ?"

END_ALL = """
UPDATE lastseen_users SET sessions_ended_at = max(coalesce(sessions_ended_at, ?2), ?2) WHERE id = ?1
"""

DELETE_ALL = "DELETE FROM login_sessions WHERE user_id = ?1 AND (?2 IS NULL OR id <> ?2)"

RECORD = """
UPDATE login_sessions SET last_activity_at = recorded.value
FROM json_each(?) AS recorded
WHERE login_sessions.id = recorded.key AND last_activity_at < recorded.value
  AND recorded.value < idle_deadline AND recorded.value < absolute_deadline
"""

REMEMBER_DEVICE = """
INSERT INTO login_devices (user_id, device_hash, first_seen_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
"""

HAS_OTHER_DEVICES = "SELECT EXISTS (SELECT 1 FROM login_devices WHERE user_id = ? AND device_hash <> ?)"

PRUNE = """
DELETE FROM login_sessions
WHERE id IN (SELECT id FROM login_sessions WHERE idle_deadline <= ?1 OR absolute_deadline <= ?1 LIMIT ?2)
"""


class SQLiteSessions:
    """Implements `SessionStore` and `ActivityRecorder`.

    Commits on `database` are there after a power cut. Recorded activity goes through `activity_database`, whose last
    commits may not be.
    """

    def __init__(self, database: Database, activity_database: Database) -> None:
        self._database = database
        self._activity_database = activity_database

    def upsert_user(self, provider_id: str, now: datetime) -> str:
        """See `SessionStore`."""
        with self._database.read() as connection:
            row = connection.execute(FIND_USER, (provider_id,)).fetchone()
        if row is not None:
            return str(row[0])
        with self._database.write() as connection:
            row = connection.execute(FIND_USER, (provider_id,)).fetchone()
            if row is None:
                row = (new_session_id(),)
                connection.execute(ADD_USER, (row[0], provider_id, TEXT.encode(now)))
        return str(row[0])

    def get_user(self, user_id: str) -> User | None:
        """See `SessionStore`."""
        found = self._ask(GET_USER, (user_id,)) if can_be_stored(user_id) else []
        return _user(found[0]) if found else None

    def list_users(self, limit: int = 100, after: str = "") -> list[User]:
        """See `SessionStore`."""
        found = self._ask(LIST_USERS, (after, limit)) if can_be_stored(after) else []
        return [_user(row) for row in found]

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
        session = first_session(user_id, idle_deadline, absolute_deadline, now, draft)
        with self._database.write() as connection:
            _sign_in(connection, user_id, draft.authenticated_at, now)
            replaced = [] if replaces is None else _sessions(connection, FIND, (replaces,))
            valid = [] if limit is None else _sessions(connection, LIST, (user_id, TEXT.encode(now)))
            ended = [*evicted([one for one in valid if one not in replaced], limit), *replaced]
            connection.executemany(END, [(one.id,) for one in ended])
            if connection.execute(INSERT, (*_row(session), draft.digest)).rowcount != 1:
                raise InvalidData("there is a session with this id or this token already")
        return CreatedSession(session=session, ended=tuple(ended))

    def get_session(self, session_id: str) -> Session | None:
        """See `SessionStore`."""
        found = self._ask(GET, (session_id,)) if can_be_stored(session_id) else []
        return _session(found[0]) if found else None

    def find_session(self, digest: bytes) -> Session | None:
        """See `SessionStore`."""
        with self._database.read() as connection:
            row = connection.execute(FIND, (digest,)).fetchone()
        return None if row is None else _session(row)

    def list_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """See `SessionStore`."""
        found = self._ask(LIST, (user_id, TEXT.encode(now))) if can_be_stored(user_id) else []
        return [_session(row) for row in found]

    def extend_session(self, session_id: str, new_idle_deadline: datetime, now: datetime) -> Session:
        """See `SessionStore`."""
        return self._change(
            EXTEND, {"id": session_id, "deadline": TEXT.encode(new_idle_deadline), "now": TEXT.encode(now)}
        )

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
        parameters = {"id": session_id, "old": old_digest, "new": new_digest, "now": TEXT.encode(now)}
        if reauthentication is None:
            return self._change(ROTATE, parameters)
        deadlines = {
            "idle_deadline": TEXT.encode(reauthentication.idle_deadline),
            "absolute_deadline": TEXT.encode(reauthentication.absolute_deadline),
        }
        return self._change(REAUTHENTICATE, {**parameters, **deadlines})

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """See `SessionStore`."""
        if not can_be_stored(user_id or ""):
            raise not_found()
        return self._change(DELETE, {"id": session_id, "user_id": user_id})

    def delete_user_sessions(self, user_id: str, now: datetime, *, except_id: str | None = None) -> int:
        """See `SessionStore`."""
        if not can_be_stored(user_id):
            return 0
        with self._database.write() as connection:
            connection.execute(END_ALL, (user_id, TEXT.encode(now)))
            return connection.execute(DELETE_ALL, (user_id, except_id)).rowcount

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`; a session that had expired at the activity's own time does not move."""
        rows = [(session_id, TEXT.encode(at)) for session_id, at in updates.items() if can_be_stored(session_id)]
        if not rows:
            return 0
        with self._activity_database.write() as connection:
            return sum(
                connection.execute(RECORD, (json.dumps(dict(rows[first : first + STATEMENT_KEYS])),)).rowcount
                for first in range(0, len(rows), STATEMENT_KEYS)
            )

    def remember_device(self, user_id: str, device_key: str, now: datetime) -> Sighting:
        """See `SessionStore`."""
        device = device_hash(device_key)
        with self._database.write() as connection:
            if connection.execute(REMEMBER_DEVICE, (user_id, device, TEXT.encode(now))).rowcount == 0:
                return Sighting.KNOWN
            others = connection.execute(HAS_OTHER_DEVICES, (user_id, device)).fetchone()[0]
        return Sighting.NEW if others else Sighting.FIRST

    def prune_sessions(self, before: datetime, limit: int = 1_000) -> int:
        """See `SessionStore`."""
        with self._database.write() as connection:
            return connection.execute(PRUNE, (TEXT.encode(before), limit)).rowcount

    def _ask(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._database.read() as connection:
            return connection.execute(statement, parameters).fetchall()

    def _change(self, statement: str, parameters: Mapping[str, Any]) -> Session:
        """Run a statement that changes one session and returns it."""
        if not can_be_stored(parameters["id"]):
            raise not_found()
        with self._database.write() as connection:
            changed = _sessions(connection, statement, parameters)
        if not changed:
            raise not_found()
        return changed[0]


def _sign_in(connection: sqlite3.Connection, user_id: str, authenticated_at: datetime, now: datetime) -> None:
    """Note the login at the user; raise when there is no such user or the login comes too late."""
    found = connection.execute(SIGN_IN, (user_id, TEXT.encode(now))).fetchall() if can_be_stored(user_id) else []
    if not found:
        raise unknown_user(user_id)
    if found[0][0] is not None and authenticated_at <= _moment(found[0][0]):
        raise refused()


def _sessions(connection: sqlite3.Connection, statement: str, parameters: Any) -> list[Session]:
    return [_session(row) for row in connection.execute(statement, parameters).fetchall()]


def _session(row: tuple[Any, ...]) -> Session:
    return Session(
        id=row[0],
        user_id=row[1],
        idle_deadline=_moment(row[2]),
        absolute_deadline=_moment(row[3]),
        created_at=_moment(row[4]),
        authenticated_at=_moment(row[5]),
        last_activity_at=_moment(row[6]),
        credential_kind=row[7],
        device=row[8],
        address=row[9],
        label=row[10],
    )


def _row(session: Session) -> tuple[str | int | float, ...]:
    encode = TEXT.encode
    return (
        session.id,
        session.user_id,
        encode(session.idle_deadline),
        encode(session.absolute_deadline),
        encode(session.created_at),
        encode(session.authenticated_at),
        encode(session.last_activity_at),
        session.credential_kind,
        session.device,
        session.address,
        session.label,
    )


def _user(row: tuple[Any, ...]) -> User:
    return User(id=row[0], provider_id=row[1], created_at=_moment(row[2]))


def _moment(text: str) -> datetime:
    # Only `TEXT.encode` writes these columns. To read a zone costs a fifth of adding it afterwards.
    return datetime.fromisoformat(text + "+00:00")
