"""The front door: who may ask, which road a request takes, and how long it took."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from time import perf_counter
from urllib.parse import urlsplit

from lastseen.server.access import BY_PROXIES, Access, is_loopback_name
from lastseen.server.body import Message, Receive, Scope, Send
from lastseen.server.metrics import Metrics
from lastseen.server.policy import POLICY
from lastseen.server.problem import Problem, cut_off, stopping
from lastseen.server.receive import PATH as ACTIVITY
from lastseen.server.receive import ActivityRoute, answer

API_PREFIX = "/api/v1/"

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_SECURITY_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NO_STORE = (b"cache-control", b"no-store")
_REMEMBERED_HOSTS = 1_000
_KEYS = frozenset({b"authorization", b"x-api-key"})
_DECIDING = _KEYS | BY_PROXIES | {b"host", b"origin", b"sec-fetch-site", b"content-type", b"content-encoding"}
"""Every header that decides whether activity may be recorded without a credential, or how its body is read."""


class Gate:
    """Dispatches the hot route before everything else, which goes through `Access` to Litestar.

    Two things protect the data from pages in a browser, with accounts and without: a `Host` that is not this server's
    is refused (DNS rebinding), and so is a write that a page of another origin starts.
    """

    def __init__(self, pages: Access, activity: ActivityRoute, metrics: Metrics, hosts: Iterable[str]) -> None:
        self._pages = pages
        self._activity = activity
        self._metrics = metrics
        self._hosts = {host.lower().strip("[]") for host in hosts}
        self._known_hosts: set[bytes] = set()
        # Those of them that are names of this machine, when it listens for itself alone: whoever names one of them, and
        # sends nothing of what is asked for, may record.
        self._names_of_here: set[bytes | None] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection event of ASGI."""
        if scope["type"] != "http":
            return self._pages(scope, receive, send)
        if scope["path"] == ACTIVITY and scope["method"] == "POST" and self._is_usual(scope):
            return self._activity.answer_usual(scope, receive, send)
        return self._serve(scope, receive, send)

    def _is_usual(self, scope: Scope) -> bool:
        """Return whether activity comes plainly from this machine, so that nothing else needs to be asked.

        What the general way asks comes to the same; it takes a microsecond, which here is a tenth of everything.
        """
        host = media_type = None
        # As in a dictionary of all, which takes three times as long to make, the last one of a name counts.
        for name, value in scope["headers"]:
            if name in _DECIDING:
                if name == b"host":
                    host = value
                elif name == b"content-type":
                    media_type = value
                else:
                    return False
        return media_type == b"application/json" and host in self._names_of_here and not scope["query_string"]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        method: str = scope["method"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host")
        problem = None if host in self._known_hosts else self._host_problem(host)
        if problem is None and method not in _SAFE_METHODS:
            problem = _origin_problem(headers)
        try:
            if problem is not None:
                route, status = "refused", await answer(problem, send)
            elif scope["path"] == ACTIVITY and _KEYS.isdisjoint(headers) and self._pages.is_open_here(headers):
                route, status = ACTIVITY, await self._activity(scope, headers, receive, send)
            else:
                route, status = await self._serve_page(scope, receive, send)
        except asyncio.CancelledError:
            route, status = "cut off", await cut_off(answer(stopping(), send))
        self._metrics.request(method, route, status, perf_counter() - began)

    async def _serve_page(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int]:
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _secured(list(message["headers"]))
            await send(message)

        inner = _for_litestar(scope)
        await self._pages(inner, receive, send_with_headers)
        return inner.get("path_template") or "unmatched", status

    def _host_problem(self, host: bytes | None) -> Problem | None:
        name = _host_name(host)
        if name not in self._hosts:
            return Problem(
                421,
                f"this server does not answer for the host {name[:100]!r}; if it should, add it to allowed_hosts",
            )
        if host is not None and len(self._known_hosts) < _REMEMBERED_HOSTS:
            self._known_hosts.add(host)
            if self._pages.is_loopback and is_loopback_name(host):
                self._names_of_here.add(host)
        return None


def _host_name(host: bytes | None) -> str:
    try:
        return urlsplit("//" + (host or b"").decode("ascii")).hostname or ""
    except ValueError:
        return ""


def _origin_problem(headers: dict[bytes, bytes]) -> Problem | None:
    """Refuse a write that a browser starts for a page of another origin.

    The rule of Go's http.CrossOriginProtection (https://pkg.go.dev/net/http#CrossOriginProtection): browsers send
    Sec-Fetch-Site, older ones at least Origin; whatever sends neither is no browser.
    """
    site = headers.get(b"sec-fetch-site")
    if site is None:
        origin = headers.get(b"origin")
        allowed = origin is None or origin.partition(b"://")[2] == headers.get(b"host")
    else:
        allowed = site in {b"same-origin", b"none"}
    return None if allowed else Problem(403, "a page of another site may not write here; send it from a program")


def _for_litestar(scope: Scope) -> Scope:
    """Return the scope that Litestar routes by, never the server's own.

    An id is one segment of the *raw* path, so that it may contain a slash. HEAD is GET whose body the HTTP server
    leaves out.
    """
    inner = dict(scope)
    if scope["path"].startswith(API_PREFIX):
        inner["path"] = scope["raw_path"].split(b"?", 1)[0].decode("latin-1")
    if scope["method"] == "HEAD":
        inner["method"] = "GET"
    return inner


def _secured(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in headers}
    if b"cache-control" not in present:
        headers.append(_NO_STORE)
    # A page may bring a policy of its own.
    return headers + [header for header in _SECURITY_HEADERS if header[0] not in present]
