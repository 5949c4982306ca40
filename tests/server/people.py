"""People at browsers, over HTTP: forms are sent as a browser sends them."""

from __future__ import annotations

import re
from html import unescape

import httpx

from tests.server.running import DEADLINE, ServerProcess

PASSWORD = "three words together"
OTHER_PASSWORD = "four other words together"
BROWSER = {"accept": "text/html,*/*;q=0.8", "sec-fetch-site": "same-origin"}


def browser(server: ServerProcess, agent: str = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0") -> httpx.Client:
    """Open a browser that has never been there."""
    headers = {**BROWSER, "user-agent": agent}
    return httpx.Client(base_url=server.address, headers=headers, timeout=DEADLINE)


def set_up_link(server: ServerProcess) -> str:
    """Return the link that the server has printed."""
    found = re.search(r"http://\S+(/set-up/\S+)", server.announcement)
    assert found, server.announcement
    return found[1]


def set_up(server: ServerProcess, name: str = "ada") -> httpx.Client:
    """Make the first administrator; her browser."""
    client = browser(server)
    answer = client.post(set_up_link(server), data={"name": name, "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, path: str = "/sign-in") -> httpx.Response:
    """Send the form."""
    return client.post(path, data={"name": name, "password": password})


def add_user(admin: httpx.Client, name: str, role: str = "member") -> str:
    """Make a user; the path of the link."""
    answer = admin.post("/users", data={"name": name, "role": role})
    assert answer.status_code == 200
    found = re.search(r'id="link">http://[^/]+(/welcome/[^<]+)<', answer.text)
    assert found, answer.text
    return found[1]


def add_member(server: ServerProcess, admin: httpx.Client, name: str) -> httpx.Client:
    """Make a user who chooses a password; their browser."""
    client = browser(server)
    assert client.post(add_user(admin, name), data={"password": PASSWORD}).status_code == 303
    return client


def user_id(admin: httpx.Client, name: str) -> str:
    """Return the id of a user, from the list."""
    found = re.search(rf'/users/([\w-]+)"><b><bdi>{re.escape(name)}<', admin.get("/users").text)
    assert found
    return found[1]


def device_ids(page: str) -> list[str]:
    """Return the public ids of the sessions on a page."""
    return re.findall(r'id="device-([\w-]+)"', page)


def words(page: str) -> str:
    """Return what a page says."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split()).replace(" ,", ",")
