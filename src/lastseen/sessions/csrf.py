"""Cross-site request forgery: a request that a browser sends with the cookie, but not for this site's own page.

Only cookies are sent by themselves, so only cookie sessions need the check, and only for methods that change something.
The browser says where a request comes from (https://www.w3.org/TR/fetch-metadata/); `Origin` is for the older ones.
"""

from __future__ import annotations

from collections.abc import Collection

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_TRANSPORTS = {"ws": "http", "wss": "https"}


def origin_of(scheme: str, host: str) -> str:
    """Return the origin as browsers write it: lower case, without the scheme's own port (RFC 6454, 6.2)."""
    scheme = scheme.lower()
    scheme = _TRANSPORTS.get(scheme, scheme)
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


def forgery_problem(
    method: str,
    *,
    fetch_site: str | None,
    origin: str | None,
    own_origin: str,
    trusted_origins: Collection[str] = (),
) -> str | None:
    """Return in words why a request with a session cookie must be refused (403), or None when it may pass.

    `own_origin` is the scheme and host that the request was sent to. A request of an unsafe method that says neither
    where it comes from nor carries an origin is refused: every browser in use says one of the two. What the browser
    calls another site is believed, whatever the origin looks like, unless that is a trusted one; a host beside this one
    (`same-site`) is another.
    """
    if method.upper() in SAFE_METHODS:
        return None
    # "null" is what a sandboxed frame of anybody's sends.
    if origin is not None and origin != "null" and origin in trusted_origins:
        return None
    if fetch_site is not None:
        return None if fetch_site in {"same-origin", "none"} else "the request comes from another site"
    if origin is None:
        return "the request has neither Sec-Fetch-Site nor Origin; browsers send one, programs must send an Origin"
    return None if origin == own_origin and origin != "null" else "the request comes from another origin"
