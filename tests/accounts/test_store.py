"""Accounts and the audit trail in every store: the same promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen.accounts.account import (
    Account,
    AccountNotFound,
    LastAdministrator,
    NameTaken,
    OneTimeLink,
    Role,
)
from lastseen.accounts.audit import AuditAction, AuditEntry
from lastseen.accounts.store import AccountStore
from lastseen.stores import Store, open_store
from lastseen.testing import moment

HOUR = timedelta(hours=1)
ENTRY = AuditEntry(at=moment(), action=AuditAction.USER_CREATED, actor_name="Ada", address="192.0.2.0", detail="member")
LINK = OneTimeLink(digest=b"d" * 32, expires_at=moment() + HOUR)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Open an empty store of each kind."""
    url = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/accounts.db"}.get(request.param)
    store = open_store(url or request.getfixturevalue("postgres_url"))
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def store(opened: Store) -> AccountStore:
    """Return the ability under test."""
    return opened.accounts


def person(name: str, role: Role = Role.MEMBER) -> Account:
    return Account(user_id=f"id-{name}", name=name, role=role, created_at=moment(), has_password=False)


def administrator(store: AccountStore, name: str) -> Account:
    """Add an administrator beside those that are there."""
    account = person(name, Role.ADMINISTRATOR)
    store.add_account(account, replace(LINK, digest=name.encode()), ENTRY)
    store.set_password(account.user_id, f"hash of {name}", ENTRY)
    return account


def test_the_ability_is_there(store: AccountStore) -> None:
    """Each store implements the protocol, and begins empty."""
    assert isinstance(store, AccountStore)
    assert not store.has_administrator()
    assert (store.list_accounts(), store.list_audit()) == ([], [])
    assert store.get_account("nobody") is None
    assert store.find_credentials("nobody\0\ud800") is None


def test_only_one_is_the_first(store: AccountStore) -> None:
    """Of several first administrators at once one is made, and one entry tells so."""
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(
                lambda name: store.add_first_administrator(person(name, Role.ADMINISTRATOR), "hash", ENTRY),
                ["ada", "bob", "cora", "dan"],
            )
        )
    assert sorted(made) == [False, False, False, True]
    assert store.has_administrator()
    assert len(store.list_accounts()) == len(store.list_audit()) == 1


def test_what_was_added_is_found(store: AccountStore) -> None:
    """An account comes back as it is, by id and by name in any case; its hash only when credentials are asked for."""
    store.add_account(person("Bob"), LINK, ENTRY)
    assert store.get_account("id-Bob") == person("Bob")
    store.set_password("id-Bob", "the hash", ENTRY)
    account = replace(person("Bob"), has_password=True)
    found = store.find_credentials(" bOB ")
    assert found == store.get_credentials("id-Bob")
    assert found is not None
    assert (found.account, found.password_hash) == (account, "the hash")
    assert "the hash" not in repr(found)
    assert store.list_accounts() == [account]


def test_a_name_is_taken_once(store: AccountStore) -> None:
    """Whatever the case; nothing is left of the attempt, not even an entry."""
    store.add_account(person("Bob"), LINK, ENTRY)
    with pytest.raises(NameTaken):
        store.add_account(replace(person("BOB"), user_id="other"), replace(LINK, digest=b"e"), ENTRY)
    assert len(store.list_accounts()) == len(store.list_audit()) == 1


def test_a_link_works_once(store: AccountStore) -> None:
    """Of several uses at once one counts; before, a link lasts until its time, and not at it."""
    store.add_account(person("Bob"), LINK, ENTRY)
    assert store.find_link(LINK.digest, moment() + HOUR - timedelta(microseconds=1)) is not None
    assert store.find_link(LINK.digest, moment() + HOUR) is None
    assert store.find_link(b"another", moment()) is None

    def redeem(number: int) -> bool:
        try:
            store.redeem_link(LINK.digest, f"hash {number}", moment(), ENTRY)
        except AccountNotFound:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(redeem, range(4))) == [False, False, False, True]
    assert store.find_link(LINK.digest, moment()) is None


def test_a_link_ends_with_a_new_one_a_password_or_being_disabled(store: AccountStore) -> None:
    """A link that should not work any more does not."""
    store.add_account(person("Bob"), LINK, ENTRY)
    newer = replace(LINK, digest=b"newer")
    store.set_link("id-Bob", newer, ENTRY)
    assert store.find_link(LINK.digest, moment()) is None
    store.disable_account("id-Bob", moment(), ENTRY)
    assert store.find_link(newer.digest, moment()) is None
    with pytest.raises(AccountNotFound):
        store.redeem_link(newer.digest, "hash", moment(), ENTRY)
    store.enable_account("id-Bob", ENTRY)
    assert store.find_link(newer.digest, moment()) is not None
    store.set_password("id-Bob", "hash", ENTRY)
    assert store.find_link(newer.digest, moment()) is None


def test_a_hash_is_refreshed_only_in_place_of_itself(store: AccountStore) -> None:
    """A password that changed meanwhile stays."""
    store.add_account(person("Bob"), LINK, ENTRY)
    store.set_password("id-Bob", "old", ENTRY)
    assert store.refresh_hash("id-Bob", "old", "new")
    assert not store.refresh_hash("id-Bob", "old", "newer")
    found = store.get_credentials("id-Bob")
    assert found is not None
    assert found.password_hash == "new"


def test_the_last_administrator_stays(store: AccountStore) -> None:
    """The only one can neither be disabled nor deleted; of two who do it to each other, one remains."""
    for name in ("ada", "bob"):
        administrator(store, name)

    def remove(user_id: str) -> bool:
        try:
            store.delete_account(user_id, ENTRY)
        except LastAdministrator:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, ["id-ada", "id-bob"])) == [False, True]
    (last,) = store.list_accounts()
    with pytest.raises(LastAdministrator):
        store.disable_account(last.user_id, moment(), ENTRY)
    assert store.has_administrator()


def test_a_member_is_put_into_a_group_and_out_again(store: AccountStore) -> None:
    """From the beginning or later, and each change has its entry."""
    store.add_account(replace(person("Bob"), group_id="shops"), LINK, ENTRY)
    found = store.get_account("id-Bob")
    assert found is not None
    assert found.group_id == "shops"
    for group_id in ("depots", None):
        store.set_group("id-Bob", group_id, ENTRY)
        assert store.list_accounts() == [replace(found, group_id=group_id)]
    assert len(store.list_audit()) == 3


def test_who_is_not_there_cannot_be_changed(store: AccountStore) -> None:
    """Each change raises, and leaves no entry."""
    changes: tuple[Callable[[], None], ...] = (
        lambda: store.set_password("nobody", "hash", ENTRY),
        lambda: store.set_link("nobody", LINK, ENTRY),
        lambda: store.disable_account("nobody", moment(), ENTRY),
        lambda: store.enable_account("no\0body", ENTRY),
        lambda: store.set_group("nobody", "shops", ENTRY),
        lambda: store.delete_account("nobody", ENTRY),
        lambda: store.redeem_link(b"nothing", "hash", moment(), ENTRY),
    )
    for change in changes:
        with pytest.raises(AccountNotFound):
            change()
    assert store.list_audit() == []


def test_the_trail_is_in_order_and_paged(store: AccountStore) -> None:
    """Newest first, by place and not by time; entries come back as they went in."""
    entries = [replace(ENTRY, at=moment() - HOUR * number, detail=str(number)) for number in range(5)]
    for entry in entries:
        store.append_audit(entry)
    newest = store.list_audit(2)
    assert [record.entry for record in newest] == [entries[4], entries[3]]
    rest = store.list_audit(10, newest[-1].id)
    assert [record.entry for record in rest] == [entries[2], entries[1], entries[0]]
    assert store.list_audit(10, rest[-1].id) == []
