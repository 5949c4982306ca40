"""`lastseen accounts`: the way back in for who forgot the password, on the database beside a running server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lastseen.accounts.account import AccountError, Role
from lastseen.accounts.manager import Accounts, Actor
from lastseen.stores import open_store
from lastseen.wire.users import UserView
from tests.cli.conftest import Command
from tests.server import people
from tests.server.running import ServerProcess


@pytest.fixture(scope="module")
def database_of_ada(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the database that the server of this module uses."""
    return f"sqlite:///{tmp_path_factory.mktemp('data')}/lastseen.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database_of_ada: str) -> Iterator[ServerProcess]:
    """Run a server with one administrator, ada."""
    with ServerProcess(tmp_path_factory.mktemp("served"), database_of_ada) as server:
        people.set_up(server).close()
        yield server


def test_the_only_administrator_gets_in_again(call: Command, server: ServerProcess, database_of_ada: str) -> None:
    """The printed path works at the running server, once, whatever the case of the name; the trail says how."""
    made = call("accounts", "link", "ADA", "--database", database_of_ada)
    assert made.code == 0
    path = made.out.strip()
    assert "works once, until" in made.err
    assert path not in made.err
    assert _signs_in(server, people.PASSWORD)  # the old password works until the link is used
    with closing(people.browser(server)) as ada:
        assert ada.post(path, data={"password": people.OTHER_PASSWORD}).status_code == 303
        assert ada.get(path).status_code == 404
        trail = people.words(ada.get("/audit").text)
    assert not _signs_in(server, people.PASSWORD)
    assert _signs_in(server, people.OTHER_PASSWORD)
    assert "one-time link made ada by command line" in trail
    assert "one-time link used" in trail


def test_a_newer_link_ends_the_one_before(call: Command, server: ServerProcess, database_of_ada: str) -> None:
    """Only the newest link of an account works."""
    arguments = ("accounts", "link", "ada", "--json", "--database", database_of_ada)
    older, newer = (call(*arguments).document for _ in range(2))
    assert newer.keys() == {"name", "path", "expires_at"}
    with closing(people.browser(server)) as ada:
        assert (ada.get(older["path"]).status_code, ada.get(newer["path"]).status_code) == (404, 200)


def test_accounts_are_listed_without_secrets(call: Command, database: str) -> None:
    """With role and state; a disabled account gets no link, which would not work."""
    assert call("migrate", "--database", database).code == 0
    empty = call("accounts", "list", "--database", database)
    assert (empty.code, empty.out) == (0, "")
    assert "lastseen serve" in empty.err
    _add_people(database)
    table = call("accounts", "list", "--database", database).out.splitlines()
    assert [line.split()[:3] for line in table[1:]] == [["bob", "member", "disabled"], ["eve", "administrator", "no"]]
    listed = call("accounts", "list", "--json", "--database", database).document["users"]
    assert [(user["name"], user["is_enabled"], user["has_password"]) for user in listed] == [
        ("bob", False, False),
        ("eve", True, False),
    ]
    assert listed[0].keys() == set(UserView.__struct_fields__)
    refused = call("accounts", "link", "bob", "--database", database)
    assert (refused.code, refused.out) == (1, "")
    assert "bob is disabled" in refused.err


def test_a_name_that_nobody_has_is_told(call: Command, tmp_path: Path) -> None:
    """With the command that lists the names; and a database that is not there is not made."""
    database = f"sqlite:///{tmp_path}/lastseen.db"
    assert call("accounts", "list", "--database", database).code == 1
    assert not (tmp_path / "lastseen.db").exists()
    assert call("migrate", "--database", database).code == 0
    done = call("accounts", "link", "nobody", "--database", database)
    assert (done.code, done.out) == (1, "")
    assert "no account 'nobody'" in done.err
    assert "lastseen accounts list" in done.err


def _signs_in(server: ServerProcess, password: str) -> bool:
    """Try ada's password in a browser that has never been there."""
    with closing(people.browser(server)) as browser:
        return people.sign_in(browser, "ada", password).status_code == 303


def _add_people(database: str) -> None:
    """Make eve, an administrator without a password yet, and bob, a disabled member."""
    with closing(open_store(database)) as store, closing(Accounts(store.accounts, store.sessions)) as accounts:
        actor = Actor(name="test")
        accounts.create(actor, "eve", Role.ADMINISTRATOR)
        bob, _ = accounts.create(actor, "bob", Role.MEMBER)
        accounts.disable(actor, bob.user_id)
        with pytest.raises(AccountError, match="is disabled"):
            accounts.new_link(actor, bob.user_id)
