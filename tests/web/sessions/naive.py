"""A login written the way it often is: every attack in these tests works against it, or the test shows nothing.

It has the routes of the real applications.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from tests.web.sessions.world import Door

COOKIE = "session"


class NaiveApp:
    """Takes the client's token as the session, saves every session at the end of every request, checks nothing."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.tokens_by_id: dict[str, str] = {}
        self.door = Door()
        self.log = logging.getLogger("naive")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        cookies = dict(pair.strip().split("=", 1) for pair in environ.get("HTTP_COOKIE", "").split(";") if "=" in pair)
        bearer = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        token = cookies.get(COOKIE) or bearer or query.get("token", [""])[0] or secrets.token_urlsafe(32)
        user = self.sessions.get(token)
        self.log.debug("request session=%s user=%s", token, user)
        status, body, user = self._answer(environ["PATH_INFO"], query, token, user)
        if user is not None:
            self.sessions[token] = user
        cookie = f"{COOKIE}={token}" if user is not None else f"{COOKIE}=; Max-Age=0"
        headers = [("Content-Type", "application/json"), ("Cache-Control", "max-age=60"), ("Set-Cookie", cookie)]
        start_response(f"{status} -", headers)
        return [json.dumps(body).encode()]

    def _answer(
        self, path: str, query: dict[str, list[str]], token: str, user: str | None
    ) -> tuple[int, Any, str | None]:
        if path == "/login":
            return 200, {"session": token, "to": query.get("next", ["/"])[0]}, query["name"][0]
        if path == "/logout":
            return 200, {"ended": self.sessions.pop(token, None) is not None}, None
        if path == "/held":
            self.door.pass_through()
        if path == "/revoke":
            return 200 if self.sessions.pop(query["id"][0], None) else 404, {}, user
        if path == "/devices":
            return 200, [{"id": each} for each in self.sessions], user
        return 200 if user or path == "/who" else 401, {"user": user}, user
