"""The life of a session, from sign-in to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from lastseen.errors import ConfigurationError, MissingAbility, SessionNotFound
from lastseen.sessions.events import SessionEvent, SessionEventKind
from lastseen.sessions.manager import Authentication, Presented, SessionManager, activity_tracking
from lastseen.sessions.policy import NATIVE_APP, SessionPolicy
from lastseen.sessions.store import SessionLimit
from lastseen.sessions.token import new_token
from lastseen.stores.memory import MemorySessions
from lastseen.testing import ManualClock, moment


class Counting(MemorySessions):
    """A store that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def find_session(self, digest: bytes) -> Any:
        self.calls.append("find")
        return super().find_session(digest)

    def extend_session(self, *arguments: Any) -> Any:
        self.calls.append("extend")
        return super().extend_session(*arguments)

    def batch_record_activity(self, updates: Any) -> int:
        self.calls.append(f"record {len(updates)}")
        return super().batch_record_activity(updates)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(moment().timestamp())


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def events() -> list[SessionEvent]:
    return []


@pytest.fixture
def sessions(store: Counting, clock: ManualClock, events: list[SessionEvent]) -> Iterator[SessionManager]:
    sessions = SessionManager(
        store, policies={"bearer": NATIVE_APP}, clock=clock, on_event=events.append, limit=SessionLimit(most=3)
    )
    yield sessions
    sessions.close()


@pytest.fixture
def alice(store: Counting) -> str:
    return store.upsert_user("provider|alice", moment())


def kinds(events: list[SessionEvent]) -> list[str]:
    return [event.kind.value for event in events]


def test_a_user_is_made_at_the_first_sign_in(sessions: SessionManager, store: Counting) -> None:
    """The same provider id is the same user."""
    bob = sessions.upsert_user("provider|bob")
    assert sessions.upsert_user("provider|bob") == bob
    user = store.get_user(bob)
    assert user is not None
    assert user.created_at == moment()


def test_signing_in_and_coming_back(sessions: SessionManager, alice: str, clock: ManualClock) -> None:
    """The token that was shown once finds the session; the session keeps to the rules of its credential kind."""
    issued = sessions.sign_in(alice, device="Firefox", address="192.0.2.77", label="desk")
    assert issued.session.idle_deadline == moment(hours=1)
    assert (issued.session.device, issued.session.address, issued.session.label) == ("Firefox", "192.0.2.0", "desk")
    clock.advance(minutes=59)
    answer = sessions.authenticate(issued.token)
    assert answer == Authentication(presented=Presented.VALID, session=issued.session)
    native = sessions.sign_in(alice, credential_kind="bearer")
    clock.advance(days=29)
    assert sessions.authenticate(native.token, refresh=True).session == native.session


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 9_000, "é" * 43, "x" * 42 + "\n"])
def test_malformed_tokens_are_not_looked_up(sessions: SessionManager, store: Counting, token: str) -> None:
    """Shape first: nothing is hashed, nothing is asked of the database."""
    assert sessions.authenticate(token).presented is Presented.MALFORMED
    assert store.calls == []


def test_no_token_is_nobody_and_an_unknown_one_is_a_signal(
    sessions: SessionManager, events: list[SessionEvent]
) -> None:
    """A token that the client invented is never adopted; it is reported."""
    assert sessions.authenticate(None).presented is Presented.NOTHING
    invented = new_token()
    assert sessions.authenticate(invented).presented is Presented.UNKNOWN
    assert kinds(events) == ["refused"]
    assert invented not in repr(events)


def test_expiry_is_told_apart_and_logged(
    sessions: SessionManager, alice: str, clock: ManualClock, events: list[SessionEvent], caplog: Any
) -> None:
    """Idle at debug, absolute at warning; an expired session is nobody's."""
    token = sessions.sign_in(alice).token
    caplog.set_level(logging.DEBUG, logger="lastseen")
    clock.advance(hours=1)
    assert sessions.authenticate(token, refresh=True) == Authentication(presented=Presented.IDLE_EXPIRED)
    clock.advance(hours=23)
    assert sessions.authenticate(token).presented is Presented.ABSOLUTE_EXPIRED
    levels = [(record.levelname, record.getMessage().partition(" session_id")[0]) for record in caplog.records]
    assert ("DEBUG", "session idle expired") in levels
    assert ("WARNING", "session absolute expired") in levels
    assert kinds(events) == ["signed_in", "expired", "expired"]
    assert token not in caplog.text


def test_authenticating_writes_nothing_until_the_threshold(
    sessions: SessionManager, store: Counting, alice: str, clock: ManualClock
) -> None:
    """Zero extra writes a request; one write when the deadline is nearer than the threshold."""
    token = sessions.sign_in(alice).token
    for _ in range(50):
        clock.advance(minutes=1)
        assert not sessions.authenticate(token, refresh=True).extended
    assert set(store.calls) == {"find"}
    clock.advance(minutes=1)
    answer = sessions.authenticate(token, refresh=True)
    assert answer.extended
    assert answer.session is not None
    assert answer.session.idle_deadline == moment(minutes=51) + timedelta(hours=1)
    assert answer.session.last_activity_at == moment(minutes=51)
    assert store.calls.count("extend") == 1


def test_a_logout_in_flight_is_final(store: Counting, alice: str, clock: ManualClock) -> None:
    """A refresh that read the session before it was signed out does not bring it back."""

    class Overtaken(Counting):
        def find_session(self, digest: bytes) -> Any:
            found = super().find_session(digest)
            if found is not None:
                self.delete_session(found.id)
            return found

    overtaken = Overtaken()
    sessions = SessionManager(overtaken, policy=SessionPolicy(refresh_threshold=timedelta(0)), clock=clock)
    token = sessions.sign_in(overtaken.upsert_user("provider|alice", moment())).token
    clock.advance(1)
    assert sessions.authenticate(token, refresh=True) == Authentication(presented=Presented.UNKNOWN)


def test_signing_in_never_adopts_the_clients_token_and_ends_its_session(
    sessions: SessionManager, alice: str, events: list[SessionEvent]
) -> None:
    """Session fixation: what the attacker planted is dead after the login."""
    planted = sessions.sign_in(alice).token
    fresh = sessions.sign_in(alice, presented=planted).token
    assert fresh != planted
    assert sessions.authenticate(planted).presented is Presented.UNKNOWN
    assert sessions.sign_in(alice, presented="nonsense").token != "nonsense"
    assert kinds(events) == ["signed_in", "revoked", "signed_in", "refused", "signed_in"]


def test_rotation_and_reauthentication(sessions: SessionManager, alice: str, clock: ManualClock) -> None:
    """A new token under the same public id; proving oneself again resets what is recent and both deadlines."""
    issued = sessions.sign_in(alice)
    clock.advance(minutes=30)
    rotated = sessions.rotate(issued.token)
    assert rotated.session.id == issued.session.id
    assert rotated.session.absolute_deadline == issued.session.absolute_deadline
    assert sessions.authenticate(issued.token).presented is Presented.UNKNOWN
    assert not sessions.is_recent(rotated.session, timedelta(minutes=10))
    again = sessions.reauthenticate(rotated.token)
    assert sessions.is_recent(again.session, timedelta(minutes=10))
    assert again.session.idle_deadline == moment(minutes=90)
    assert again.session.absolute_deadline == moment(minutes=30) + timedelta(hours=24)
    for dead in (issued.token, rotated.token, "nonsense"):
        with pytest.raises(SessionNotFound):
            sessions.rotate(dead)


def test_signing_out_twice_is_fine(sessions: SessionManager, alice: str, events: list[SessionEvent]) -> None:
    """The second time there is nothing to end."""
    token = sessions.sign_in(alice).token
    assert sessions.sign_out(token)
    assert not sessions.sign_out(token)
    assert not sessions.sign_out(None)
    assert not sessions.sign_out("nonsense")
    assert sessions.authenticate(token).presented is Presented.UNKNOWN
    assert kinds(events) == ["signed_in", "revoked", "refused"]


def test_active_devices(sessions: SessionManager, store: Counting, alice: str, clock: ManualClock) -> None:
    """A user sees their sessions, ends one, ends the others, ends all; somebody else's is as unknown as none."""
    issued = []
    for device in ("laptop", "phone", "tablet"):
        issued.append(sessions.sign_in(alice, device=device))
        clock.advance(1)
    bob = store.upsert_user("provider|bob", moment())
    assert [session.device for session in sessions.sessions_of(alice)] == ["tablet", "phone", "laptop"]
    with pytest.raises(SessionNotFound):
        sessions.revoke(bob, issued[0].session.id)
    sessions.revoke(alice, issued[0].session.id)
    assert sessions.revoke_all(alice, except_id=issued[2].session.id) == 1
    assert [session.device for session in sessions.sessions_of(alice)] == ["tablet"]
    assert sessions.revoke_all(alice) == 1
    assert sessions.sessions_of(alice) == []


def test_a_new_device_is_told_but_not_the_first(
    sessions: SessionManager, alice: str, events: list[SessionEvent]
) -> None:
    """The user's first device alarms nobody; a second one does, once."""
    for device in ("laptop", "laptop", "phone", "phone"):
        sessions.sign_in(alice, device=device)
    assert [event.detail for event in events if event.kind is SessionEventKind.NEW_DEVICE] == [{"device": "phone"}]


def test_the_limit_ends_the_least_active_session(
    sessions: SessionManager, alice: str, clock: ManualClock, events: list[SessionEvent]
) -> None:
    """The fourth login of a user who may have three ends one of them, and says so."""
    tokens = []
    for _ in range(4):
        tokens.append(sessions.sign_in(alice).token)
        clock.advance(1)
    assert sessions.authenticate(tokens[0]).presented is Presented.UNKNOWN
    assert len(sessions.sessions_of(alice)) == 3
    assert kinds(events).count("revoked") == 1


def test_tracked_activity_is_one_batch_an_interval(store: Counting, clock: ManualClock) -> None:
    """Ten thousand requests of fifty sessions within one interval make one batch; a process sees its own records."""
    sessions = SessionManager(store, tracking=activity_tracking(timedelta(hours=1)), clock=clock)
    users = [store.upsert_user(f"provider|{number}", moment()) for number in range(50)]
    tokens = [sessions.sign_in(user).token for user in users]
    store.calls.clear()
    for number in range(10_000):
        clock.advance(0.01)
        sessions.authenticate(tokens[number % 50])
    latest = {session.last_activity_at for user in users for session in sessions.sessions_of(user)}
    assert max(latest) == clock.utc()
    assert store.calls.count("find") == 10_000
    assert sessions.close() == 0
    assert [call for call in store.calls if call.startswith("record")] == ["record 50"]
    stored = store.list_sessions(users[-1], clock.utc())
    assert stored[0].last_activity_at == clock.utc()
    assert sessions.close() == 0


def test_only_valid_sessions_record_activity(store: Counting, clock: ManualClock) -> None:
    """Expired, ended and unknown credentials move nothing."""
    sessions = SessionManager(store, tracking=activity_tracking(), clock=clock)
    alice = store.upsert_user("provider|alice", moment())
    expired, ended = sessions.sign_in(alice).token, sessions.sign_in(alice).token
    sessions.sign_out(ended)
    clock.advance(hours=1)
    for token in (expired, ended, new_token(), "nonsense"):
        sessions.authenticate(token)
    assert sessions.tracker is not None
    assert sessions.tracker.health().buffer_size == 0
    sessions.close()


def test_the_cache_lags_at_most_its_span_and_not_in_this_process(store: Counting, clock: ManualClock) -> None:
    """Another process's revocation is noticed after the span, this one's at once; sensitive routes go past it."""
    sessions = SessionManager(store, cache=timedelta(seconds=5), clock=clock)
    alice = store.upsert_user("provider|alice", moment())
    issued = sessions.sign_in(alice)
    for _ in range(3):
        assert sessions.authenticate(issued.token).session == issued.session
    assert store.calls == ["find"]
    store.delete_session(issued.session.id)
    assert sessions.authenticate(issued.token).session is not None
    assert sessions.authenticate(issued.token, fresh=True).session is None
    assert sessions.authenticate(issued.token).session is None, "what was found to have ended is remembered no more"
    issued = sessions.sign_in(alice)
    sessions.authenticate(issued.token)
    store.delete_session(issued.session.id)
    assert sessions.authenticate(issued.token).session is not None
    clock.advance(5)
    assert sessions.authenticate(issued.token).session is None
    own = sessions.sign_in(alice)
    sessions.authenticate(own.token)
    sessions.revoke(alice, own.session.id)
    assert sessions.authenticate(own.token).session is None


def test_a_token_rotated_away_elsewhere_dies_within_the_span_however_often_it_is_used(
    store: Counting, clock: ManualClock
) -> None:
    """To extend a remembered session does not make its token be remembered for longer; it is seen extended though."""
    policy = SessionPolicy(refresh_threshold=timedelta(0))
    sessions = SessionManager(store, policy=policy, cache=timedelta(seconds=5), clock=clock)
    elsewhere = SessionManager(store, policy=policy, clock=clock)
    stolen = sessions.sign_in(store.upsert_user("provider|alice", moment()))
    assert sessions.authenticate(stolen.token, refresh=True).session is not None
    kept = elsewhere.rotate(stolen.token)
    clock.advance(4)
    extended = sessions.authenticate(stolen.token, refresh=True)
    assert extended.session is not None
    assert sessions.authenticate(stolen.token).session == extended.session
    clock.advance(1)
    assert sessions.authenticate(stolen.token, refresh=True).presented is Presented.UNKNOWN
    assert sessions.authenticate(kept.token, refresh=True).session is not None


def test_a_token_rotated_away_during_an_extension_is_not_remembered(
    store: Counting, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that extends its session after another one has given it a new token brings the old one not back."""
    policy = SessionPolicy(refresh_threshold=timedelta(0))
    sessions = SessionManager(store, policy=policy, cache=timedelta(seconds=5), clock=clock)
    token = sessions.sign_in(store.upsert_user("provider|alice", moment())).token
    find = store.find_session

    def find_and_be_late(digest: bytes) -> Any:
        found = find(digest)
        monkeypatch.undo()
        sessions.rotate(token)
        return found

    monkeypatch.setattr(store, "find_session", find_and_be_late)
    clock.advance(1)
    assert sessions.authenticate(token, refresh=True).session is not None
    assert sessions.authenticate(token).session is None


@pytest.mark.parametrize("end", ["sign out", "revoke", "revoke all", "rotate", "sign in again"])
@pytest.mark.parametrize("extending", [False, True])
def test_what_was_read_before_an_end_is_not_remembered_after_it(
    store: Counting, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, end: str, *, extending: bool
) -> None:
    """A request that has read its session just before another one ends it leaves nothing for the next request."""
    sessions = SessionManager(store, cache=timedelta(seconds=5), clock=clock)
    issued = sessions.sign_in(store.upsert_user("provider|alice", moment()))
    user, token = issued.session.user_id, issued.token
    ends: dict[str, Callable[[], object]] = {
        "sign out": lambda: sessions.sign_out(token),
        "revoke": lambda: sessions.revoke(user, issued.session.id),
        "revoke all": lambda: sessions.revoke_all(user),
        "rotate": lambda: sessions.rotate(token),
        "sign in again": lambda: sessions.sign_in(user, presented=token),
    }
    reading = "extend_session" if extending else "find_session"
    read = getattr(store, reading)

    def read_and_be_late(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.undo()
        ends[end]()
        return found

    if extending:
        clock.advance(minutes=55)
    monkeypatch.setattr(store, reading, read_and_be_late)
    assert sessions.authenticate(token, refresh=extending).session is not None
    assert sessions.authenticate(token).session is None


def test_the_cache_checks_deadlines_on_every_hit(store: Counting, clock: ManualClock) -> None:
    """A remembered session expires like any other."""
    policy = SessionPolicy(idle_timeout=timedelta(seconds=3), refresh_threshold=None)
    sessions = SessionManager(store, policy=policy, cache=timedelta(seconds=5), clock=clock)
    token = sessions.sign_in(store.upsert_user("provider|alice", moment())).token
    sessions.authenticate(token)
    clock.advance(3)
    assert sessions.authenticate(token).presented is Presented.IDLE_EXPIRED


@pytest.mark.parametrize("span", [timedelta(seconds=6), timedelta(seconds=-1)])
def test_a_longer_cache_is_refused(store: Counting, span: timedelta) -> None:
    """Five seconds are the most that a revocation may lag."""
    with pytest.raises(ConfigurationError, match="5 seconds"):
        SessionManager(store, cache=span)


def test_a_callback_that_fails_harms_nothing(store: Counting, caplog: Any) -> None:
    """Signing in works, and the failure is logged."""

    def explode(event: SessionEvent) -> None:
        raise ValueError("callback")

    sessions = SessionManager(store, on_event=explode)
    sessions.sign_in(store.upsert_user("provider|alice", moment()))
    assert "a session event callback raised" in caplog.text


def test_pruning_goes_in_chunks(sessions: SessionManager, store: Counting, alice: str, clock: ManualClock) -> None:
    """Everything that expired long enough ago goes, however many chunks it takes."""
    for _ in range(3):
        sessions.sign_in(alice)
        clock.advance(hours=2)
    assert sessions.prune(timedelta(hours=1), chunk=1) == 3


def test_tracking_on_a_store_that_cannot_record_fails_at_construction() -> None:
    """The message names the protocol; the store works for everything else."""

    class Without(MemorySessions):
        """A session store without batch_record_activity."""

        # From Python 3.12 on, a protocol is looked for in the class: what `__getattr__` answers does not count.
        batch_record_activity = None  # type: ignore[assignment]

    assert SessionManager(Without()).tracker is None
    with pytest.raises(MissingAbility, match="ActivityRecorder"):
        SessionManager(Without(), tracking=activity_tracking())
    with pytest.raises(MissingAbility, match="SessionStore"):
        SessionManager(object())  # type: ignore[arg-type]
