"""Login sessions: sign in, authenticate, refresh, rotate, list, revoke."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from lastseen.activity.recorder import require_recorder
from lastseen.activity.settings import TrackerSettings
from lastseen.activity.tracker import ActivityTracker
from lastseen.clock import SYSTEM_CLOCK, Clock
from lastseen.errors import MissingAbility, SessionNotFound
from lastseen.sessions.address import anonymized
from lastseen.sessions.cache import SessionCache
from lastseen.sessions.events import SessionEvent, SessionEventKind
from lastseen.sessions.policy import SessionPolicy
from lastseen.sessions.session import IssuedSession, Session, Validity
from lastseen.sessions.store import Reauthentication, SessionDraft, SessionLimit, SessionStore, Sighting
from lastseen.sessions.token import digest_of, is_token, new_session_id, new_token

NO_CACHE = timedelta(0)


def activity_tracking(flush_interval: timedelta = timedelta(seconds=30)) -> TrackerSettings:
    """Return the settings with which sessions track every activity: by the interval alone, 30 to 60 s recommended.

    Ten thousand active sessions are then one batch an interval.
    """
    return TrackerSettings(flush_interval=flush_interval, max_buffer_size=None)


class Presented(StrEnum):
    """What became of the token that a request presented."""

    NOTHING = "nothing"
    VALID = "valid"
    UNKNOWN = "unknown"
    """No session's token: never made here, ended, or rotated away."""
    MALFORMED = "malformed"
    IDLE_EXPIRED = "idle expired"
    ABSOLUTE_EXPIRED = "absolute expired"


class Authentication(NamedTuple):
    """The answer to "who is this?".

    A named tuple: one is made for every request, and a frozen dataclass costs three times as much.
    """

    presented: Presented
    session: Session | None = None
    """Only when valid."""
    extended: bool = False
    """The idle deadline was moved; a cookie that carries it is written again."""


# A member is looked up in its class once, not for every request.
_VALID, _PRESENTED_VALID = Validity.VALID, Presented.VALID

ANONYMOUS = Authentication(presented=Presented.NOTHING)
_EXPIRED = {Validity.IDLE_EXPIRED: Presented.IDLE_EXPIRED, Validity.ABSOLUTE_EXPIRED: Presented.ABSOLUTE_EXPIRED}


class SessionManager:
    """Makes, checks and ends the sessions of one store.

    `policies` gives the rules by credential kind, `policy` those of all other kinds; a session keeps to the rules of
    the kind it was made for. `tracking` adds batched tracking of every authenticated request (see `activity_tracking`);
    without it `last_activity_at` moves only when a session is made or extended, which costs no write of its own.
    `limit` caps the sessions of a user. `on_event` hears everything an audit trail needs; what it raises is logged.
    `cache` remembers reads for at most 5 s: a revocation in another process is noticed that much later.

    The methods block on the store and raise its errors. `StoreUnavailable` is not "signed out": answer 503.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        policy: SessionPolicy | None = None,
        policies: Mapping[str, SessionPolicy] | None = None,
        tracking: TrackerSettings | None = None,
        limit: SessionLimit | None = None,
        cache: timedelta = NO_CACHE,
        on_event: Callable[[SessionEvent], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        logger: logging.Logger | None = None,
        keep_full_address: bool = False,
    ) -> None:
        if not isinstance(store, SessionStore):
            raise MissingAbility(f"{type(store).__name__} cannot keep sessions: it does not implement SessionStore")
        self.store = store
        self._policy = policy or SessionPolicy()
        self._policies = dict(policies or {})
        self._limit = limit
        self._cache = SessionCache(cache)
        self._on_event = on_event
        self._clock = clock
        self._seconds = clock.now
        self._logger = logger or logging.getLogger("lastseen")
        self._keep_full_address = keep_full_address
        self.tracker = None
        if tracking is not None:
            self.tracker = ActivityTracker(require_recorder(store), tracking, clock=clock, logger=logger)

    def policy_of(self, credential_kind: str) -> SessionPolicy:
        """Return the rules of sessions of this kind."""
        return self._policies.get(credential_kind, self._policy)

    # Beginning

    def upsert_user(self, provider_id: str) -> str:
        """Return the id of the user whom this identity provider's id names; made when it is new."""
        return self.store.upsert_user(provider_id, self._now())

    def sign_in(
        self,
        user_id: str,
        *,
        credential_kind: str = "cookie",
        device: str = "",
        address: str = "",
        label: str = "",
        presented: str | None = None,
    ) -> IssuedSession:
        """Make a session for a user who has just proved who they are; always a new token, never the client's own.

        `presented` is the token that came with the request: its session ends in the same transaction. Raises
        `UnknownUser`, `TooManySessions` and `SessionRefused`.
        """
        now = self._now()
        idle_deadline, absolute_deadline = self.policy_of(credential_kind).deadlines(now)
        token = new_token()
        draft = SessionDraft(
            id=new_session_id(),
            digest=digest_of(token),
            authenticated_at=now,
            credential_kind=credential_kind,
            device=device,
            address=address if self._keep_full_address else anonymized(address),
            label=label,
        )
        replaces = digest_of(presented) if presented is not None and is_token(presented) else None
        created = self.store.create_session(
            user_id, idle_deadline, absolute_deadline, now, draft, replaces=replaces, limit=self._limit
        )
        self._forget(replaces)
        for ended in created.ended:
            self._cache.forget_user(ended.user_id)
            self._tell(SessionEventKind.REVOKED, ended, reason="replaced by a new login")
        self._tell(SessionEventKind.SIGNED_IN, created.session)
        if device and self.store.remember_device(user_id, device, now) is Sighting.NEW:
            self._tell(SessionEventKind.NEW_DEVICE, created.session, device=device)
        return IssuedSession(session=created.session, token=token)

    # Continuing

    def authenticate(
        self,
        token: str | None,
        *,
        kinds: Collection[str] | None = None,
        refresh: bool = False,
        fresh: bool = False,
    ) -> Authentication:
        """Say whose session the token is; with `refresh` also extend it when its policy says so.

        Activity is recorded after the checks, of valid sessions only. `fresh` bypasses the cache: for sensitive routes.
        With `kinds`, the token of a session made for another kind of credential is as unknown as any other.
        """
        if token is None:
            return ANONYMOUS
        if not is_token(token):
            self._tell(SessionEventKind.REFUSED, None, reason="malformed token")
            return Authentication(presented=Presented.MALFORMED)
        digest = digest_of(token)
        session = self._find(digest, fresh=fresh) if self._cache.is_on else self.store.find_session(digest)
        if session is None or (kinds is not None and session.credential_kind not in kinds):
            reason = "unknown token" if session is None else "token of another kind of credential"
            self._tell(SessionEventKind.REFUSED, session, reason=reason)
            return Authentication(presented=Presented.UNKNOWN)
        now = self._now()
        validity = session.validity(now)
        if validity is not _VALID:
            return self._expired(session, validity)
        if refresh and (deadline := self.policy_of(session.credential_kind).refreshed_deadline(session, now)):
            return self._extend(session, digest, deadline, now)
        if self.tracker is not None:
            self.tracker.record(session.id, now.timestamp())
        return Authentication(_PRESENTED_VALID, session)

    def _find(self, digest: bytes, *, fresh: bool) -> Session | None:
        monotonic = self._clock.monotonic()
        cached = None if fresh else self._cache.get(digest, monotonic)
        if cached is not None:
            return cached
        generation = self._cache.generation
        session = self.store.find_session(digest)
        self._cache.put(digest, session, monotonic, generation)
        return session

    def _expired(self, session: Session, validity: Validity) -> Authentication:
        level = logging.DEBUG if validity is Validity.IDLE_EXPIRED else logging.WARNING
        self._logger.log(level, "session %s session_id=%s", validity, session.id)
        self._tell(SessionEventKind.EXPIRED, session, reason=str(validity))
        return Authentication(presented=_EXPIRED[validity])

    def _extend(self, session: Session, digest: bytes, deadline: datetime, now: datetime) -> Authentication:
        try:
            session = self.store.extend_session(session.id, deadline, now)
        except SessionNotFound:
            # Signed out between the read and now: that is final.
            self._forget(digest)
            return Authentication(presented=Presented.UNKNOWN)
        self._cache.replace(digest, session)
        return Authentication(presented=Presented.VALID, session=session, extended=True)

    def rotate(self, token: str) -> IssuedSession:
        """Give the session a new token, after a change of privilege; the old one is dead at once.

        Raises `SessionNotFound` when the token is not that of a valid session.
        """
        return self._rotate(token, reauthenticates=False)

    def reauthenticate(self, token: str) -> IssuedSession:
        """Note that the user has just proved again who they are: new token, both deadlines begin anew.

        Raises `SessionNotFound` when the token is not that of a valid session.
        """
        return self._rotate(token, reauthenticates=True)

    def _rotate(self, token: str, *, reauthenticates: bool) -> IssuedSession:
        session = self.store.find_session(digest_of(token)) if is_token(token) else None
        if session is None:
            raise SessionNotFound("there is no such session")
        now = self._now()
        reauthentication = None
        if reauthenticates:
            idle, absolute = self.policy_of(session.credential_kind).deadlines(now)
            reauthentication = Reauthentication(idle_deadline=idle, absolute_deadline=absolute)
        fresh = new_token()
        session = self.store.rotate_session(
            session.id, digest_of(token), digest_of(fresh), now, reauthentication=reauthentication
        )
        self._forget(digest_of(token))
        self._tell(SessionEventKind.ROTATED, session)
        return IssuedSession(session=session, token=fresh)

    def now(self) -> datetime:
        """Return the moment by the manager's clock."""
        return self._now()

    def is_recent(self, session: Session, max_age: timedelta) -> bool:
        """Return whether the user proved who they are within the span."""
        return session.is_recent(self._now(), max_age)

    # Ending

    def sign_out(self, token: str | None) -> bool:
        """End the session of this token; False when there was none. Twice is fine."""
        if token is None or not is_token(token):
            return False
        session = self.store.find_session(digest_of(token))
        is_ended = session is not None and self._end(session.id, session.user_id, "signed out")
        self._forget(digest_of(token))
        return is_ended

    def revoke(self, user_id: str, session_id: str) -> None:
        """End one session of a user; `SessionNotFound` when there is none, also when it is somebody else's."""
        if not self._end(session_id, user_id, "revoked"):
            raise SessionNotFound("there is no such session")

    def _end(self, session_id: str, user_id: str, reason: str) -> bool:
        try:
            session = self.store.delete_session(session_id, user_id=user_id)
        except SessionNotFound:
            return False
        self._cache.forget_user(user_id)
        self._tell(SessionEventKind.REVOKED, session, reason=reason)
        return True

    def revoke_all(self, user_id: str, *, except_id: str | None = None, reason: str = "revoked") -> int:
        """End all sessions of a user, but for one; returns how many. Logins of the same instant end too."""
        ended = self.store.delete_user_sessions(user_id, self._now(), except_id=except_id)
        self._cache.forget_user(user_id)
        self._emit(
            SessionEvent(
                kind=SessionEventKind.REVOKED,
                at=self._now(),
                user_id=user_id,
                detail={"reason": reason, "sessions": str(ended)},
            )
        )
        return ended

    # Looking

    def sessions_of(self, user_id: str) -> Sequence[Session]:
        """Return the user's valid sessions, most recently active first, with what this process has recorded."""
        sessions = [self._overlaid(session) for session in self.store.list_sessions(user_id, self._now())]
        return sorted(sessions, key=lambda session: session.last_activity_at, reverse=True)

    def _overlaid(self, session: Session) -> Session:
        waiting = None if self.tracker is None else self.tracker.waiting(session.id)
        if waiting is None or waiting <= session.last_activity_at:
            return session
        return replace(session, last_activity_at=waiting)

    def conflict(self, reason: str) -> None:
        """Note that one request carried two credentials that disagree."""
        self._tell(SessionEventKind.CONFLICT, None, reason=reason)

    def prune(
        self,
        older_than: timedelta = timedelta(days=7),
        chunk: int = 1_000,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> int:
        """Remove sessions that expired that long ago, in small chunks; returns how many. Nothing depends on it.

        `stopping` is asked after each chunk.
        """
        removed = pruned = self.store.prune_sessions(self._now() - older_than, chunk)
        while pruned == chunk and not stopping():
            pruned = self.store.prune_sessions(self._now() - older_than, chunk)
            removed += pruned
        return removed

    def close(self) -> int:
        """Save recorded activity; returns how many sessions' could not be saved. Safe without tracking, and twice."""
        return 0 if self.tracker is None else self.tracker.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)

    def _forget(self, digest: bytes | None) -> None:
        if digest is not None:
            self._cache.forget(digest)

    def _tell(self, kind: SessionEventKind, session: Session | None, **detail: str) -> None:
        user_id, session_id = (None, None) if session is None else (session.user_id, session.id)
        self._emit(SessionEvent(kind=kind, at=self._now(), user_id=user_id, session_id=session_id, detail=detail))

    def _emit(self, event: SessionEvent) -> None:
        self._logger.debug("session event kind=%s session_id=%s", event.kind, event.session_id)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            self._logger.exception("a session event callback raised")
