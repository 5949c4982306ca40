"""`lastseen keys`, `devices` and `sites`: the same commands on a database and through a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lastseen.devices.key import Scope
from tests.cli.conftest import Command, Done
from tests.server import people
from tests.server.running import ServerProcess

# One server a module, and a module a process.


@pytest.fixture(scope="module")
def address_and_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Run a server and make a key that may do everything."""
    with ServerProcess(tmp_path_factory.mktemp("served")) as server, closing(people.set_up(server)) as ada:
        made = ada.post("/api/v1/keys", json={"name": "everything", "scopes": sorted(Scope)}).json()
        server.http.post("/api/v1/groups", json={"name": "Shop", "id": "shop"}, headers={"x-api-key": made["secret"]})
        yield server.address, made["secret"]


@pytest.fixture(params=["database", "server"])
def there(request: pytest.FixtureRequest, call: Command, tmp_path: Path) -> Callable[..., Done]:
    """Call a command on an empty database, or through the server."""
    if request.param == "server":
        address, key = request.getfixturevalue("address_and_key")
        return lambda *arguments: call(*arguments, "--url", address, "--api-key", key)
    database = f"sqlite:///{tmp_path}/lastseen.db"
    assert call("migrate", "--database", database).code == 0
    return lambda *arguments: call(*arguments, "--database", database)


def test_a_key_without_a_name_is_refused(there: Callable[..., Done]) -> None:
    """It would be a blank in every list."""
    refused = there("keys", "create", "")
    assert refused.code != 0
    assert "name" in refused.err
    assert "Traceback" not in refused.err
    assert not [key for key in there("keys", "list", "--json").document["keys"] if not key["name"]]


def test_keys_are_made_listed_rotated_and_revoked(there: Callable[..., Done]) -> None:
    """The secret is printed by what makes it, and by nothing else."""
    made = there("keys", "create", "till 7", "--scope", "activity:write", "--expires-in", "90d", "--json").document
    assert made["secret"].startswith(f"ls_{made['key']['prefix']}_")
    assert (made["key"]["name"], made["key"]["scopes"]) == ("till 7", ["activity:write"])
    rotated = there("keys", "rotate", made["key"]["id"], "--overlap", "1h")
    assert rotated.code == 0
    assert "never again" in rotated.err
    assert rotated.out.count("ls_") == 1
    assert "no scope" not in rotated.err
    assert "no scope" in there("keys", "create", "for an application").err
    listed = there("keys", "list", "--json").document["keys"]
    assert [key["name"] for key in listed].count("till 7") == 2
    assert there("keys", "revoke", made["key"]["id"]).out == "revoked till 7\n"
    table = there("keys", "list")
    assert "revoked" in table.out
    revoked = there("keys", "list", "--status", "revoked", "--json").document["keys"]
    assert [key["id"] for key in revoked] == [made["key"]["id"]]
    for secret in (made["secret"], rotated.out.split("secret")[1].split()[0]):
        assert secret not in table.out


def test_devices_are_registered_listed_and_shown(there: Callable[..., Done]) -> None:
    """Registering again keeps what is left out; one that nobody has seen was seen never."""
    there("devices", "register", "till/7", "--name", "Till 7", "--property", "floor=3", "--property", "room=a b")
    again = there("devices", "register", "till/7", "--platform", "android", "--json").document
    assert (again["name"], again["platform"], again["properties"]) == ("Till 7", "android", {"floor": 3, "room": "a b"})
    assert again["last_seen_at"] is None
    assert [device["id"] for device in there("devices", "list", "--never", "--json").document["devices"]] == ["till/7"]
    assert "never" in there("devices", "list").out
    there("devices", "register", "till/7", "--seen")
    shown = there("devices", "show", "till/7")
    assert "just now" in shown.out
    assert '"a b"' in shown.out
    assert there("devices", "list", "--never", "--json").document == {"devices": [], "next_cursor": None}


def test_sites_are_made_and_get_new_write_keys(there: Callable[..., Done]) -> None:
    """The first one is there; write keys are public, so they are listed."""
    made = there("sites", "create", "shop", "--name", "Shop", "--domain", "shop.example", "--json").document
    assert (made["name"], made["domains"]) == ("Shop", ["shop.example"])
    assert made["write_key"] not in there("sites", "rotate-write-key", "shop").out
    assert {site["id"] for site in there("sites", "list", "--json").document["sites"]} >= {"shop"}
    assert "visits and events stay" in there("sites", "delete", "shop").out
    assert "shop" not in {site["id"] for site in there("sites", "list", "--json").document["sites"]}


def test_a_site_is_edited(there: Callable[..., Done]) -> None:
    """What is left out stays, domains are kept as referrers have them, an empty text takes all away."""
    made = there(
        *("sites", "create", "till", "--domain", "https://www.Till.example:8443/", "--domain", "till.example"),
        *("--excluded-referrer", "Checkout.Stripe.com", "--json"),
    ).document
    assert (made["domains"], made["rule"]["excluded_referrers"]) == (["till.example"], ["checkout.stripe.com"])
    edited = there("sites", "edit", "till", "--excluded-referrer", "paypal.com", "--name", "The till")
    assert "The till" in edited.out
    assert "paypal.com" in edited.out
    again = there("sites", "edit", "till", "--domain", "a.example", "--domain", "b.example", "--json").document
    assert (again["name"], again["domains"]) == ("The till", ["a.example", "b.example"])
    assert again["rule"] == {**made["rule"], "excluded_referrers": ["paypal.com"]}
    bare = there("sites", "edit", "till", "--domain", "", "--excluded-referrer", "", "--json").document
    assert (bare["domains"], bare["rule"]["excluded_referrers"]) == ([], [])
    for option in ("--domain", "--excluded-referrer"):
        refused = there("sites", "edit", "till", option, "not a domain")
        assert refused.code == 2
        assert "such as example.org" in refused.err
    assert there("sites", "delete", "till").code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("devices", "show", "nobody"), "no such device"),
        (("keys", "revoke", "nothing"), "no such key"),
        (("keys", "rotate", "nothing"), "no such key"),
        (("keys", "create", "x", "--device", "nobody"), "no such device"),
        (("keys", "create", "x", "--site", "nowhere"), "no such site"),
        (("keys", "create", "x", "--group", "nobodys"), "no such group"),
        (("sites", "rotate-write-key", "nowhere"), "no such site"),
        (("sites", "edit", "nowhere", "--name", "x"), "no such site"),
        (("sites", "delete", "nowhere"), "no such site"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_what_is_not_there_is_told(there: Callable[..., Done], arguments: tuple[str, ...], word: str) -> None:
    """One line and exit code 1, on either road."""
    done = there(*arguments)
    assert (done.code, done.out) == (1, "")
    assert word in done.err


def test_a_server_that_does_not_answer_is_worth_another_try(call: Command) -> None:
    """Exit code 3, with the address."""
    done = call("keys", "list", "--url", "http://127.0.0.1:9", "--api-key", "ls_x")
    assert done.code == 3
    assert "http://127.0.0.1:9" in done.err


def test_a_key_is_needed_where_the_server_asks_for_one(
    call: Command, address_and_key: tuple[str, str], tmp_path: Path
) -> None:
    """Without one the command is wrong there; a server without an account asks programs on its machine for none."""
    done = call("keys", "list", "--url", address_and_key[0])
    assert done.code == 2
    assert "asks for a key: set LASTSEEN_API_KEY" in done.err
    with ServerProcess(tmp_path) as open_server:
        assert call("keys", "create", "till 7", "--url", open_server.address).code == 0
        assert "till 7" in call("keys", "list", "--url", open_server.address).out


def test_the_key_may_come_from_the_environment(
    call: Command, address_and_key: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is in no list of processes; both variables are no settings."""
    monkeypatch.setenv("LASTSEEN_URL", address_and_key[0])
    monkeypatch.setenv("LASTSEEN_API_KEY", address_and_key[1])
    assert call("keys", "list", "--json").document["keys"]
    assert call("keys", "list").code == 0


def test_a_wrong_key_is_refused(call: Command, address_and_key: tuple[str, str]) -> None:
    """With the server's own words."""
    done = call("devices", "list", "--url", address_and_key[0], "--api-key", "ls_wrong")
    assert done.code == 1
    assert "unknown, expired or revoked" in done.err
