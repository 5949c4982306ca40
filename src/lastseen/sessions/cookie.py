"""One cookie: its name, its attributes, how it is read, written and deleted. Pure.

The rules are those of RFC 6265 as browsers now apply them (draft-ietf-httpbis-rfc6265bis): a name that begins with
`__Host-` is only taken with Secure, Path=/ and without Domain, so that neither a sister host nor plain http can plant
it; `__Secure-` only with Secure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Literal

from lastseen.errors import ConfigurationError, SessionError

LONGEST_LIFE = timedelta(days=400)
"""Browsers cut longer lives down to this."""
LARGEST = 4096
"""Bytes of name and value together that every browser keeps."""
_LARGEST_ATTRIBUTE = 1024
_LONGEST_VALUE = 3072

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?").fullmatch
_PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*").fullmatch
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*").fullmatch
_SAME_SITE = {"lax": "Lax", "strict": "Strict", "none": "None"}

Header = tuple[str, str]


class CredentialConflict(SessionError):
    """One request carries two values where there can be one; none of them is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestHead:
    """What of a request decides about its session.

    Header names are in lower case, values are text of Latin-1; of a repeated header the values are joined, those of
    `cookie` with a semicolon, all others with a comma.
    """

    method: str = "GET"
    """In capitals; `WEBSOCKET` for the handshake of a websocket, which browsers send across sites, with cookies."""
    scheme: str = "https"
    host: str = ""
    """Host and port that the request was sent to."""
    path: str = "/"
    """Below the application's mount point, percent-decoded: what routes and patterns are compared with."""
    target: str = "/"
    """Path and query as they were sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Of the client."""

    def is_plain_localhost(self) -> bool:
        """Return whether this is plain http to a loopback host, which no network carries."""
        return self.scheme in {"http", "ws"} and _is_loopback(self.host)


def _is_loopback(host: str) -> bool:
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cookie:
    """A cookie's name without prefix, and its attributes; HttpOnly always. `ConfigurationError` for what none may be.

    The prefix follows from the attributes: `__Host-`, or `__Secure-` with a domain or another path than `/`, or none
    without `secure`. `plain_http_on_localhost` is for development: over plain http to a loopback host, and only there,
    the cookie has no prefix, Secure or Domain, because some browsers and most clients would not keep it.
    """

    name: str
    domain: str | None = None
    path: str = "/"
    same_site: Literal["lax", "strict", "none"] = "lax"
    secure: bool = True
    plain_http_on_localhost: bool = False

    def __post_init__(self) -> None:
        if not _NAME(self.name) or self.name.lower().startswith(("__host-", "__secure-")):
            raise ConfigurationError("a cookie's name is of letters, digits and -_.; the prefix is added to it")
        if len(self.prefixed_name) > LARGEST - _LONGEST_VALUE:
            raise ConfigurationError(f"a cookie's name may be {LARGEST - _LONGEST_VALUE} characters long")
        if self.same_site not in _SAME_SITE:
            raise ConfigurationError("same_site must be lax, strict or none")
        if self.same_site == "none" and not self.secure:
            raise ConfigurationError("same_site none needs secure: browsers refuse such a cookie otherwise")
        if self.domain is not None and not (_DOMAIN(self.domain) and len(self.domain) <= _LARGEST_ATTRIBUTE):
            raise ConfigurationError("domain must be a host name, such as example.com")
        if not (_PATH(self.path) and len(self.path) <= _LARGEST_ATTRIBUTE):
            raise ConfigurationError("path must begin with a slash and hold no semicolon, space or control character")

    @property
    def prefixed_name(self) -> str:
        """Return the name as browsers know it, but for development on localhost."""
        if not self.secure:
            return self.name
        return ("__Host-" if self.domain is None and self.path == "/" else "__Secure-") + self.name

    def read(self, request: RequestHead) -> str | None:
        """Return the cookie's value, or None; `CredentialConflict` when it is there with different values.

        Only space and tab are taken off a name: some servers take off other blanks too, and so let a page of a sister
        host plant a prefixed name that the browser did not recognise as one.
        """
        name = self._name_for(request)
        values = set()
        for pair in request.headers.get("cookie", "").split(";"):
            found, equals, value = pair.partition("=")
            if equals and found.strip(" \t") == name:
                values.add(_unquoted(value.strip(" \t")))
        if len(values) > 1:
            raise CredentialConflict("the request has this cookie with different values")
        return values.pop() if values else None

    def write(self, value: str, request: RequestHead, max_age: timedelta | None = None) -> Header:
        """Return the header that sets the cookie; without `max_age` it goes when the browser is closed.

        Seconds are rounded up; longer than 400 days is cut. Raises `ValueError` for what no cookie can hold.
        """
        if not _VALUE(value) or len(value) > _LONGEST_VALUE:
            raise ValueError("a cookie cannot hold this value")
        if max_age is None:
            return self._header(value, request, ())
        seconds = -(-min(max_age, LONGEST_LIFE) // timedelta(seconds=1))
        return self._header(value, request, (f"Max-Age={max(seconds, 0)}",))

    def delete(self, request: RequestHead) -> Header:
        """Return the header that removes the cookie: with every attribute, as browsers compare them."""
        return self._header("", request, ("Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"))

    def _name_for(self, request: RequestHead) -> str:
        return self.name if self._is_bare(request) else self.prefixed_name

    def _is_bare(self, request: RequestHead) -> bool:
        return self.plain_http_on_localhost and request.is_plain_localhost()

    def _header(self, value: str, request: RequestHead, life: tuple[str, ...]) -> Header:
        bare = self._is_bare(request)
        # Without Secure, None is refused by browsers; on localhost nothing comes from another site anyway.
        same_site = "lax" if bare and self.same_site == "none" else self.same_site
        attributes = [f"{self._name_for(request)}={value}", *life, f"Path={self.path}"]
        if self.domain is not None and not bare:
            attributes.append(f"Domain={self.domain}")
        if self.secure and not bare:
            attributes.append("Secure")
        return "Set-Cookie", "; ".join([*attributes, "HttpOnly", f"SameSite={_SAME_SITE[same_site]}"])


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
