"""The contract of `SessionStore`: deadlines, conditional writes, races. Time is handed in, nothing waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from lastseen.errors import SessionNotFound, SessionRefused, TooManySessions, UnknownUser
from lastseen.sessions.session import Session
from lastseen.sessions.store import (
    Reauthentication,
    SessionDraft,
    SessionLimit,
    SessionStore,
    Sighting,
    WhenFull,
)
from lastseen.sessions.token import digest_of, new_session_id, new_token
from lastseen.testing.factories import moment

HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
ROUNDS = 20


class Login:
    """A session that a test made, and its token."""

    def __init__(self, store: SessionStore, user_id: str, at: float = 0, **options: Any) -> None:
        self.token = new_token()
        self.now = moment(at)
        draft = SessionDraft(
            id=new_session_id(), digest=digest_of(self.token), authenticated_at=self.now, **options.pop("draft", {})
        )
        created = store.create_session(user_id, self.now + HOUR, self.now + DAY, self.now, draft, **options)
        self.session = created.session
        self.ended = created.ended
        self.id = self.session.id
        self.digest = digest_of(self.token)


class SessionStoreContract:
    """Inherit, override the `store` fixture, and pytest runs what every session store promises.

    A store that records activity in batches is tested for that too; one that does not sets `records_activity = False`.
    """

    records_activity = True

    @pytest.fixture
    def store(self) -> SessionStore:
        """Return an empty session store with its tables."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def user_id(self, store: SessionStore) -> str:
        """Return a user."""
        return store.upsert_user("provider|alice", moment())

    def test_it_is_a_session_store(self, store: SessionStore) -> None:
        """The protocol is there."""
        assert isinstance(store, SessionStore)

    def test_a_user_is_made_once(self, store: SessionStore) -> None:
        """The same provider id is the same user; the moment of the first time stays."""
        alice = store.upsert_user("provider|alice", moment())
        assert store.upsert_user("provider|alice", moment(60)) == alice
        assert store.upsert_user("provider|bob", moment()) != alice
        user = store.get_user(alice)
        assert user is not None
        assert (user.id, user.provider_id, user.created_at) == (alice, "provider|alice", moment())
        assert store.get_user("nobody") is None
        assert [user.provider_id for user in store.list_users()] == ["provider|alice", "provider|bob"]
        assert [user.provider_id for user in store.list_users(limit=1, after="provider|alice")] == ["provider|bob"]

    def test_what_was_created_is_found(self, store: SessionStore, user_id: str) -> None:
        """By its public id and by the digest of its token, with everything that was said about it."""
        details = {"credential_kind": "bearer", "device": "Firefox on Linux", "address": "192.0.2.0", "label": "work"}
        login = Login(store, user_id, draft=details)
        expected = Session(
            id=login.id,
            user_id=user_id,
            idle_deadline=moment() + HOUR,
            absolute_deadline=moment() + DAY,
            created_at=moment(),
            authenticated_at=moment(),
            last_activity_at=moment(),
            **details,
        )
        assert login.session == store.get_session(login.id) == store.find_session(login.digest) == expected

    def test_what_is_not_there_is_none_to_read_and_an_error_to_change(self, store: SessionStore, user_id: str) -> None:
        """Getting is the documented not-found; extending, rotating and deleting raise."""
        assert store.get_session(new_session_id()) is None
        assert store.find_session(digest_of(new_token())) is None
        with pytest.raises(SessionNotFound):
            store.extend_session(new_session_id(), moment() + HOUR, moment())
        with pytest.raises(SessionNotFound):
            store.rotate_session(new_session_id(), digest_of(new_token()), digest_of(new_token()), moment())
        with pytest.raises(SessionNotFound):
            store.delete_session(new_session_id())
        assert store.delete_user_sessions("nobody", moment()) == 0

    def test_a_session_needs_a_user(self, store: SessionStore) -> None:
        """A user who is not there cannot sign in."""
        with pytest.raises(UnknownUser):
            Login(store, "nobody")

    def test_extending_moves_the_deadline_forward_and_notes_the_activity(
        self, store: SessionStore, user_id: str
    ) -> None:
        """Never back, never beyond the absolute deadline."""
        login = Login(store, user_id)
        now = moment(minutes=50)
        extended = store.extend_session(login.id, now + HOUR, now)
        assert (extended.idle_deadline, extended.last_activity_at) == (now + HOUR, now)
        back = store.extend_session(login.id, moment(minutes=10), moment(minutes=1))
        assert (back.idle_deadline, back.last_activity_at) == (now + HOUR, now)
        capped = store.extend_session(login.id, moment() + 2 * DAY, now)
        assert capped.idle_deadline == capped.absolute_deadline == moment() + DAY
        assert capped == store.get_session(login.id)

    @pytest.mark.parametrize("passed", [HOUR, 2 * HOUR, DAY])
    def test_an_expired_session_is_not_continued(self, store: SessionStore, user_id: str, passed: timedelta) -> None:
        """At the deadline itself it has expired, and no write brings it back."""
        login = Login(store, user_id)
        now = moment() + passed
        with pytest.raises(SessionNotFound):
            store.extend_session(login.id, now + HOUR, now)
        with pytest.raises(SessionNotFound):
            store.rotate_session(login.id, login.digest, digest_of(new_token()), now)
        assert store.list_sessions(user_id, now) == []
        assert store.get_session(login.id) == login.session

    def test_rotation_changes_the_token_and_nothing_else(self, store: SessionStore, user_id: str) -> None:
        """The public id stays, the old token is dead at once, and it cannot rotate again."""
        login = Login(store, user_id)
        fresh = digest_of(new_token())
        rotated = store.rotate_session(login.id, login.digest, fresh, moment(60))
        assert rotated.id == login.id
        assert (rotated.idle_deadline, rotated.absolute_deadline) == (moment() + HOUR, moment() + DAY)
        assert store.find_session(login.digest) is None
        assert store.find_session(fresh) == rotated
        with pytest.raises(SessionNotFound):
            store.rotate_session(login.id, login.digest, digest_of(new_token()), moment(61))

    def test_reauthentication_begins_both_deadlines_anew(self, store: SessionStore, user_id: str) -> None:
        """Proving again who one is counts like signing in, within the same session."""
        login = Login(store, user_id)
        now = moment(minutes=30)
        anew = Reauthentication(idle_deadline=now + HOUR, absolute_deadline=now + DAY)
        rotated = store.rotate_session(login.id, login.digest, digest_of(new_token()), now, reauthentication=anew)
        assert (rotated.authenticated_at, rotated.idle_deadline, rotated.absolute_deadline) == (
            now,
            now + HOUR,
            now + DAY,
        )
        assert rotated.created_at == moment()

    def test_deleting_is_final(self, store: SessionStore, user_id: str) -> None:
        """Deleted twice is an error; nothing that was under way brings the session back."""
        login = Login(store, user_id)
        assert store.delete_session(login.id) == login.session
        with pytest.raises(SessionNotFound):
            store.delete_session(login.id)
        with pytest.raises(SessionNotFound):
            store.extend_session(login.id, moment() + HOUR, moment(60))
        if self.records_activity:
            assert store.batch_record_activity({login.id: moment(60)}) == 0  # type: ignore[attr-defined]
        assert store.get_session(login.id) is None
        assert store.find_session(login.digest) is None

    def test_somebody_elses_session_is_as_unknown_as_none(self, store: SessionStore, user_id: str) -> None:
        """The scope is the user's, and the errors do not differ."""
        login = Login(store, user_id)
        bob = store.upsert_user("provider|bob", moment())
        with pytest.raises(SessionNotFound) as foreign:
            store.delete_session(login.id, user_id=bob)
        with pytest.raises(SessionNotFound) as unknown:
            store.delete_session(new_session_id(), user_id=bob)
        assert str(foreign.value) == str(unknown.value)
        assert store.get_session(login.id) is not None
        assert store.list_sessions(bob, moment()) == []

    def test_all_sessions_of_a_user_end_but_for_one(self, store: SessionStore, user_id: str) -> None:
        """Others' stay; the number is told."""
        logins = [Login(store, user_id, at=-number - 1) for number in range(3)]
        bobs = Login(store, store.upsert_user("provider|bob", moment()))
        assert store.delete_user_sessions(user_id, moment(), except_id=logins[1].id) == 2
        assert [session.id for session in store.list_sessions(user_id, moment())] == [logins[1].id]
        assert store.delete_user_sessions(user_id, moment()) == 1
        assert store.get_session(bobs.id) is not None

    def test_a_login_of_the_same_instant_ends_too(self, store: SessionStore, user_id: str) -> None:
        """Who was authenticated before everything was ended does not get in afterwards; who signs in later does."""
        store.delete_user_sessions(user_id, moment())
        with pytest.raises(SessionRefused):
            Login(store, user_id)
        with pytest.raises(SessionRefused):
            Login(store, user_id, at=-1)
        assert Login(store, user_id, at=1).session.user_id == user_id

    def test_lists_are_sorted_by_activity(self, store: SessionStore, user_id: str) -> None:
        """Most recently active first; expired sessions are not shown, though nobody swept them."""
        old, active = Login(store, user_id, at=-7000), Login(store, user_id, at=-60)
        new = Login(store, user_id)
        store.extend_session(active.id, moment(30) + HOUR, moment(30))
        assert [session.id for session in store.list_sessions(user_id, moment(60))] == [active.id, new.id]
        assert store.get_session(old.id) is not None

    def test_a_login_ends_the_session_that_was_presented(self, store: SessionStore, user_id: str) -> None:
        """In the same transaction, also when it was another user's."""
        bobs = Login(store, store.upsert_user("provider|bob", moment()))
        login = Login(store, user_id, replaces=bobs.digest)
        assert [session.id for session in login.ended] == [bobs.id]
        assert store.find_session(bobs.digest) is None
        assert Login(store, user_id, replaces=digest_of(new_token())).ended == ()

    def test_the_limit_evicts_the_least_active(self, store: SessionStore, user_id: str) -> None:
        """Expired sessions do not count, and the one that is replaced makes its own room."""
        limit = SessionLimit(most=2)
        expired = Login(store, user_id, at=-7200)
        first, second = Login(store, user_id, at=-60, limit=limit), Login(store, user_id, at=-30, limit=limit)
        store.extend_session(first.id, moment() + HOUR, moment(-10))
        third = Login(store, user_id, limit=limit)
        assert [session.id for session in third.ended] == [second.id]
        fourth = Login(store, user_id, at=1, limit=limit, replaces=third.digest)
        assert [session.id for session in fourth.ended] == [third.id]
        assert {session.id for session in store.list_sessions(user_id, moment(2))} == {first.id, fourth.id}
        assert store.get_session(expired.id) is not None

    def test_the_limit_may_refuse(self, store: SessionStore, user_id: str) -> None:
        """Then nothing changes, not even the session that was presented."""
        limit = SessionLimit(most=1, when_full=WhenFull.REFUSE)
        first = Login(store, user_id, limit=limit)
        bobs = Login(store, store.upsert_user("provider|bob", moment()))
        with pytest.raises(TooManySessions):
            Login(store, user_id, limit=limit, replaces=bobs.digest)
        assert store.find_session(bobs.digest) is not None
        assert [session.id for session in store.list_sessions(user_id, moment())] == [first.id]

    def test_devices_are_remembered_beyond_sessions(self, store: SessionStore, user_id: str) -> None:
        """The first device of a user alarms nobody."""
        sightings = [store.remember_device(user_id, device, moment()) for device in ("laptop", "laptop", "phone")]
        assert sightings == [Sighting.FIRST, Sighting.KNOWN, Sighting.NEW]
        store.delete_user_sessions(user_id, moment())
        assert store.remember_device(user_id, "phone", moment()) is Sighting.KNOWN

    def test_pruning_removes_only_the_dead_in_chunks(self, store: SessionStore, user_id: str) -> None:
        """A session that is still valid at the moment is never touched."""
        dead = [Login(store, user_id, at=-7200 - number) for number in range(3)]
        alive = Login(store, user_id)
        assert [store.prune_sessions(moment(), limit=2) for _ in range(3)] == [2, 1, 0]
        assert [store.get_session(login.id) for login in dead] == [None, None, None]
        assert store.get_session(alive.id) == alive.session

    def test_recorded_activity_keeps_to_each_sessions_deadlines(self, store: Any, user_id: str) -> None:
        """Each deadline is compared with the activity's own time; nothing goes back, nobody is resurrected."""
        if not self.records_activity:
            return
        first, second, ended = Login(store, user_id), Login(store, user_id), Login(store, user_id)
        store.delete_session(ended.id)
        batch = {first.id: moment(60), second.id: moment() + HOUR, ended.id: moment(60), "unknown": moment(60)}
        assert store.batch_record_activity(dict(sorted(batch.items()))) == 1
        assert store.batch_record_activity({first.id: moment(30)}) == 0
        assert store.batch_record_activity({}) == 0
        assert [store.get_session(login.id).last_activity_at for login in (first, second)] == [moment(60), moment()]
        assert store.get_session(first.id).idle_deadline == first.session.idle_deadline

    def test_a_logout_wins_over_a_refresh_in_flight(self, store: SessionStore, user_id: str) -> None:
        """However the two interleave, the session is gone in the end."""
        for _ in range(ROUNDS):
            login = Login(store, user_id)
            _race(
                partial(store.delete_session, login.id),
                partial(_ignoring, store.extend_session, login.id, moment(60) + HOUR, moment(60)),
                partial(_ignoring, store.rotate_session, login.id, login.digest, digest_of(new_token()), moment(60)),
            )
            assert store.get_session(login.id) is None

    def test_ending_all_wins_over_a_login_of_the_same_instant(self, store: SessionStore, user_id: str) -> None:
        """However the two interleave, nobody who was authenticated before is in afterwards."""
        for number in range(ROUNDS):
            _race(
                partial(store.delete_user_sessions, user_id, moment(number)),
                partial(_ignoring, Login, store, user_id, number),
                partial(_ignoring, Login, store, user_id, number),
            )
            assert store.list_sessions(user_id, moment(number)) == []

    def test_two_refreshes_at_once_keep_the_later_deadline(self, store: SessionStore, user_id: str) -> None:
        """The order does not matter."""
        for _ in range(ROUNDS):
            login = Login(store, user_id)
            _race(
                partial(store.extend_session, login.id, moment(50) + HOUR, moment(50)),
                partial(store.extend_session, login.id, moment(60) + HOUR, moment(60)),
            )
            session = store.get_session(login.id)
            assert session is not None
            assert (session.idle_deadline, session.last_activity_at) == (moment(60) + HOUR, moment(60))

    def _rotate(self, store: SessionStore, login: Login, digest: bytes, won: list[object]) -> None:
        won.append(_ignoring(store.rotate_session, login.id, login.digest, digest, moment(1)))

    def test_one_of_two_rotations_wins(self, store: SessionStore, user_id: str) -> None:
        """A token rotates once; the other attempt is told that it is dead."""
        for _ in range(ROUNDS):
            login = Login(store, user_id)
            fresh = [digest_of(new_token()), digest_of(new_token())]
            won: list[object] = []
            _race(*(partial(self._rotate, store, login, digest, won) for digest in fresh))
            assert sum(result is not None for result in won) == 1
            assert sum(store.find_session(digest) is not None for digest in fresh) == 1

    def test_the_limit_holds_against_logins_of_the_same_instant(self, store: SessionStore, user_id: str) -> None:
        """However many sign in at once, the user has no more sessions than allowed."""
        limit = SessionLimit(most=2)
        _race(*(partial(Login, store, user_id, at=number, limit=limit) for number in range(8)))
        assert len(store.list_sessions(user_id, moment(10))) == 2

    def test_a_user_is_made_once_by_logins_of_the_same_instant(self, store: SessionStore) -> None:
        """The first sign-in of a user may come twice at once."""
        ids: list[str] = []
        _race(*(lambda: ids.append(store.upsert_user("provider|carol", moment())) for _ in range(4)))
        assert len(set(ids)) == 1


def _race(*calls: Callable[[], object]) -> None:
    """Run the calls at the same instant, and raise what any of them raised."""
    start = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _ignoring(call: Callable[..., object], *arguments: object) -> object:
    """Call, and take "gone" for an answer."""
    try:
        return call(*arguments)
    except (SessionNotFound, SessionRefused):
        return None
