"""Which client a request names: in its JSON body, query, header, path, as the authenticated principal, or your way.

A *source* is a function from the facts of a request to the client's id, or None. Sources are pure and free of any
framework; `lastseen.web` brings the facts. What a source returns is checked by the tracker, which refuses and counts
ids that can never be stored (see `activity/key.py`).

```
json_body("client_id")                      {"client_id": "till-7", …}
query("client_id")                          /report?client_id=till-7
header("X-Client-ID")                       X-Client-ID: till-7
path("/devices/{client_id}/location")       /devices/till-7/location
principal()                                 whoever is logged in
lambda facts: facts.header("X-Unit")        any function of yours
first_of(json_body(), query())              the first that names a client; this one is the default
```
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from lastseen.errors import ConfigurationError


class RequestFacts(Protocol):
    """What a source may look at. Nothing here changes the request or makes it wait."""

    @property
    def method(self) -> str:
        """The method in capitals; GET for the handshake of a websocket."""

    @property
    def path(self) -> str:
        """The path below the application's mount point, percent-decoded."""

    @property
    def query_string(self) -> bytes:
        """What follows the question mark, as it was sent."""

    @property
    def arrived_at(self) -> float:
        """When the request arrived, in seconds since 1970."""

    @property
    def body(self) -> bytes | None:
        """The whole body when it is JSON, not compressed, not over the peek limit, and was read; else None."""

    @property
    def principal(self) -> Any:
        """Who the application says is logged in; None when nobody is, and when the answer is 401."""

    @property
    def native(self) -> Any:
        """The request in its framework's own shape: the ASGI scope, the WSGI environ, Django's HttpRequest."""

    def header(self, name: str) -> str | None:
        """Return the header's (first) value, or None; any case of the name will do."""


ClientSource = Callable[[RequestFacts], str | None]
"""Attributes `reads_body = False` and `reads_principal = False` on it save the adapters work; without them, a source is
taken to read both and is asked when the answer starts."""

_JSON_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_decode_string: Callable[[bytes], str] = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class JSONBody:
    """See `json_body`."""

    name: str
    decode_text: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)
    _decode_any: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)
    reads_body = True
    reads_principal = False

    def __post_init__(self) -> None:
        # The one member is built and the rest is skipped. Raw keeps it as it was written, whatever it is.
        object.__setattr__(self, "decode_text", _member_decoder(self.name, str | None, None))
        object.__setattr__(self, "_decode_any", _member_decoder(self.name, msgspec.Raw, msgspec.Raw()))

    def __call__(self, facts: RequestFacts) -> str | None:
        """Return the member's text; never raises."""
        body = facts.body
        if not body:
            return None
        try:
            return self.decode_text(body).client or None
        except (ValueError, RecursionError):
            return self._other_than_text(body)

    def _other_than_text(self, body: bytes) -> str | None:
        try:
            raw = bytes(self._decode_any(body).client)
            if raw[:1] == b'"':
                return _decode_string(raw) or None
        except (ValueError, RecursionError):
            # msgspec's errors are ValueErrors; a body nested too deep for it names no client either.
            return None
        return raw.decode("ascii") if _JSON_NUMBER.fullmatch(raw) else None


def _member_decoder(name: str, kind: Any, default: object) -> Callable[[bytes], Any]:
    body = msgspec.defstruct("Body", [("client", kind, default)], rename={"client": name}, gc=False)
    return msgspec.json.Decoder(body).decode


@dataclass(frozen=True, slots=True)
class Query:
    """See `query`."""

    name: str
    _encoded: bytes = field(init=False, repr=False, compare=False)
    reads_body = False
    reads_principal = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_encoded", self.name.encode())

    def __call__(self, facts: RequestFacts) -> str | None:
        """Return the parameter's text; never raises."""
        query_string = facts.query_string
        if not query_string:
            return None
        wanted = self._encoded
        for pair in query_string.split(b"&"):
            name, _, value = pair.partition(b"=")
            if value and (name == wanted or ((b"%" in name or b"+" in name) and _unquote(name) == wanted)):
                return _unquote(value).decode("utf-8", "replace")
        return None


def _unquote(text: bytes) -> bytes:
    """Decode a name or a value as HTML forms encode them (https://url.spec.whatwg.org/#urlencoded-parsing)."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


@dataclass(frozen=True, slots=True)
class Header:
    """See `header`."""

    name: str
    reads_body = False
    reads_principal = False

    def __call__(self, facts: RequestFacts) -> str | None:
        """Return the header's text."""
        return facts.header(self.name) or None


@dataclass(frozen=True, slots=True)
class Path:
    """See `path`."""

    template: str
    name: str = "client_id"
    _match: Callable[[str], re.Match[str] | None] = field(init=False, repr=False, compare=False)
    reads_body = False
    reads_principal = False

    def __post_init__(self) -> None:
        parts = re.split(r"(\{[^{}]*\}|\*)", self.template)
        if parts.count(f"{{{self.name}}}") != 1:
            raise ConfigurationError(f"the path template {self.template!r} must contain {{{self.name}}} once")
        object.__setattr__(self, "_match", re.compile("".join(map(self._pattern, parts)), re.DOTALL).fullmatch)

    def _pattern(self, part: str) -> str:
        if part == "*":
            return ".*"
        if part.startswith("{"):
            return "([^/]+)" if part == f"{{{self.name}}}" else "[^/]+"
        return re.escape(part)

    def __call__(self, facts: RequestFacts) -> str | None:
        """Return the segment of the path that the template names, or None when the path is another."""
        found = self._match(facts.path)
        return found and found[1]


@dataclass(frozen=True, slots=True)
class Principal:
    """See `principal`."""

    name: Callable[[Any], object] | None = None
    reads_body = False
    reads_principal = True

    def __call__(self, facts: RequestFacts) -> str | None:
        """Return the principal's name, or None when nobody is logged in."""
        who = facts.principal
        if who is None:
            return None
        found = principal_name(who) if self.name is None else self.name(who)
        return None if found is None or found == "" else str(found)


@dataclass(frozen=True, slots=True)
class FirstOf:
    """See `first_of`."""

    sources: tuple[ClientSource, ...]
    reads_body: bool = field(init=False)
    reads_principal: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads_body", any(map(reads_body, self.sources)))
        object.__setattr__(self, "reads_principal", any(map(reads_principal, self.sources)))

    def __call__(self, facts: RequestFacts) -> str | None:
        """Ask one source after the other."""
        for source in self.sources:
            client = source(facts)
            if client is not None:
                return client
        return None


def reads_body(source: ClientSource) -> bool:
    """Return whether the source may look at the body; unknown functions may."""
    return bool(getattr(source, "reads_body", True))


def reads_principal(source: ClientSource) -> bool:
    """Return whether the source may look at the principal; unknown functions may."""
    return bool(getattr(source, "reads_principal", True))


def text_decoder(source: ClientSource) -> Callable[[bytes], Any] | None:
    """Return what decodes a body into an object whose `client` is the text that the source would name, or None.

    Only of sources that look at the body first. What it returns raises `ValueError` for any other body, and its client
    may be None or empty: then the source has to be asked.
    """
    first = source.sources[0] if isinstance(source, FirstOf) else source
    return first.decode_text if isinstance(first, JSONBody) else None


def json_body(name: str = "client_id") -> JSONBody:
    """Take the client from a member of the JSON object in the body.

    A text that is not empty is the client; a number is its text exactly as it was written (`42`, not `42.0`). Anything
    else (true, null, a list, an object, no JSON at all) is not a client. Of a repeated name the last counts, as in
    every JSON parser of Python. Only JSON media types are looked at: application/json and application/*+json.
    """
    return JSONBody(name)


def query(name: str = "client_id") -> Query:
    """Take the client from the query: the first value that is not empty, decoded like a form."""
    return Query(name)


def header(name: str = "X-Client-ID") -> Header:
    """Take the client from a header; of a repeated one the first counts.

    Bytes beyond ASCII are read as UTF-8, and as Latin-1 where they are not UTF-8.
    """
    return Header(name)


def path(template: str, name: str = "client_id") -> Path:
    """Take the client from the path, whatever the framework calls its routes.

    `{name}` stands for one segment, `*` for anything: `/devices/{client_id}/*`. The whole path below the application's
    mount point must fit. Raises `ConfigurationError` for a template without `{client_id}` (or the name given).
    """
    return Path(template, name)


def principal(name: Callable[[Any], object] | None = None) -> Principal:
    """Take the client from who is logged in; nobody, and an answer of 401, record nothing.

    `name` makes an id of the principal; without it `principal_name` does.
    """
    return Principal(name)


def first_of(*sources: ClientSource) -> FirstOf:
    """Take the first client that one of the sources names, in this order."""
    if not sources:
        raise ConfigurationError("first_of needs at least one source")
    return FirstOf(sources)


def principal_name(who: Any) -> str | None:
    """Return a text or a number as text, else the first of the attributes pk, id, identity, username, display_name."""
    if isinstance(who, str | int) and not isinstance(who, bool):
        return str(who)
    for attribute in ("pk", "id", "identity", "username", "display_name"):
        try:
            found = getattr(who, attribute, None)
        except NotImplementedError:
            # Starlette's BaseUser has properties that only raise.
            continue
        if found is not None and found != "":
            return str(found)
    return None


def authenticated(who: Any) -> Any:
    """Return the principal, or None when it says itself that it is not authenticated (an anonymous user)."""
    if who is None or who == "":
        return None
    return who if getattr(who, "is_authenticated", True) else None


DEFAULT_SOURCE = first_of(json_body(), query())
"""The client in the JSON body, and where that names none, in the query."""
