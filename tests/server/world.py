"""A server with two of everything: what belongs to one group, site or person, and what belongs to another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx

from lastseen.devices.key import GROUP_SCOPES, SITE_SCOPES, Scope
from tests.server import people
from tests.server.running import DEADLINE, ServerProcess

FAR = {"x-forwarded-for": "192.0.2.1"}
"""Comes through a proxy, so not from this machine itself."""


class World:
    """Groups `near` and `far`, each with a device and a key; sites `default` and `other`; ada, and bob of `near`."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._programs: dict[str | None, httpx.Client] = {}
        self.ada = people.set_up(server)
        self.root = self.key("root", scopes=Scope)
        for group in ("near", "far"):
            self.make("groups", id=group, name=group.title())
            self.make("devices", id=f"{group}-device", group_id=group, owner_id="somebody")
        self.make("sites", id="other")
        self.near = self.key("near", scopes=GROUP_SCOPES, group_id="near")
        self.far = self.key("far", scopes=GROUP_SCOPES, group_id="far")
        self.near_device = self.key("near device", scopes=GROUP_SCOPES, device_id="near-device")
        self.site = self.key("site", scopes=SITE_SCOPES, site_id="default")
        self.bob = people.add_member(server, self.ada, "bob")
        self.limit_to_group("bob", "near")
        server.http.post("/api/v1/activity", json={"client_id": "some-client"}).raise_for_status()

    def make(self, resource: str, **fields: Any) -> dict[str, Any]:
        """Make something as the administrator."""
        answer = self.ada.post(f"/api/v1/{resource}", json=fields)
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def key(self, name: str, *, scopes: Iterable[Scope], **bound: str) -> str:
        """Make a key and return its secret."""
        return str(self.make("keys", name=name, scopes=sorted(scopes), **bound)["secret"])

    def limit_to_group(self, name: str, group_id: str) -> None:
        """Put a member into a group."""
        user = people.user_id(self.ada, name)
        answer = self.ada.post(f"/users/{user}/group", data={"group_id": group_id})
        assert answer.status_code == 303, answer.text

    def key_id(self, name: str) -> str:
        """Return the id of a key."""
        keys = self.ada.get("/api/v1/keys").json()["keys"]
        return next(str(key["id"]) for key in keys if key["name"] == name)

    def session_id(self, browser: httpx.Client) -> str:
        """Return the public id of a browser's session."""
        sessions = browser.get("/api/v1/sessions").json()["sessions"]
        return next(str(session["id"]) for session in sessions if session["is_current"])

    def with_key(self, secret: str | None) -> httpx.Client:
        """Return a program's connection from elsewhere; the same for the same key."""
        if secret not in self._programs:
            headers = FAR if secret is None else {**FAR, "authorization": f"Bearer {secret}"}
            self._programs[secret] = httpx.Client(base_url=self.server.address, headers=headers, timeout=DEADLINE)
        return self._programs[secret]

    def close(self) -> None:
        """Close all connections."""
        for program in self._programs.values():
            program.close()
        self.ada.close()
        self.bob.close()
