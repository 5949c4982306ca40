"""Accounts of a real server, over HTTP."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastseen.accounts.manager import Accounts
from lastseen.stores import open_store
from tests.server import people
from tests.server.running import DEADLINE, ServerProcess, eventually

# One server a module, and a module a process.
pytestmark = pytest.mark.xdist_group("server-accounts")

PROGRAM = {"accept": "*/*"}
ACTIVITY = "/api/v1/activity?client_id=till"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with an administrator, ada."""
    with ServerProcess(tmp_path_factory.mktemp("office"), measured=True) as server:
        people.set_up(server).close()
        yield server


@pytest.fixture
def ada(office: ServerProcess) -> Iterator[httpx.Client]:
    """Open a browser in which ada is signed in."""
    with people.browser(office) as client:
        assert people.sign_in(client, "ada").status_code == 303
        yield client


@pytest.fixture
def stranger(office: ServerProcess) -> Iterator[httpx.Client]:
    """Open a browser in which nobody is signed in."""
    with people.browser(office) as client:
        yield client


def test_before_the_set_up_everything_is_open(new_server: ServerProcess) -> None:
    """On a loopback address the page, the questions and recording need nobody; the page points at the set-up."""
    assert new_server.http.post(ACTIVITY).status_code == 202
    assert new_server.http.get("/api/v1/clients").json()["clients"][0]["client_id"] == "till"
    assert "Set up an account" in new_server.http.get("/").text
    for path in ("/users", "/audit", "/account/devices", "/account/password"):
        assert new_server.http.get(path).status_code == 404
    with people.browser(new_server) as client:
        assert "lastseen serve" in client.get("/sign-in").text
        assert people.sign_in(client, "ada").status_code == 403


def test_the_set_up_link_works_once(new_server: ServerProcess, tmp_path: Path) -> None:
    """It is on the console only, makes one administrator, and is gone; a form with a mistake does not use it up."""
    link = people.set_up_link(new_server)
    assert link not in new_server.log
    with people.browser(new_server) as client:
        assert client.get("/set-up/" + "x" * 43).status_code == 404
        form = {"name": "eve", "password": people.PASSWORD}
        unsaid = httpx.post(new_server.address + link, data=form, timeout=DEADLINE)
        assert (unsaid.status_code, "set-cookie" in unsaid.headers) == (403, False)
        assert client.get(link).status_code == 200
        wrong = client.post(link, data={"name": "ada", "password": "short"})
        assert (wrong.status_code, 'role="alert"' in wrong.text) == (422, True)
        assert client.post(link, data={"name": "ada", "password": people.PASSWORD}).status_code == 303
        assert client.get("/users").status_code == 200
    with people.browser(new_server) as other:
        assert other.get(link).status_code == 404
        assert other.post(link, data={"name": "eve", "password": people.PASSWORD}).status_code == 404
        assert other.get("/").status_code == 307


def test_a_restart_makes_a_new_link(tmp_path: Path) -> None:
    """The old one is dead; with an administrator there is none."""
    database = f"sqlite:///{tmp_path}/seen.db"
    with ServerProcess(tmp_path, database) as server:
        old = people.set_up_link(server)
    with ServerProcess(tmp_path, database) as server:
        assert people.set_up_link(server) != old
        assert server.http.get(old).status_code == 404
        people.set_up(server).close()
    with ServerProcess(tmp_path, database) as server:
        assert "set-up" not in server.announcement
        assert server.http.get("/api/v1/clients").status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/?status=online", "/users", "/audit", "/account/devices", "/account/password", "/users/", "/nothing"]
)
def test_pages_send_a_browser_to_sign_in(stranger: httpx.Client, path: str) -> None:
    """With the way back; what is not there is not told either."""
    answer = stranger.get(path)
    assert answer.status_code == 307
    assert answer.headers["location"].startswith("/sign-in?next=/")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/clients",
        "/api/v1/clients/count",
        "/api/v1/clients/counts",
        "/api/v1/clients/x",
        "/api/v1/clients/x/hours",
        "/api/v1/activity/hours",
        "/api/v1/openapi.json",
        "/rows",
        "/",
        "/static/../api/v1/clients",
        "/static/%2e%2e/api/v1/clients",
        "//api/v1/clients",
        "/health/live/../../api/v1/clients",
        "/sign-in/../users",
        "/welcome/../users",
        "/set-up/..%2f..%2fusers",
        "/SIGN-IN/",
    ],
)
def test_programs_get_401_and_no_data(office: ServerProcess, ada: httpx.Client, path: str) -> None:
    """Whatever way the path is written, nothing comes out without a session."""
    office.http.post("/api/v1/activity?client_id=secret-client")
    assert "secret-client" in ada.get("/api/v1/clients").text
    connection = http.client.HTTPConnection("127.0.0.1", office.port, timeout=30)
    connection.request("GET", path, headers=PROGRAM)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    assert answer.status in {401, 404}
    assert "secret-client" not in body
    assert "ada" not in body
    if path.startswith("/api/"):
        assert answer.status == 401
        assert answer.getheader("content-type") == "application/problem+json"


def test_what_stays_open_on_this_machine(office: ServerProcess) -> None:
    """Health, figures and recording, for programs here; not for what a proxy passes on."""
    for path in ("/health/live", "/health/ready", "/health/activity", "/metrics", "/static/app.css"):
        assert office.http.get(path).status_code == 200
    assert office.http.post(ACTIVITY).status_code == 202
    for header in ("x-forwarded-for", "forwarded", "x-real-ip", "via"):
        passed_on = {header: "198.51.100.1"}
        for path in ("/metrics", "/health/activity"):
            assert office.http.get(path, headers=passed_on).status_code == 401
        refused = office.http.post("/api/v1/activity?client_id=proxied", headers=passed_on)
        assert refused.status_code == 401
        assert "API key" in refused.json()["detail"]
        assert office.http.get("/health/live", headers=passed_on).status_code == 200


def test_signing_in_leads_back(office: ServerProcess, stranger: httpx.Client) -> None:
    """To where one wanted to go, on this site only; the cookie carries a token that was not there before."""
    stranger.get("/audit")
    before = dict(stranger.cookies)
    answer = people.sign_in(stranger, "ADA", path="/sign-in?next=/audit")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
    assert "lastseen" not in before
    token = stranger.cookies["lastseen"]
    assert stranger.get("/audit").status_code == 200
    assert stranger.get("/sign-in").headers["location"] == "/"
    for evil in ("//evil.example", "https://evil.example", "/\\evil.example", "/%09/evil.example"):
        answer = people.sign_in(stranger, "ada", path=f"/sign-in?next={evil}")
        assert answer.headers["location"] == "/"
    assert stranger.cookies["lastseen"] != token
    with people.browser(office) as thief:
        assert thief.get("/audit", headers={"cookie": f"lastseen={token}"}).status_code == 307


def test_a_wrong_password_and_an_unknown_name_look_the_same(new_server: ServerProcess) -> None:
    """Status, headers and page, but for the name that was typed."""
    people.set_up(new_server).close()
    answers = []
    for name in ("ada", "eve"):
        with people.browser(new_server) as client:
            answers.append(people.sign_in(client, name, "a wrong password"))
    known, unknown = answers
    assert known.status_code == unknown.status_code == 403
    assert known.text.replace("ada", "eve") == unknown.text
    assert [name for name in known.headers if name != "date"] == [name for name in unknown.headers if name != "date"]
    assert "set-cookie" not in known.headers


def test_too_many_attempts_wait(new_server: ServerProcess) -> None:
    """The answer says how long, also to programs, for names that nobody has too."""
    people.set_up(new_server).close()
    with people.browser(new_server) as client:

        def is_throttled() -> bool:
            answer = people.sign_in(client, "nobody", "a wrong password")
            assert answer.status_code in {403, 429}
            return answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 60

        eventually(is_throttled, "attempts are throttled")
        assert people.sign_in(client, "ada").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"sec-fetch-site": "", "origin": "null"},
    ],
)
def test_forms_of_other_sites_are_refused(
    office: ServerProcess, ada: httpx.Client, stranger: httpx.Client, headers: dict[str, str]
) -> None:
    """Neither a signed-in user's forms nor signing in can be sent from elsewhere."""
    for client, path in ((ada, "/sign-out"), (ada, "/users"), (ada, "/account/password"), (stranger, "/sign-in")):
        answer = client.post(path, data={"name": "ada", "password": people.PASSWORD}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert ada.get("/users").status_code == 200


def test_a_form_that_does_not_say_where_it_comes_from_is_refused(office: ServerProcess) -> None:
    """Every browser says one of the two; the negative control says it."""
    form = {"name": "ada", "password": people.PASSWORD}
    for headers, status in (({}, 403), ({"origin": office.address}, 303)):
        answer = httpx.post(f"{office.address}/sign-in", data=form, headers=headers, timeout=DEADLINE)
        assert answer.status_code == status


def test_a_token_of_the_clients_own_is_never_adopted(office: ServerProcess) -> None:
    """Whatever cookie was planted before, signing in hands out another token, and the planted one stays worthless."""
    planted = {"cookie": f"lastseen={'x' * 43}"}
    with people.browser(office) as client:
        answer = client.post("/sign-in", data={"name": "ada", "password": people.PASSWORD}, headers=planted)
        assert answer.status_code == 303
        assert "x" * 43 not in answer.headers["set-cookie"]
        assert httpx.get(f"{office.address}/api/v1/clients", headers=planted, timeout=DEADLINE).status_code == 401


def test_a_form_is_small(stranger: httpx.Client) -> None:
    """Nobody makes the server hash or keep megabytes; the negative control is a long passphrase."""
    assert people.sign_in(stranger, "somebody", "x" * 100_000).status_code == 413
    assert people.sign_in(stranger, "somebody", "long " * 200).status_code == 403


def test_accounts_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """The whole way on the shared database; with the database away nobody is signed out."""
    with ServerProcess(tmp_path, postgres_url) as server:
        ada = people.set_up(server)
        bob = people.add_member(server, ada, "bob")
        (session,) = people.device_ids(ada.get(f"/users/{people.user_id(ada, 'bob')}").text)
        assert bob.post(f"/account/devices/{session}/revoke").status_code == 303
        assert bob.get("/").status_code == 307
        assert people.sign_in(bob, "bob", "a wrong password").status_code == 403
        told = people.words(ada.get("/audit").text)
        assert told.find("sign-in failed bob") < told.find("session revoked by bob") < told.find("server set up by ada")
        ada.close()
        bob.close()


def test_without_its_database_nobody_is_signed_out(tmp_path: Path, postgres: Any) -> None:
    """503, the cookie is kept; when the database is back the session is still there. Monitoring goes on meanwhile."""
    with ServerProcess(tmp_path, postgres.create_database()) as server, closing(people.set_up(server)) as ada:
        postgres.stop()
        try:
            for path in ("/", "/api/v1/clients", "/account/devices"):
                answer = ada.get(path)
                assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
            assert server.http.get("/health/activity").status_code == 200
            assert server.http.post(ACTIVITY).status_code == 202
        finally:
            postgres.start()
        eventually(lambda: ada.get("/users").status_code == 200, "the session is there again")


def test_signing_out_ends_the_session(ada: httpx.Client) -> None:
    """By POST only; the token is dead afterwards, and the browser forgets it."""
    token = ada.cookies["lastseen"]
    assert ada.get("/sign-out").status_code == 405
    assert ada.get("/").status_code == 200
    answer = ada.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "lastseen" not in ada.cookies
    assert ada.get("/", headers={"cookie": f"lastseen={token}"}).status_code == 307


def test_devices_can_be_signed_out(office: ServerProcess, ada: httpx.Client) -> None:
    """One by one or all others; this one is marked and stays."""
    phone = people.browser(office, "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Version/18.0 Safari/605")
    assert people.sign_in(phone, "ada").status_code == 303
    page = ada.get("/account/devices").text
    assert "Safari on iPhone" in page
    assert page.count("this device") == 1
    phones = people.device_ids(phone.get("/account/devices").text)
    own = next(one for one in phones if f"/account/devices/{one}/revoke" not in phone.get("/account/devices").text)
    assert ada.post(f"/account/devices/{own}/revoke").status_code == 303
    assert phone.get("/").status_code == 307
    assert ada.post(f"/account/devices/{own}/revoke").status_code == 404
    assert people.sign_in(phone, "ada").status_code == 303
    assert ada.post("/account/devices/revoke-others").status_code == 303
    assert phone.get("/").status_code == 307
    assert ada.get("/").status_code == 200
    assert len(people.device_ids(ada.get("/account/devices").text)) == 1
    phone.close()


def test_a_member_manages_nobody(office: ServerProcess, ada: httpx.Client) -> None:
    """Users, their sessions and the trail are for administrators; somebody else's session is as unknown as none."""
    with closing(people.add_member(office, ada, "bob")) as bob:
        assert bob.get("/api/v1/clients").status_code == 200
        assert "Audit trail" not in bob.get("/").text
        adas = people.user_id(ada, "ada")
        (session,) = people.device_ids(ada.get("/account/devices").text)[:1]
        for path in ("/users", "/users/", f"/users/{adas}", "/audit", "/audit?before=5"):
            assert bob.get(path).status_code == 403
        for path in (
            "/users",
            f"/users/{adas}/disable",
            f"/users/{adas}/enable",
            f"/users/{adas}/delete",
            f"/users/{adas}/link",
            f"/users/{adas}/revoke-all",
            f"/users/{adas}/sessions/{session}/revoke",
        ):
            assert bob.post(path, data={"name": "eve", "role": "administrator"}).status_code == 403
        theirs, none = (bob.post(f"/account/devices/{one}/revoke") for one in (session, "x" * 22))
        assert theirs.status_code == none.status_code == 404
        assert theirs.text == none.text
        assert ada.get("/users").status_code == 200


def test_an_administrator_manages_users(office: ServerProcess, ada: httpx.Client) -> None:
    """Sees and ends their sessions, disables, enables, makes a new link, and deletes; each at once."""
    cora = people.add_member(office, ada, "cora")
    coras = people.user_id(ada, "cora")
    (session,) = people.device_ids(ada.get(f"/users/{coras}").text)
    assert ada.post("/users", data={"name": "CORA"}).status_code == 422
    assert ada.post(f"/users/{coras}/sessions/{session}/revoke").status_code == 303
    assert cora.get("/").status_code == 307
    assert people.sign_in(cora, "cora").status_code == 303
    assert ada.post(f"/users/{coras}/disable").status_code == 303
    assert cora.get("/").status_code == 307
    assert people.sign_in(cora, "cora").status_code == 403
    assert ada.post(f"/users/{coras}/enable").status_code == 303
    assert people.sign_in(cora, "cora").status_code == 303
    link = ada.post(f"/users/{coras}/link")
    assert cora.get("/").status_code == 200
    path = link.text.partition('id="link">')[2].partition("<")[0].replace(office.address, "")
    assert cora.post(path, data={"password": people.OTHER_PASSWORD}).status_code == 303
    assert cora.get(path).status_code == 404
    assert people.sign_in(cora, "cora").status_code == 403
    assert people.sign_in(cora, "cora", people.OTHER_PASSWORD).status_code == 303
    assert ada.post(f"/users/{coras}/delete").status_code == 303
    assert cora.get("/").status_code == 307
    assert ada.get(f"/users/{coras}").status_code == 404
    cora.close()


def test_the_only_administrator_stays(ada: httpx.Client) -> None:
    """Nobody can lock everybody out of the management."""
    adas = people.user_id(ada, "ada")
    for change in ("disable", "delete"):
        answer = ada.post(f"/users/{adas}/{change}")
        assert answer.status_code == 409
        assert "only administrator" in answer.text
    assert ada.get("/users").status_code == 200


def test_a_new_password_signs_out_everybody_else(office: ServerProcess, ada: httpx.Client) -> None:
    """It needs the current one; this browser goes on with a new token."""
    with closing(people.add_member(office, ada, "dora")) as dora, people.browser(office) as phone:
        assert people.sign_in(phone, "dora").status_code == 303
        token = dora.cookies["lastseen"]
        form = {"current_password": "a wrong password", "password": people.OTHER_PASSWORD}
        assert dora.post("/account/password", data=form).status_code == 422
        assert phone.get("/").status_code == 200
        form["current_password"] = people.PASSWORD
        assert dora.post("/account/password", data=form).status_code == 303
        assert dora.cookies["lastseen"] != token
        assert dora.get("/").status_code == 200
        assert phone.get("/").status_code == 307
        assert phone.get("/", headers={"cookie": f"lastseen={token}"}).status_code == 307


def test_the_trail_tells(new_server: ServerProcess) -> None:
    """Who did what to whom, from which network, newest first; a page that keeps itself current leaves nothing."""
    with closing(people.set_up(new_server)) as ada, closing(people.add_member(new_server, ada, "bob")) as bob:
        bob.post("/sign-out")
        people.sign_in(bob, "bob", "a wrong password")
        ada.get("/rows", headers={"if-none-match": "x"})
        told = people.words(ada.get("/audit").text)
    place = -1
    for what in (
        "sign-in failed bob not signed in, this machine",
        "signed out by bob, Firefox on Linux, this machine",
        "signed in by bob, Firefox on Linux, this machine",
        "one-time link used by bob",
        "user created bob by ada, member",
        "signed in by ada",
        "server set up by ada",
    ):
        found = told.find(what)
        assert found > place, (what, told)
        place = found


def test_no_secret_is_kept_or_shown(tmp_path: Path) -> None:
    """Not one password or token is in the file, the log of the lowest level, or any page; digests are in no page."""
    database = tmp_path / "seen.db"
    secrets: list[str] = [people.PASSWORD, "a wrong password"]
    pages = []
    with ServerProcess(tmp_path, f"sqlite:///{database}", "--log-level", "debug") as server:
        secrets.append(people.set_up_link(server).rpartition("/")[2])
        ada = people.set_up(server)
        link = people.add_user(ada, "bob")
        secrets.append(link.rpartition("/")[2])
        bob = people.browser(server)
        pages.append(bob.get(link).text)
        pages.append(bob.post(link, data={"password": people.PASSWORD}).text)
        pages.append(people.sign_in(bob, "bob", "a wrong password").text)
        secrets += [ada.cookies["lastseen"], bob.cookies["lastseen"]]
        bobs = f"/users/{people.user_id(ada, 'bob')}"
        paths = ("/", "/users", bobs, "/audit", "/account/devices", "/metrics", "/api/v1/openapi.json")
        pages += [ada.get(path).text for path in paths]
        ada.close()
        bob.close()
        server.stop()
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("seen.db*"))
        shown = server.log + "".join(pages)
    assert b"$argon2id$" in kept
    assert b"user created" in kept
    for secret in secrets:
        assert secret.encode() not in kept
        assert secret not in shown
        assert hashlib.sha256(secret.encode()).hexdigest() not in shown
    assert "argon2id" not in shown


def test_another_address_needs_a_session_for_everything(tmp_path: Path) -> None:
    """With an account the server listens where it is told to, and warns; only liveness and readiness stay open."""
    database = f"sqlite:///{tmp_path}/seen.db"
    store = open_store(database)
    store.migrate()
    accounts = Accounts(store.accounts, store.sessions)
    accounts.set_up(accounts.new_set_up_token(), "ada", people.PASSWORD, "127.0.0.1")
    store.close()
    options = ("--host", "0.0.0.0", "--allowed-hosts", "seen.example.org")
    with ServerProcess(tmp_path, database, *options) as server, people.browser(server) as client:
        assert "without TLS" in server.log
        client.headers["host"] = "seen.example.org"
        for path in ("/health/live", "/health/ready", "/static/app.css"):
            assert client.get(path).status_code == 200
        for path in ("/metrics", "/health/activity", "/api/v1/clients"):
            assert client.get(path, headers={**PROGRAM, "host": "localhost"}).status_code == 401
        refused = client.post(ACTIVITY, headers={**PROGRAM, "host": "localhost"})
        assert (refused.status_code, "API key" in refused.json()["detail"]) == (401, True)
        del client.headers["sec-fetch-site"]
        assert "plain http" in client.get("/sign-in").text
        client.headers["sec-fetch-site"] = "same-origin"
        assert "plain http" not in client.get("/sign-in").text
        cookie = people.sign_in(client, "ada").headers["set-cookie"]
        assert cookie.startswith("__Host-lastseen=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}
        with_session = {"cookie": cookie.partition(";")[0]}
        for path in ("/metrics", "/health/activity", "/api/v1/clients", "/"):
            assert client.get(path, headers=with_session).status_code == 200
        assert client.post(ACTIVITY, headers=with_session).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [{"host": "seen.example.org"}, {"x-forwarded-for": "203.0.113.7"}, {"via": "1.1 proxy"}],
    ids=["another-name", "forwarded", "via"],
)
def test_without_an_account_a_proxy_opens_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    """What is open to this machine before there is an account is open to nobody else; the set-up link works."""
    with ServerProcess(tmp_path, None, "--allowed-hosts", "seen.example.org") as server:
        assert server.http.post("/api/v1/activity?client_id=till-4711").status_code == 202
        for path in (
            "/",
            "/visits",
            "/sites",
            "/users",
            "/api/v1/clients",
            "/api/v1/keys",
            "/metrics",
            "/health/activity",
        ):
            answer = server.http.get(path, headers=headers)
            assert (path, answer.status_code) == (path, 403)
            assert "till-4711" not in answer.text
        assert server.http.get("/api/v1/clients", headers=headers).json()["code"] == "not_set_up"
        made = server.http.post("/api/v1/keys", json={"name": "x", "scopes": ["clients:read"]}, headers=headers)
        assert made.status_code == 403
        assert server.http.post("/api/v1/activity?client_id=far", headers=headers).status_code == 401
        for path in ("/lastseen.js", "/health/live", "/health/ready", people.set_up_link(server)):
            assert server.http.get(path, headers=headers).status_code == 200
        assert [client["client_id"] for client in server.http.get("/api/v1/clients").json()["clients"]] == ["till-4711"]
