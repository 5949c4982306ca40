"""Accounts as the server uses them, in memory, with a clock that is moved by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lastseen.accounts.account import AccountNotFound, LastAdministrator, NameTaken, Role
from lastseen.accounts.manager import LINK_LIFE, Accounts, Actor, FormProblem
from lastseen.accounts.sign_in import Throttled
from lastseen.errors import SessionNotFound
from lastseen.sessions.manager import Presented
from lastseen.stores import open_store
from tests.accounts.people import ADDRESS, OTHER_PASSWORD, PASSWORD, CountingHasher, World


@pytest.fixture
def world() -> World:
    """Make a server's accounts with one administrator."""
    return World(open_store("memory:"))


def test_the_set_up_link_works_once_and_for_an_hour() -> None:
    """Not after use, not after an hour, not after a newer one, and not with another token."""
    store = open_store("memory:")
    world = World(store)
    with pytest.raises(AccountNotFound):
        world.accounts.set_up(world.accounts.new_set_up_token(), "Eve", PASSWORD, ADDRESS)
    fresh = open_store("memory:")
    accounts = Accounts(fresh.accounts, fresh.sessions, hasher=CountingHasher(), clock=world.clock)
    older, token = accounts.new_set_up_token(), accounts.new_set_up_token()
    assert not accounts.is_set_up_token(older)
    assert not accounts.is_set_up_token("x" * 43)
    assert accounts.is_set_up_token(token)
    world.clock.advance(3_600)
    assert not accounts.is_set_up_token(token)
    token = accounts.new_set_up_token()
    world.clock.advance(3_599)
    accounts.set_up(token, "Ada", PASSWORD, ADDRESS)
    assert not accounts.is_set_up_token(token)
    assert fresh.accounts.has_administrator()


def test_a_link_stays_when_the_form_was_wrong() -> None:
    """A name or a password that cannot be costs nothing."""
    store = open_store("memory:")
    accounts = Accounts(store.accounts, store.sessions, hasher=CountingHasher())
    token = accounts.new_set_up_token()
    for name, password, field in (("", PASSWORD, "name"), ("Ada", "short", "password")):
        with pytest.raises(FormProblem) as caught:
            accounts.set_up(token, name, password, ADDRESS)
        assert caught.value.field == field
    assert accounts.set_up(token, "Ada", PASSWORD, ADDRESS).is_administrator


def test_set_up_in_another_process_ends_this_ones_link(world: World) -> None:
    """Two servers on one database have a link each; the first that is used counts."""
    other = Accounts(world.store.accounts, world.store.sessions, hasher=CountingHasher())
    token = other.new_set_up_token()
    assert not other.is_known_to_be_set_up
    assert not other.is_set_up_token(token)
    assert other.is_set_up()


@pytest.mark.parametrize("name", ["Ada", "nobody", "disabled", "invited", "\0", ""])
def test_every_attempt_costs_one_verification(world: World, name: str) -> None:
    """A name that nobody has, a disabled account and one without password take the same path as a wrong password."""
    disabled, _ = world.accounts.create(world.by_ada, "disabled", Role.MEMBER)
    world.store.accounts.set_password(disabled.user_id, world.hasher.hash(PASSWORD), world.accounts.trail()[0].entry)
    world.accounts.disable(world.by_ada, disabled.user_id)
    world.accounts.create(world.by_ada, "invited", Role.MEMBER)
    before = len(world.actions())
    assert world.accounts.verify(name, "a wrong password", ADDRESS) is None
    assert world.hasher.verified == 1
    assert world.actions()[: len(world.actions()) - before] == ["sign-in failed"]
    if name != "Ada":
        assert world.accounts.verify(name, PASSWORD, ADDRESS) is None
        assert world.hasher.verified == 2


def test_the_right_password(world: World) -> None:
    """Signs in, whatever the case of the name; an outdated hash is made anew on the way."""
    stronger = CountingHasher(time_cost=2)
    accounts = Accounts(world.store.accounts, world.store.sessions, hasher=stronger, clock=world.clock)
    before = world.store.accounts.find_credentials("Ada")
    assert accounts.verify("aDA", PASSWORD, ADDRESS) == world.ada
    after = world.store.accounts.find_credentials("Ada")
    assert before is not None
    assert after is not None
    assert before.password_hash != after.password_hash
    assert "t=2" in (after.password_hash or "")
    assert accounts.verify("Ada", PASSWORD, ADDRESS) == world.ada


def test_what_was_typed_is_not_in_the_trail(world: World) -> None:
    """People type their password into the field for the name: an unknown name is not kept."""
    world.accounts.verify(PASSWORD, "x", ADDRESS)
    world.accounts.verify("Ada", OTHER_PASSWORD, ADDRESS)
    trail = repr(world.accounts.trail())
    assert PASSWORD not in trail
    assert OTHER_PASSWORD not in trail
    assert "192.0.2.0" in trail
    assert ADDRESS not in trail


def test_attempts_at_an_account_are_throttled(world: World) -> None:
    """After a few failures even the right password waits, unverified; then it works, and the count begins anew."""
    for _ in range(6):
        world.clock.advance(1)
        assert world.accounts.verify("Ada", "a wrong password", ADDRESS) is None
    verified = world.hasher.verified
    with pytest.raises(Throttled) as caught:
        world.accounts.verify("ada ", PASSWORD, ADDRESS)
    assert world.hasher.verified == verified
    world.clock.advance(caught.value.seconds)
    assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is not None
    assert world.accounts.verify("Ada", "a wrong password", ADDRESS) is None


def test_guessing_from_many_networks_is_slow_and_keeps_nobody_out(world: World) -> None:
    """One name from everywhere waits too, but where its owner has signed in before, she still does."""
    assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is not None
    waits = []
    for number in range(100):
        try:
            world.accounts.verify("Ada", "a wrong password", f"198.51.{number}.1")
        except Throttled as throttled:
            waits.append(throttled.seconds)
    assert len(waits) > 40
    assert max(waits) <= 10
    assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is not None
    with pytest.raises(Throttled):
        world.accounts.verify("Ada", PASSWORD, "203.0.113.5")


def test_a_name_that_nobody_has_is_throttled_alike(world: World) -> None:
    """Whether there is such an account cannot be told from the waits."""
    waits: dict[str, list[int]] = {"Ada": [], "nobody": []}
    for name, found in waits.items():
        for _ in range(20):
            try:
                world.accounts.verify(name, "a wrong password", ADDRESS)
            except Throttled as throttled:
                found.append(throttled.seconds)
                world.clock.advance(throttled.seconds)
        world.clock.advance(100_000)
    assert waits["Ada"] == waits["nobody"]
    assert 0 < max(waits["Ada"]) <= 60


def test_a_network_is_throttled(world: World) -> None:
    """One address that tries many names waits, and so do its neighbours; others do not."""
    for number in range(20):
        world.accounts.verify(f"name {number}", "a wrong password", "198.51.100.1")
    with pytest.raises(Throttled):
        world.accounts.verify("one more", "a wrong password", "198.51.100.200")
    assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is not None


def test_signing_in_often_is_no_attack(world: World) -> None:
    """Good attempts never wait."""
    for _ in range(50):
        assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is not None


def test_a_user_chooses_a_password_with_a_link(world: World) -> None:
    """The link works once, for three days; sessions that there were end."""
    bob, token = world.accounts.create(world.by_ada, "Bob", Role.MEMBER)
    assert not bob.has_password
    with pytest.raises(FormProblem):
        world.accounts.redeem_link(token, "short", ADDRESS)
    assert world.accounts.redeem_link(token, PASSWORD, ADDRESS).user_id == bob.user_id
    with pytest.raises(AccountNotFound):
        world.accounts.redeem_link(token, OTHER_PASSWORD, ADDRESS)
    world.clock.advance(1)
    session = world.sign_in(bob)
    world.clock.advance(1)
    again = world.accounts.new_link(world.by_ada, bob.user_id)
    assert world.accounts.sessions.authenticate(session).session is not None
    world.accounts.redeem_link(again, OTHER_PASSWORD, ADDRESS)
    assert world.accounts.sessions.authenticate(session).session is None
    late = world.accounts.new_link(world.by_ada, bob.user_id)
    world.clock.advance(LINK_LIFE.total_seconds())
    assert world.accounts.link_account(late) is None


def test_names_are_unique(world: World) -> None:
    """Two users cannot have one name, nor none."""
    with pytest.raises(NameTaken):
        world.accounts.create(world.by_ada, "ADA", Role.MEMBER)
    with pytest.raises(FormProblem):
        world.accounts.create(world.by_ada, " ", Role.MEMBER)


def test_a_session_is_worth_as_much_as_its_account(world: World) -> None:
    """Of a disabled or deleted user no session works, not even one that is made in that instant."""
    bob, token = world.accounts.create(world.by_ada, "Bob", Role.MEMBER)
    world.accounts.redeem_link(token, PASSWORD, ADDRESS)
    world.clock.advance(1)
    session = world.sign_in(bob)
    assert world.accounts.sessions.authenticate(session).presented is Presented.VALID
    world.accounts.disable(world.by_ada, bob.user_id)
    world.clock.advance(1)
    late = world.sign_in(bob)
    for dead in (session, late):
        assert world.accounts.sessions.authenticate(dead).session is None
    world.accounts.enable(world.by_ada, bob.user_id)
    assert world.accounts.sessions.authenticate(session).session is None
    world.accounts.delete(world.by_ada, bob.user_id)
    assert world.accounts.sessions.authenticate(late).session is None
    assert world.accounts.watching_sessions.authenticate(late).session is None


def test_a_name_may_be_used_again_but_nothing_is_inherited(world: World) -> None:
    """A new user with the name of a deleted one is another user."""
    first, _ = world.accounts.create(world.by_ada, "Bob", Role.MEMBER)
    world.accounts.delete(world.by_ada, first.user_id)
    second, _ = world.accounts.create(world.by_ada, "Bob", Role.MEMBER)
    assert first.user_id != second.user_id


def test_the_only_administrator_stays(world: World) -> None:
    """Nobody locks everybody out."""
    with pytest.raises(LastAdministrator):
        world.accounts.disable(world.by_ada, world.ada.user_id)
    with pytest.raises(LastAdministrator):
        world.accounts.delete(world.by_ada, world.ada.user_id)


def test_the_password_is_changed_by_who_knows_it(world: World) -> None:
    """A wrong current password is refused, counted and told; the right one replaces it."""
    with pytest.raises(FormProblem, match="current"):
        world.accounts.change_password(world.by_ada, "a wrong password", OTHER_PASSWORD)
    with pytest.raises(FormProblem, match="characters"):
        world.accounts.change_password(world.by_ada, PASSWORD, "short")
    world.accounts.change_password(world.by_ada, PASSWORD, OTHER_PASSWORD)
    assert world.actions()[:2] == ["password changed", "password change refused"]
    assert world.accounts.verify("Ada", PASSWORD, ADDRESS) is None
    assert world.accounts.verify("Ada", OTHER_PASSWORD, ADDRESS) is not None


def test_one_revokes_ones_own(world: World) -> None:
    """Somebody else's session is as unknown as one that never was; the trail tells what ended."""
    bob, token = world.accounts.create(world.by_ada, "Bob", Role.MEMBER)
    world.accounts.redeem_link(token, PASSWORD, ADDRESS)
    world.clock.advance(1)
    world.sign_in(bob)
    (session,) = world.accounts.sessions_of(bob.user_id)
    for session_id in (session.id, "x" * 22, ""):
        with pytest.raises(SessionNotFound):
            world.accounts.revoke(world.by_ada, world.ada.user_id, session_id)
    world.accounts.revoke(Actor(account=bob, address=ADDRESS), bob.user_id, session.id)
    assert world.accounts.sessions_of(bob.user_id) == []
    assert world.actions()[0] == "session revoked"


def test_activity_is_tracked_in_batches_and_not_for_pages_that_ask_by_themselves(world: World) -> None:
    """A request of a person moves the last activity, a page that keeps itself current neither that nor the deadline."""
    token = world.sign_in(world.ada)
    began = world.accounts.sessions_of(world.ada.user_id)[0]
    world.clock.advance(60)
    world.accounts.watching_sessions.authenticate(token)
    assert world.accounts.sessions_of(world.ada.user_id) == [began]
    world.accounts.sessions.authenticate(token)
    (moved,) = world.accounts.sessions_of(world.ada.user_id)
    assert moved.last_activity_at - began.last_activity_at == timedelta(seconds=60)
    assert world.accounts.close() == 0
    stored = world.store.sessions.get_session(began.id)
    assert stored is not None
    assert stored.last_activity_at == moved.last_activity_at


def test_a_new_device_is_in_the_trail(world: World) -> None:
    """The first one is no news, the next one is."""
    world.sign_in(world.ada)
    assert "new device" not in world.actions()
    world.accounts.sessions.sign_in(world.ada.user_id, address=ADDRESS, device="Safari on iPhone")
    record = world.accounts.trail()[0].entry
    assert (record.action.value, record.subject_name, record.detail) == ("new device", "Ada", "Safari on iPhone")
