"""Something that keeps cookies by the rules of browsers and asks over HTTP.

The rules are those of draft-ietf-httpbis-rfc6265bis, 5.6 and 5.7, for a page at https://app.example.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from tests.web.sessions.world import ORIGIN

DEADLINE = 30.0
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


class CookieRefusedError(AssertionError):
    """A browser would not keep this cookie, or it lacks what this product promises."""


@dataclass(frozen=True, kw_only=True)
class ParsedCookie:
    """A `Set-Cookie` header as a browser understands it."""

    name: str
    value: str
    attributes: dict[str, str]

    @property
    def deletes(self) -> bool:
        """Whether it removes the cookie."""
        return self.attributes.get("max-age") == "0"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What browsers tell cookies apart by."""
        return self.name, self.attributes.get("domain", ""), self.attributes.get("path", "")


def parsed(header: str) -> ParsedCookie:
    """Take a header apart (5.6)."""
    first, *rest = header.split(";")
    name, _, value = first.partition("=")
    attributes = {}
    for part in rest:
        key, _, text = part.partition("=")
        attributes[key.strip(" \t").lower()] = text.strip(" \t")
    return ParsedCookie(name=name.strip(" \t"), value=value.strip(" \t"), attributes=attributes)


def validated(header: str) -> ParsedCookie:
    """Return the cookie when a browser keeps it and it is as safe as promised; `CookieRefusedError` otherwise."""
    cookie = parsed(header)
    attributes = cookie.attributes
    problems = []
    if len(cookie.name) + len(cookie.value) > 4096:
        problems.append("longer than 4096 bytes")
    if not cookie.name.startswith(("__Host-", "__Secure-")):
        problems.append("no prefix")
    if cookie.name.lower().startswith(("__host-", "__secure-")) and "secure" not in attributes:
        problems.append("a prefix without Secure")
    if cookie.name.lower().startswith("__host-") and ("domain" in attributes or attributes.get("path") != "/"):
        problems.append("__Host- with a domain or another path")
    if "secure" not in attributes:
        problems.append("no Secure")
    if "httponly" not in attributes:
        problems.append("no HttpOnly")
    if attributes.get("samesite", "").lower() not in {"lax", "strict", "none"}:
        problems.append("no SameSite")
    if attributes.get("samesite", "").lower() == "none" and "secure" not in attributes:
        problems.append("SameSite=None without Secure")
    if "max-age" in attributes and int(attributes["max-age"]) > 400 * 86_400:
        problems.append("longer than 400 days")
    if problems:
        raise CookieRefusedError(f"{', '.join(problems)}: {header}")
    return cookie


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str | None:
        """Return all values of a header, joined, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def vary(self) -> set[str]:
        """Return what the answer varies by."""
        return {name.strip().lower() for name in (self.header("vary") or "").split(",")} - {""}

    @property
    def cookies(self) -> list[ParsedCookie]:
        """Return the cookies that were set, each kept by a browser."""
        return [validated(value) for key, value in self.headers if key.lower() == "set-cookie"]

    @property
    def loose_cookies(self) -> list[ParsedCookie]:
        """Return the cookies that were set, whatever they are like."""
        return [parsed(value) for key, value in self.headers if key.lower() == "set-cookie"]

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.text)


@dataclass
class Browser:
    """A browser with a page of the site open; when it is not strict, it keeps every cookie."""

    port: int
    jar: dict[str, str] = field(default_factory=dict)
    strict: bool = True
    answers: list[Answer] = field(default_factory=list)

    def ask(self, method: str, target: str, headers: dict[str, str | None] | None = None) -> Answer:
        """Send a request; a header that is None is left out."""
        defaults: dict[str, str | None] = {
            "Accept": "application/json",
            "Sec-Fetch-Site": "same-origin",
            "Origin": None if method in {"GET", "HEAD"} else ORIGIN,
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items()) or None,
        }
        sent = {name: value for name, value in {**defaults, **(headers or {})}.items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, target, headers=sent)
            response = connection.getresponse()
            answer = Answer(status=response.status, headers=response.getheaders(), text=response.read().decode("utf-8"))
        finally:
            connection.close()
        self._keep(answer)
        self.answers.append(answer)
        return answer

    def get(self, target: str, **headers: str | None) -> Answer:
        """Follow a link within the site."""
        return self.ask("GET", target, _named(headers))

    def post(self, target: str, **headers: str | None) -> Answer:
        """Send a form of the site."""
        return self.ask("POST", target, _named(headers))

    def _keep(self, answer: Answer) -> None:
        for cookie in answer.cookies if self.strict else answer.loose_cookies:
            if cookie.deletes:
                self.jar.pop(cookie.name, None)
            else:
                self.jar[cookie.name] = cookie.value

    @property
    def token(self) -> str | None:
        """The session's token in the jar."""
        return self.jar.get("__Host-id")


def _named(headers: dict[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
