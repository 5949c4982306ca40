"""Users and login sessions in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lastseen.errors import InvalidData
from lastseen.sessions.session import Session
from lastseen.sessions.store import CreatedSession, Reauthentication, SessionDraft, SessionLimit, Sighting, User
from lastseen.sessions.token import new_session_id
from lastseen.stores.postgres.database import Cursor, PostgresDatabase
from lastseen.stores.session_rows import (
    STATEMENT_KEYS,
    device_hash,
    evicted,
    first_session,
    not_found,
    refused,
    unknown_user,
)
from lastseen.stores.text import can_be_stored

# Moments leave the database as microseconds: what a driver makes of a timestamp depends on the application's settings.
USER = "id, provider_id, (extract(epoch FROM created_at) * 1000000)::bigint"

SESSION = """
s.id, s.user_id,
(extract(epoch FROM s.idle_deadline) * 1000000)::bigint, (extract(epoch FROM s.absolute_deadline) * 1000000)::bigint,
(extract(epoch FROM s.created_at) * 1000000)::bigint, (extract(epoch FROM s.authenticated_at) * 1000000)::bigint,
(extract(epoch FROM s.last_activity_at) * 1000000)::bigint, s.credential_kind, s.device, s.address, s.label
"""

VALID = "%(now)s::timestamptz < s.idle_deadline AND %(now)s::timestamptz < s.absolute_deadline"

FIND_USER = "SELECT id FROM lastseen_users WHERE provider_id = %(provider_id)s"

# Somebody else may have made the same user since the search; then the row that is there answers.
ADD_USER = """
INSERT INTO lastseen_users AS u (id, provider_id, created_at) VALUES (%(id)s, %(provider_id)s, %(now)s)
ON CONFLICT (provider_id) DO UPDATE SET provider_id = EXCLUDED.provider_id RETURNING u.id
"""

GET_USER = f"SELECT {USER} FROM lastseen_users WHERE id = %(id)s"  # noqa: S608 - constants

LIST_USERS = f"""
SELECT {USER} FROM lastseen_users WHERE provider_id > %(after)s::text ORDER BY provider_id LIMIT %(limit)s
"""  # noqa: S608 - constants

# The row is written, not only locked: connections of the application may run under REPEATABLE READ, and there only a
# write makes ending all sessions at the same instant fail instead of overlooking this login.
SIGN_IN = """
UPDATE lastseen_users SET signed_in_at = greatest(signed_in_at, %(now)s::timestamptz) WHERE id = %(user_id)s
RETURNING coalesce(%(authenticated_at)s::timestamptz <= sessions_ended_at, false)
"""

# Wherever several sessions are locked, then in the order of their ids: nobody waits for another in a circle.
HOLD = f"""
SELECT {SESSION}, s.digest = %(replaces)s::bytea FROM login_sessions AS s
WHERE s.digest = %(replaces)s::bytea OR (%(limited)s::boolean AND s.user_id = %(user_id)s AND {VALID})
ORDER BY s.id FOR UPDATE
"""  # noqa: S608 - constants

END = "DELETE FROM login_sessions WHERE id = ANY(%(ids)s::text[])"

# A conflict is left to us: the server's own message of it shows the digest.
INSERT = """
INSERT INTO login_sessions (id, user_id, idle_deadline, absolute_deadline, created_at, authenticated_at,
    last_activity_at, credential_kind, device, address, label, digest)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

GET = f"SELECT {SESSION} FROM login_sessions AS s WHERE s.id = %(id)s"  # noqa: S608 - constants

FIND = f"SELECT {SESSION} FROM login_sessions AS s WHERE s.digest = %b::bytea"  # noqa: S608 - constants

LIST = f"""
SELECT {SESSION} FROM login_sessions AS s WHERE s.user_id = %(user_id)s AND {VALID}
ORDER BY s.last_activity_at DESC, s.id DESC
"""  # noqa: S608 - constants

EXTEND = f"""
UPDATE login_sessions AS s
SET idle_deadline = greatest(s.idle_deadline, least(%(deadline)s::timestamptz, s.absolute_deadline)),
    last_activity_at = greatest(s.last_activity_at, %(now)s::timestamptz)
WHERE s.id = %(id)s AND {VALID} RETURNING {SESSION}
"""  # noqa: S608 - constants

# A new digest that is taken is left to us as well; 256 random bits are not twice the same, so no lock guards this.
DIGEST_IS_TAKEN = "SELECT EXISTS (SELECT 1 FROM login_sessions WHERE digest = %(new)s::bytea AND id <> %(id)s)"

ROTATE = f"""
UPDATE login_sessions AS s
SET digest = %(new)s::bytea, last_activity_at = greatest(s.last_activity_at, %(now)s::timestamptz)
WHERE s.id = %(id)s AND s.digest = %(old)s::bytea AND {VALID} RETURNING {SESSION}
"""  # noqa: S608 - constants

REAUTHENTICATE = f"""
UPDATE login_sessions AS s
SET digest = %(new)s::bytea, last_activity_at = greatest(s.last_activity_at, %(now)s::timestamptz),
    authenticated_at = %(now)s::timestamptz, absolute_deadline = %(absolute_deadline)s::timestamptz,
    idle_deadline = least(%(idle_deadline)s::timestamptz, %(absolute_deadline)s::timestamptz)
WHERE s.id = %(id)s AND s.digest = %(old)s::bytea AND {VALID} RETURNING {SESSION}
"""  # noqa: S608 - constants

DELETE = f"""
DELETE FROM login_sessions AS s
WHERE s.id = %(id)s AND (%(user_id)s::text IS NULL OR s.user_id = %(user_id)s::text) RETURNING {SESSION}
"""  # noqa: S608 - constants

END_ALL = """
UPDATE lastseen_users SET sessions_ended_at = greatest(sessions_ended_at, %(now)s::timestamptz) WHERE id = %(user_id)s
"""

DELETE_ALL = """
WITH gone AS MATERIALIZED (
    SELECT id FROM login_sessions
    WHERE user_id = %(user_id)s AND (%(except_id)s::text IS NULL OR id <> %(except_id)s::text) ORDER BY id FOR UPDATE
)
DELETE FROM login_sessions WHERE id IN (SELECT id FROM gone)
"""

RECORD = """
WITH recorded AS MATERIALIZED (
    SELECT id, at FROM unnest(%b::text[], %b::timestamptz[]) AS batch (id, at)
), held AS MATERIALIZED (
    SELECT s.id, recorded.at FROM login_sessions AS s JOIN recorded ON s.id = recorded.id
    WHERE s.last_activity_at < recorded.at AND recorded.at < s.idle_deadline AND recorded.at < s.absolute_deadline
    ORDER BY s.id FOR NO KEY UPDATE OF s
), moved AS (
    UPDATE login_sessions AS s SET last_activity_at = held.at FROM held
    WHERE s.id = held.id
      AND s.last_activity_at < held.at AND held.at < s.idle_deadline AND held.at < s.absolute_deadline
    RETURNING 1
)
SELECT count(*) FROM moved
"""

# One login of a user after the other, so that only one device is the first.
HOLD_USER = "SELECT id FROM lastseen_users WHERE id = %(user_id)s FOR UPDATE"

REMEMBER_DEVICE = """
INSERT INTO login_devices (user_id, device_hash, first_seen_at) VALUES (%(user_id)s, %(device)s, %(now)s)
ON CONFLICT DO NOTHING
"""

HAS_OTHER_DEVICES = """
SELECT EXISTS (SELECT 1 FROM login_devices WHERE user_id = %(user_id)s AND device_hash <> %(device)s::bytea)
"""

# A row that somebody holds is in use and can wait for the next time.
PRUNE = """
WITH dead AS MATERIALIZED (
    SELECT id FROM login_sessions
    WHERE idle_deadline <= %(before)s::timestamptz OR absolute_deadline <= %(before)s::timestamptz
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM login_sessions WHERE id IN (SELECT id FROM dead)
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresSessions:
    """Implements `SessionStore` and `ActivityRecorder`.

    Commits wait for the disk as the server is set to; only those of recorded activity do not.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def upsert_user(self, provider_id: str, now: datetime) -> str:
        """See `SessionStore`."""
        parameters = {"provider_id": provider_id, "now": now}
        found = self._ask(FIND_USER, parameters)
        if not found:
            with self._database.transaction() as cursor:
                cursor.execute(ADD_USER, {**parameters, "id": new_session_id()})
                found = cursor.fetchall()
        return str(found[0][0])

    def get_user(self, user_id: str) -> User | None:
        """See `SessionStore`."""
        found = self._ask(GET_USER, {"id": user_id}) if can_be_stored(user_id) else []
        return _user(found[0]) if found else None

    def list_users(self, limit: int = 100, after: str = "") -> list[User]:
        """See `SessionStore`."""
        found = self._ask(LIST_USERS, {"after": after, "limit": limit}) if can_be_stored(after) else []
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
        with self._database.transaction() as cursor:
            _sign_in(cursor, user_id, draft.authenticated_at, now)
            ended = _make_room(cursor, user_id, now, replaces, limit)
            cursor.execute(INSERT, (*_row(session), draft.digest))
            if cursor.rowcount != 1:
                raise InvalidData("there is a session with this id or this token already")
        return CreatedSession(session=session, ended=tuple(ended))

    def get_session(self, session_id: str) -> Session | None:
        """See `SessionStore`."""
        found = self._ask(GET, {"id": session_id}) if can_be_stored(session_id) else []
        return _session(found[0]) if found else None

    def find_session(self, digest: bytes) -> Session | None:
        """See `SessionStore`."""
        found = self._database.find(FIND, digest)
        return _session(found[0]) if found else None

    def list_sessions(self, user_id: str, now: datetime) -> Sequence[Session]:
        """See `SessionStore`."""
        found = self._ask(LIST, {"user_id": user_id, "now": now}) if can_be_stored(user_id) else []
        return [_session(row) for row in found]

    def extend_session(self, session_id: str, new_idle_deadline: datetime, now: datetime) -> Session:
        """See `SessionStore`."""
        return self._change(EXTEND, {"id": session_id, "deadline": new_idle_deadline, "now": now})

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
        parameters: dict[str, Any] = {"id": session_id, "old": old_digest, "new": new_digest, "now": now}
        if can_be_stored(session_id) and self._ask(DIGEST_IS_TAKEN, parameters)[0][0]:
            raise InvalidData("there is a session with this token already")
        if reauthentication is None:
            return self._change(ROTATE, parameters)
        parameters["idle_deadline"] = reauthentication.idle_deadline
        parameters["absolute_deadline"] = reauthentication.absolute_deadline
        return self._change(REAUTHENTICATE, parameters)

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """See `SessionStore`."""
        if not can_be_stored(user_id or ""):
            raise not_found()
        return self._change(DELETE, {"id": session_id, "user_id": user_id})

    def delete_user_sessions(self, user_id: str, now: datetime, *, except_id: str | None = None) -> int:
        """See `SessionStore`."""
        if not can_be_stored(user_id):
            return 0
        parameters = {"user_id": user_id, "now": now, "except_id": except_id}
        with self._database.transaction() as cursor:
            cursor.execute(END_ALL, parameters)
            cursor.execute(DELETE_ALL, parameters)
            return cursor.rowcount

    def batch_record_activity(self, updates: Mapping[str, datetime]) -> int:
        """See `ActivityRecorder`; a session that had expired at the activity's own time does not move."""
        session_ids = [session_id for session_id in updates if can_be_stored(session_id)]
        if not session_ids:
            return 0
        moved: int = 0
        with self._database.write() as cursor:
            for first in range(0, len(session_ids), STATEMENT_KEYS):
                chunk = session_ids[first : first + STATEMENT_KEYS]
                cursor.execute(RECORD, (chunk, [updates[session_id] for session_id in chunk]))
                moved += cursor.fetchall()[0][0]
        return moved

    def remember_device(self, user_id: str, device_key: str, now: datetime) -> Sighting:
        """See `SessionStore`."""
        parameters = {"user_id": user_id, "device": device_hash(device_key), "now": now}
        with self._database.transaction() as cursor:
            cursor.execute(HOLD_USER, parameters)
            cursor.execute(REMEMBER_DEVICE, parameters)
            if cursor.rowcount == 0:
                return Sighting.KNOWN
            cursor.execute(HAS_OTHER_DEVICES, parameters)
            return Sighting.NEW if cursor.fetchall()[0][0] else Sighting.FIRST

    def prune_sessions(self, before: datetime, limit: int = 1_000) -> int:
        """See `SessionStore`."""
        with self._database.transaction() as cursor:
            cursor.execute(PRUNE, {"before": before, "limit": limit})
            return cursor.rowcount

    def _ask(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._database.read() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

    def _change(self, statement: str, parameters: Mapping[str, Any]) -> Session:
        """Run a statement that changes one session and returns it."""
        if not can_be_stored(parameters["id"]):
            raise not_found()
        with self._database.transaction() as cursor:
            cursor.execute(statement, parameters)
            changed = cursor.fetchall()
        if not changed:
            raise not_found()
        return _session(changed[0])


def _sign_in(cursor: Cursor, user_id: str, authenticated_at: datetime, now: datetime) -> None:
    """Note the login at the user, whose row stays locked; raise when there is none or the login comes too late."""
    if not can_be_stored(user_id):
        raise unknown_user(user_id)
    cursor.execute(SIGN_IN, {"user_id": user_id, "authenticated_at": authenticated_at, "now": now})
    found = cursor.fetchall()
    if not found:
        raise unknown_user(user_id)
    if found[0][0]:
        raise refused()


def _make_room(
    cursor: Cursor, user_id: str, now: datetime, replaces: bytes | None, limit: SessionLimit | None
) -> list[Session]:
    """End the session that the login replaces and those beyond the limit; return them."""
    if replaces is None and limit is None:
        return []
    cursor.execute(HOLD, {"replaces": replaces, "limited": limit is not None, "user_id": user_id, "now": now})
    held = cursor.fetchall()
    replaced = [_session(row) for row in held if row[-1]]
    ended = [*evicted([_session(row) for row in held if not row[-1]], limit), *replaced]
    if ended:
        cursor.execute(END, {"ids": [session.id for session in ended]})
    return ended


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


def _row(session: Session) -> tuple[str | datetime, ...]:
    return (
        session.id,
        session.user_id,
        session.idle_deadline,
        session.absolute_deadline,
        session.created_at,
        session.authenticated_at,
        session.last_activity_at,
        session.credential_kind,
        session.device,
        session.address,
        session.label,
    )


def _user(row: tuple[Any, ...]) -> User:
    return User(id=row[0], provider_id=row[1], created_at=_moment(row[2]))


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(0, 0, microseconds)
